"""One piece of an operator's graph: an interval on which its shape is known for certain."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from absolver.dsl.operators.arithmetic import TORCH, Formula


class Bend(Enum):
    """How the graph bends on a piece."""

    AFFINE = "affine"
    CONVEX = "convex"
    CONCAVE = "concave"
    UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False)
class Piece:
    """An operator on `[start, end]`: its formulas there, and its curvature.

    Ends are infinite or exactly representable in float32, so that no rounding of an end moves
    it into a neighbour. A `Bend.UNKNOWN` piece is a sliver around an inflection point that no
    float represents; `slopes` then encloses the derivative on it.
    """

    start: float
    end: float
    bend: Bend
    value: Formula
    derivative: Formula
    stationary: Callable[[Tensor], Tensor] | None = None
    """Proposes the x at which the derivative is q, and the nearer end where there is none.

    Nothing rests on it: the bound taken at any proposed point is sound. A piece without one is
    searched.
    """
    slopes: tuple[float, float] | None = None

    def value_at(self, x: Tensor) -> Tensor:
        """Evaluate this piece's value formula."""
        return tensor_like(x, self.value(x, TORCH))

    def slope_at(self, x: Tensor) -> Tensor:
        """Evaluate this piece's derivative formula."""
        return tensor_like(x, self.derivative(x, TORCH))

    def met_by(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Say where a box meets more than an end of this piece, or is a point of it."""
        point = (lower == upper) & (lower >= self.start) & (upper <= self.end)
        return ((lower < self.end) & (upper > self.start)) | point

    def contains(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Say where a box lies in this piece."""
        return (lower >= self.start) & (upper <= self.end)


def tensor_like(x: Tensor, value: Tensor | float) -> Tensor:
    """Give a formula's result x's shape, device and dtype; a constant formula returns a number."""
    if isinstance(value, int | float):
        return torch.full_like(x, value)
    return value if value.shape == x.shape else value.to(x).expand_as(x)


def clamp_into(point: float, lower: Tensor, upper: Tensor) -> Tensor:
    """Return the point of each interval that is nearest to a constant."""
    return torch.minimum(lower.clamp(min=point), upper)


@dataclass(frozen=True)
class Span:
    """An interval with the curvature of a formula on it; a `Piece` without the formula."""

    start: float
    end: float
    bend: Bend
    stationary: Callable[[Tensor], Tensor] | None = None
    slopes: tuple[float, float] | None = None


def convex(start: float, end: float, stationary: Callable[[Tensor], Tensor] | None = None) -> Span:
    """Say that a formula is convex on an interval."""
    return Span(start, end, Bend.CONVEX, stationary)


def concave(start: float, end: float, stationary: Callable[[Tensor], Tensor] | None = None) -> Span:
    """Say that a formula is concave on an interval."""
    return Span(start, end, Bend.CONCAVE, stationary)


def sliver(start: float, end: float, slopes: tuple[float, float]) -> Span:
    """Enclose the derivative around an inflection point that no float represents."""
    return Span(start, end, Bend.UNKNOWN, slopes=slopes)


def curve(value: Formula, derivative: Formula, *spans: Span) -> tuple[Piece, ...]:
    """Make the pieces of one formula that bends differently on several intervals."""
    return tuple(
        Piece(s.start, s.end, s.bend, value, derivative, s.stationary, s.slopes) for s in spans
    )
