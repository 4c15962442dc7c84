"""What the simplex engine cannot decide."""

from absolver.analyzer.errors import AbsolverError


class NotPiecewiseLinearError(AbsolverError):
    """An operator has no linear pieces to choose from."""


class UnboundedSetError(AbsolverError):
    """An input or a neuron has no bounds on some side."""
