"""Semidefinite relaxations: quadratic constraints, their duals, and bounds that are proved."""
