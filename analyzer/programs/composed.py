"""ReLUs as functions of all that feeds them: inequalities that no line of a single operand gives.

`y = max(w · x + b, 0)` over a box of x has a convex hull with exponentially many faces (Anderson et
al., "Strong Mixed-Integer Programming Formulations for Trained Neural Networks", 2020), of which
the one that a point misses by most is found by sorting (Tjandraatmadja et al., "The Convex
Relaxation Barrier, Revisited", NeurIPS 2020; as cuts in a dual: De Palma et al., "Scaling the
Convex Barrier with Active Sets", ICLR 2021).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Input, Nonlinear
from absolver.analyzer.programs.duals import Inequality
from absolver.analyzer.regions.region import Region
from absolver.dsl.operators.record import Interval
from absolver.dsl.operators.relu import Relu

# A layer with more coefficients than this has none of its ReLUs composed.
_MOST_COEFFICIENTS = 1 << 22


@dataclass(frozen=True, eq=False)
class Composed:
    """The ReLUs of one node that are undecided, as functions of what feeds their affine node."""

    node: Nonlinear
    sources: tuple[tuple[str, tuple[int, ...]], ...]
    """Names and shapes of what feeds them: the input, or results of operators."""
    elements: Int[Tensor, " k"]
    weight: Float[Tensor, "k n"]
    bias: Float[Tensor, " k"]
    box: Interval
    """Of all that feeds them, flat."""

    def split(self, row: Float[Tensor, " n"]) -> Mapping[str, Tensor]:
        """Return a row of all that feeds the ReLUs by its sources."""
        sizes = [prod(shape) for _, shape in self.sources]
        parts = zip(self.sources, torch.split(row, sizes), strict=True)
        return {name: part.view(1, *shape) for (name, shape), part in parts}

    def deepest(
        self, x: Float[Tensor, " n"], y: Float[Tensor, " k"]
    ) -> tuple[Float[Tensor, "k n"], Float[Tensor, " k"]]:
        """Return normals of the faces `y <= normal · x + c` that a point misses by most.

        Beside them, by how much each is missed there; negative where it is not. For ReLUs that are
        undecided over their box.
        """
        weight, (lower, upper) = self.weight, self.box
        low = torch.where(weight >= 0, lower, upper)
        width = torch.where(weight >= 0, upper - lower, lower - upper)
        moves = (weight * width).clamp(min=0)
        x = torch.minimum(torch.maximum(x, lower), upper)
        share = torch.where(moves > 0, (x - low) / torch.where(width == 0, 1.0, width), 2.0)
        order = share.argsort(dim=1, stable=True)
        # The largest value, less what the first ones take where they are at their low ends.
        most = (weight * (low + width)).sum(1, keepdim=True) + self.bias.unsqueeze(1)
        after = most - moves.gather(1, order).cumsum(1)
        inside = (after >= 0) & (share.gather(1, order) <= 1)
        last = inside.sum(1, keepdim=True).clamp(max=weight.shape[1] - 1)
        before = torch.cat([most, after], 1).gather(1, last)
        chosen = torch.zeros_like(inside).scatter(1, order, inside)
        normal = torch.where(chosen, weight, 0.0)
        at = order.gather(1, last)
        slope = before.clamp(min=0) / width.gather(1, at).where(moves.gather(1, at) > 0, torch.inf)
        normal = normal.scatter(1, at, slope)
        missed = y - (normal * (x - low)).sum(1)
        return normal, missed

    def constants(
        self, normal: Float[Tensor, "many n"], scale: Float[Tensor, " many"], times: int = 1
    ) -> Float[Tensor, " many"]:
        """Return the largest value of `scale * y - normal · x` over the box for each ReLU.

        There may be several of each, all ReLUs in order and then all of them again.

        It is the larger one of two linear forms' largest values, as y is 0 or its operand and no
        scale is negative: exact but for rounding.
        """
        center = (self.box.lower + self.box.upper) / 2
        radius = (self.box.upper - self.box.lower) / 2
        off = -(normal @ center) + normal.abs() @ radius
        weight, bias = self.weight.repeat(times, 1), self.bias.repeat(times)
        on = scale.unsqueeze(1) * weight - normal
        return torch.maximum(off, on @ center + on.abs() @ radius + scale * bias)


@dataclass(frozen=True, eq=False)
class ComposedFace(Inequality):
    """`scale · y <= normal · x + c` of one ReLU, with whatever c makes it hold."""

    layer: Composed
    number: int
    scale: float
    normal: Float[Tensor, " n"]

    @property
    def rows(self) -> Mapping[str, Tensor]:
        """Coefficients by name."""
        layer = self.layer
        result = self.normal.new_zeros(layer.node.size)
        result[layer.elements[self.number]] = self.scale
        found = {name: -row for name, row in layer.split(self.normal).items()}
        found[layer.node.name] = result.view(1, *layer.node.shape)
        return found

    def constant(self, boxes: Mapping[str, Interval]) -> float:
        """Return c over the box that the layer has, which holds whatever splits there are."""
        some = torch.tensor([self.number])
        layer = self.layer
        only = Composed(
            *(layer.node, layer.sources, layer.elements[some]),
            *(layer.weight[some], layer.bias[some], layer.box),
        )
        scale = self.normal.new_tensor([self.scale])
        return float(only.constants(self.normal.unsqueeze(0), scale))


def composed_layers(
    graph: Graph, region: Region, boxes: Mapping[str, Interval]
) -> Iterator[Composed]:
    """Yield the ReLUs of a graph that are fed by one affine node of operators or the input."""
    for node in graph.nodes:
        if not (isinstance(node, Nonlinear) and isinstance(node.operator, Relu)):
            continue
        affine = graph.by_name[node.inputs[0]]
        if not isinstance(affine, Affine):
            continue
        fed = [graph.by_name[name] for name in affine.inputs]
        if any(isinstance(source, Affine) for source in fed) or len(set(affine.inputs)) < len(fed):
            continue
        decided, _ = node.operator.affine_on([boxes[affine.name]])
        elements = (~decided).flatten().nonzero().squeeze(1)
        size = sum(source.size for source in fed)
        if not 0 < len(elements) * size <= _MOST_COEFFICIENTS:
            continue
        weight = torch.cat([linear.rows(elements).flatten(1) for linear in affine.maps], 1)
        bias = weight.new_zeros(node.size)
        if affine.bias is not None:
            bias = affine.bias.expand(affine.shape).flatten()
        sides = _stacked([_range(source, region, boxes) for source in fed])
        sources = tuple((source.name, source.shape) for source in fed)
        yield Composed(node, sources, elements, weight, bias[elements], sides)


def _range(
    source: Input | Nonlinear | object, region: Region, boxes: Mapping[str, Interval]
) -> Interval:
    if isinstance(source, Nonlinear):
        return source.operator.range([boxes[name] for name in source.inputs])
    return Interval(*region.bounding_box())


def _stacked(boxes: Sequence[Interval]) -> Interval:
    lower, upper = ([box[side].flatten() for box in boxes] for side in (0, 1))
    return Interval(torch.cat(lower), torch.cat(upper))
