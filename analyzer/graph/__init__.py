"""Networks as graphs of affine maps and non-linear operators."""
