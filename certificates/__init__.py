"""The trusted part: the certificate format and its checker live here, and import nothing of ours."""
