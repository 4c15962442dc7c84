"""The trusted part: the certificate format and its checker, which import nothing of ours."""
