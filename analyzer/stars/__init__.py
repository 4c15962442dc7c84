"""Star sets: affine forms over noise with linear constraints, exact or over-approximate."""
