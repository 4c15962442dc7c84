"""Domains of noise: a distribution around each input, and the radius that it certifies."""
