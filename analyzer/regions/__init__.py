"""Input sets, and the minimum of a linear form over each."""
