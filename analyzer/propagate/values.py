"""The carrier `over values`: a box for every node (interval bound propagation)."""

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Input, Node, Nonlinear, operands
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.graph.linear.scaling import Negation
from absolver.analyzer.propagate.propagator import (
    Multiple,
    Propagator,
    lower_without_nan,
    without_nan,
)
from absolver.analyzer.propagate.structure import count_uses
from absolver.analyzer.regions.region import Region
from absolver.dsl.operators.record import Interval


class ValuesPropagator(Propagator):
    """Boxes pushed forward; an operator's box is its range over the box of its operands.

    Affine steps use centre and radius (Gowal et al., "On the Effectiveness of Interval Bound
    Propagation", 2018, equation 6).
    """

    def __init__(self, graph: Graph, region: Region) -> None:
        """Start at the region's bounding box."""
        self._graph = graph
        self._region = region
        self._boxes: dict[str, Interval] = {}
        self._uses = count_uses(graph)

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        """Compute the node's box from those of its operands."""
        match node:
            case Input():
                bounds = Interval(*self._region.bounding_box())
            case Affine():
                bounds = affine_range(node, [self._boxes[i] for i in node.inputs])
            case Nonlinear():
                bounds = without_nan(node.operator.range(box))
            case _:
                raise AssertionError(f"unknown kind of node: {node}")
        self._boxes[node.name] = bounds
        for name in operands(node):
            self._uses[name] -= 1
            if self._uses[name] == 0:
                del self._boxes[name]

    def bounds(self, node: Node, wanted: Bool[Tensor, "batch *shape"] | None = None) -> Interval:
        """Return the node's box.

        What overflowed is only put right here: no affine node makes a finite bound out of it.
        """
        del wanted
        self._boxes[node.name] = without_nan(self._boxes[node.name])
        return self._boxes[node.name]

    def learn(self, node: Node, facts: Interval) -> None:
        """Continue from the tighter box."""
        self._boxes[node.name] = facts

    def minimum(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Float[Tensor, "batch rows"]:
        """Bound each row by the corner of the output's box that minimises it."""
        del multiples
        box = self._boxes[self._graph.output.name]
        lower, upper = box.lower.flatten(1).unsqueeze(2), box.upper.flatten(1).unsqueeze(2)
        minimum = rows.clamp(min=0) @ lower + rows.clamp(max=0) @ upper
        return lower_without_nan(minimum.squeeze(2))


def affine_range(node: Affine, boxes: Sequence[Interval]) -> Interval:
    """Bound an affine node over the boxes of its operands."""
    ranges = [map_range(m, box) for m, box in zip(node.maps, boxes, strict=True)]
    lower, upper = ranges[0]
    for other in ranges[1:]:
        lower, upper = lower + other.lower, upper + other.upper
    if node.bias is not None:
        lower, upper = lower + node.bias, upper + node.bias
    return Interval(lower, upper)


def map_range(linear: LinearMap, box: Interval) -> Interval:
    """Bound a linear map over a box.

    A monotone map takes each side by itself, so that one infinite side leaves the other finite.
    """
    if linear.monotone:
        return Interval(linear.apply(box.lower), linear.apply(box.upper))
    if isinstance(linear, Negation):
        return Interval(-box.upper, -box.lower)
    # Twice centre and radius: halving comes last, where there are often fewer neurons.
    center = linear.apply(box.upper + box.lower)
    radius = linear.apply_abs(box.upper - box.lower)
    return Interval((center - radius) / 2, (center + radius) / 2)
