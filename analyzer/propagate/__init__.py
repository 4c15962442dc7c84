"""Propagation: bounds carried through a graph over values, inputs, symbols or neurons."""
