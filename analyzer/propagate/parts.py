"""Parts of an input set: where a powerset splits it, and how what was found of them is joined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from absolver.analyzer.errors import EXIT_USAGE, AbsolverError
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.region import Region
from absolver.dsl.operators.record import Interval

# Points of each set at which gradients of the rows are looked at, the middle among them.
_POINTS = 8
# Where no gradient says anything, the longest edge is split.
_LEAST = 1e-6


class IndivisibleSetError(AbsolverError, ValueError):
    """A powerset over input sets that have no edges to split."""

    exit_code = EXIT_USAGE


@dataclass(frozen=True, eq=False)
class Split:
    """One round: the first parts of every set are halved, all of a set along the same axis."""

    axis: Int[Tensor, "sets"]
    threshold: Float[Tensor, "sets halved"]


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of each set of a batch, set after set.

    Guarantee: the parts of a set cover it.
    """

    region: Region
    count: int
    splits: Sequence[Split]
    """The halves of part i become the parts 2 i and 2 i + 1; parts that are not halved follow."""

    def joined_rows(self, rows: Float[Tensor, "parts rows"]) -> Float[Tensor, "sets rows"]:
        """Return the least bound of each set's parts."""
        return torch.unflatten(rows, 0, (-1, self.count)).amin(1)

    def joined(self, bounds: Mapping[str, Interval]) -> dict[str, Interval]:
        """Return the hulls of the bounds of each set's parts."""
        return {
            name: Interval(
                torch.unflatten(own.lower, 0, (-1, self.count)).amin(1),
                torch.unflatten(own.upper, 0, (-1, self.count)).amax(1),
            )
            for name, own in bounds.items()
        }

    def index(self) -> Int[Tensor, "parts"]:
        """Say of which set each part is."""
        sets = torch.arange(self.region.batch // self.count, device=self.region.device)
        return sets.repeat_interleave(self.count)


def split(
    graph: Graph, region: Region, rows: Float[Tensor, "#sets rows outputs"], count: int
) -> Parts:
    """Split boxes into a number of parts, along those axes on which the rows hang most.

    That is the size of gradients at some points times the edge, as it is after the splits so far.
    """
    if not isinstance(region, Box | Polytope):
        raise IndivisibleSetError(
            f"a powerset splits boxes, and this input set is a {type(region).__name__}; use the "
            "domain inside of it, or give a box"
        )
    lower, upper = (side.flatten(1).unsqueeze(1) for side in region.bounding_box())
    edge = (upper - lower).squeeze(1)
    steepness = _steepness(graph, region, rows)
    weight = steepness + _LEAST * steepness.amax(1, keepdim=True)
    weight = torch.where(weight.amax(1, keepdim=True) > 0, weight, 1.0)
    splits = []
    while (known := lower.shape[1]) < count:
        halved = min(known, count - known)
        axis = (weight * edge).argmax(1)
        edge = edge.scatter(1, axis.unsqueeze(1), edge.gather(1, axis.unsqueeze(1)) / 2)
        place = axis.view(-1, 1, 1).expand(-1, halved, 1)
        # Halves first: the sum of two large bounds would overflow.
        ends = [side[:, :halved].gather(2, place) for side in (lower, upper)]
        middle = (ends[0] / 2 + ends[1] / 2).clamp(*ends)
        splits.append(Split(axis, middle.squeeze(2)))
        below, above = upper[:, :halved].scatter(2, place, middle), lower[:, :halved]
        halves = (
            torch.stack([lower[:, :halved], above.scatter(2, place, middle)], 2).flatten(1, 2),
            torch.stack([below, upper[:, :halved]], 2).flatten(1, 2),
        )
        lower, upper = (
            torch.cat([own, side[:, halved:]], 1)
            for own, side in zip(halves, (lower, upper), strict=True)
        )
    shape = (-1, *region.shape)
    box = Box(lower.reshape(shape), upper.reshape(shape))
    if isinstance(region, Box):
        return Parts(box, count, splits)
    index = Parts(box, count, splits).index()
    return Parts(region.select(index).within(box), count, splits)


def _steepness(
    graph: Graph, region: Region, rows: Float[Tensor, "#sets rows outputs"]
) -> Float[Tensor, "sets inputs"]:
    """Add up the sizes of all rows' gradients, at the same places of each set."""
    lower, upper = region.bounding_box()
    generator = torch.Generator().manual_seed(0)
    places = torch.rand((_POINTS, *region.shape), generator=generator, dtype=torch.float64)
    places[0] = 0.5
    total = torch.zeros_like(lower)
    with torch.enable_grad():
        for place in places.to(lower):
            for number in range(rows.shape[1]):
                x = (lower + place * (upper - lower)).requires_grad_()
                value = (graph(x).flatten(1) * rows[:, number]).sum()
                if value.requires_grad:
                    (slope,) = torch.autograd.grad(value, x, allow_unused=True)
                    if slope is not None:
                        total = total + torch.nan_to_num(slope.abs(), nan=0.0, posinf=0.0)
    return total.flatten(1)
