"""What a carrier does on the way through a graph, node after node."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.graph.graph import Node
from absolver.dsl.operators.record import Interval


@dataclass(frozen=True)
class Multiple:
    """A non-negative multiple of a valid inequality, to be added to the rows to be bounded.

    The caller answers for its soundness: `coefficients · x + constant <= 0` for the values x of
    the node in every concrete run that the bound is to hold for. Then adding it to a row can only
    lower the row's minimum (weak duality). Split constraints, cuts and assumed output constraints
    come in this way.
    """

    node: str
    coefficients: Float[Tensor, "batch rows *shape"]
    constant: Float[Tensor, "batch rows"]


@dataclass(frozen=True)
class Forms:
    """Linear forms of the input that rows are bounded by, with their minima over the region.

    Guarantee, up to rounding: for every x of the region, `coefficients · (x - center) + at_center`
    is at most the row's value at x, where `center` is the middle of the region's bounding box.
    """

    coefficients: Float[Tensor, "batch rows *input"]
    at_center: Float[Tensor, "batch rows"]
    minimum: Float[Tensor, "batch rows"]


class Propagator(ABC):
    """One domain on its way through one graph over one batch of regions.

    The engine calls `visit` for every node in topological order, and `bounds` for those nodes
    whose bounds a later non-linear operator needs; what it decides to use there (the meet of all
    factors and of what is known) comes back through `learn`.
    """

    @abstractmethod
    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        """Take a node in; `box` bounds the operands of a non-linear node and is empty otherwise."""

    @abstractmethod
    def bounds(self, node: Node, wanted: Bool[Tensor, "batch *shape"] | None) -> Interval:
        """Bound the node's values, each `[batch, *shape]`.

        Where `wanted` is given and false, any sound bound may be returned, infinities included.
        """

    @abstractmethod
    def minimum(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Float[Tensor, "batch rows"]:
        """Bound `rows · output` from below, once every node has been visited.

        Carriers that cannot use multiples of inequalities leave them out, which is sound.
        """

    def forms(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Forms | None:
        """Do what `minimum` does, and show the forms of the input behind it, if there are any."""
        del rows, multiples
        return None

    def learn(self, node: Node, facts: Interval) -> None:
        """Take note of sound bounds of a visited node, at least as tight as this domain's own."""
        del node, facts


def without_nan(bounds: Interval) -> Interval:
    """Replace what overflow produces by the trivial bound: NaN, and infinities that claim much.

    A lower bound of `inf` stands for a number that this dtype cannot hold. Bounds whose sum is
    finite have neither: nothing is copied, and nothing lies in the way of gradients.
    """
    if bounds.lower.device.type == "cpu" and bool(
        (bounds.lower.sum() + bounds.upper.sum()).isfinite()
    ):
        return bounds
    most = torch.inf
    upper = torch.nan_to_num(bounds.upper, nan=most, posinf=most, neginf=most)
    return Interval(lower_without_nan(bounds.lower), upper)


def lower_without_nan(lower: Tensor) -> Tensor:
    """Replace a lower bound that is NaN or `inf` by `-inf`."""
    trivial = -torch.inf
    return torch.nan_to_num(lower, nan=trivial, posinf=trivial, neginf=trivial)


def meet(first: Interval, second: Interval) -> Interval:
    """Intersect two sound bounds of the same neurons.

    Where they cross, rounding has made one of them a little too tight: the hull of the crossing
    pair is kept, which is sound as long as each is right up to that rounding. A gap that rounding
    cannot explain means that the region is empty: the fixpoint's `crossed` says so.
    """
    lower = torch.maximum(first.lower, second.lower)
    upper = torch.minimum(first.upper, second.upper)
    return Interval(torch.minimum(lower, upper), torch.maximum(lower, upper))
