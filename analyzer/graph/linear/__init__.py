"""Linear maps: what an affine node is made of."""
