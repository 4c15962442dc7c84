"""What a certificate calls the tensors whose bounds it proposes."""

from collections.abc import Mapping

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.operands import bounded_tensors, origin

__all__ = ["bounded_tensors", "origin", "places_of"]


def places_of(graph: Graph) -> Mapping[str, tuple[str, int]]:
    """Say by which operator's operand a certificate names each bounded tensor."""
    return {
        name: (users[0].operator.label, users[0].position)
        for name, users in bounded_tensors(graph.joined).items()
    }
