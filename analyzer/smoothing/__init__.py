"""Randomized smoothing: counts of a network's answers under noise, and what they certify."""
