"""Engines: what decides the open clauses of a problem, by name."""
