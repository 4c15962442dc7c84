"""What can be wrong with an input set."""

from absolver.analyzer.errors import AbsolverError


class EmptyBoxError(AbsolverError):
    """A box with a lower bound above its upper bound."""


class EmptyRegionError(AbsolverError):
    """An input set that has no point, or whose parameters describe none."""
