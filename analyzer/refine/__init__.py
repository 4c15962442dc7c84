"""Refinement: oracles that tighten what a domain knows, as reducers of the fixpoint."""
