"""What an engine cannot decide, though another one may."""

from absolver.analyzer.errors import AbsolverError
from absolver.analyzer.graph.graph import Nonlinear


class NotPiecewiseLinearError(AbsolverError):
    """An operator has no linear pieces to choose from."""

    def __init__(self, engine: str, node: Nonlinear) -> None:
        """Say which engine has met which node."""
        super().__init__(
            f"the engine {engine} splits operators into linear pieces, and {node.operator.name} "
            f"({node.origin}) has none that are known; use --engine bab"
        )


class UnsuitableSetError(AbsolverError):
    """An input set, or what is known of a neuron on it, has no form that an engine works on."""
