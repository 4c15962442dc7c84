"""Continuous piecewise-linear operators: their facts by evaluation at ends and breakpoints."""

from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from absolver.dsl.operators.arithmetic import TORCH
from absolver.dsl.operators.piece import Bend, Piece, clamp_into
from absolver.dsl.operators.quadratic import Form, Quadratic, above_zero
from absolver.dsl.operators.record import Interval, trusted
from absolver.dsl.operators.rounding import magnitude, product
from absolver.dsl.operators.unary import Unary


class Line(NamedTuple):
    """The graph of an operator on `[start, end]`: `y = slope x + offset`."""

    start: float
    end: float
    slope: Tensor | float
    offset: Tensor | float


def affine_piece(line: Line) -> Piece:
    """Make a piece of a line."""
    return Piece(
        line.start,
        line.end,
        Bend.AFFINE,
        lambda x, m: line.slope * x + line.offset,
        lambda x, m: line.slope,
    )


class Corner(NamedTuple):
    """A point of an operator's graph at which it may bend, or at which a box ends."""

    x: Tensor
    y: Tensor


class PiecewiseLinear(Unary):
    """A continuous function whose pieces are all affine."""

    smooth: ClassVar[bool] = False
    piecewise_linear: ClassVar[bool] = True

    @property
    def lines(self) -> tuple[Line, ...]:
        """The linear pieces as data, for MILP and SMT encodings and for exact splits."""
        return tuple(
            Line(p.start, p.end, p.derivative(0.0, TORCH), p.value(0.0, TORCH)) for p in self.pieces
        )

    def corners(self, box: Interval) -> tuple[Corner, ...]:
        """Return the ends of a box, and the breakpoints inside: the rest lies between them."""
        lower, upper = box
        inner = (clamp_into(piece.start, lower, upper) for piece in self.pieces[1:])
        return tuple(Corner(x, self(x)) for x in (lower, *inner, upper))

    def support(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Take the least value at the ends of the box and the breakpoints inside: exact."""
        (slope,), (interval,) = a, box
        first, *others = (
            trusted(torch.addcmul(slope * x, b, y)) for x, y in self.corners(interval)
        )
        for other in others:
            first = torch.minimum(first, other)
        return first

    def support_size(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Add up what is largest in the box: two products, a sum, the value."""
        (slope,), (interval,) = a, box
        value = magnitude(*self.range(box))
        return 4 * (product(slope.abs(), magnitude(*interval)) + product(b.abs(), value))

    def range(self, box: Sequence[Interval]) -> Interval:
        """Take the least and the largest value at ends and breakpoints: exact."""
        (_, least), *others = self.corners(box[0])
        most = least
        for _, y in others:
            least, most = torch.minimum(least, y), torch.maximum(most, y)
        return Interval(
            torch.nan_to_num(least, nan=-inf, posinf=inf, neginf=-inf),
            torch.nan_to_num(most, nan=inf, posinf=inf, neginf=-inf),
        )

    def inverse(self, output: Interval, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Unite the preimages of the output under each line; crossed where there is none."""
        ((lower, upper),) = box
        left, right = torch.full_like(lower, inf), torch.full_like(lower, -inf)
        for line in self.lines:
            low, high = _preimage(line, output)
            low, high = low.clamp(min=line.start), high.clamp(max=line.end)
            low, high = torch.maximum(low, lower), torch.minimum(high, upper)
            some = ~(low > high)  # a NaN keeps what it cannot exclude
            left = torch.where(some, torch.minimum(left, low), left)
            right = torch.where(some, torch.maximum(right, high), right)
        unknown = left.isnan() | right.isnan()
        return (Interval(torch.where(unknown, lower, left), torch.where(unknown, upper, right)),)

    def quadratics(self, box: Sequence[Interval]) -> tuple[Quadratic, ...]:
        """State that the value lies on one of two lines, and on one side of both.

        For each pair of neighbouring lines, where the box meets no other: for ReLU that is
        `y (y - x) = 0`, `y >= 0` and `y >= x` (Raghunathan et al., NeurIPS 2018).
        """
        ((lower, upper),) = box
        facts = []
        for before, line in pairwise(self.lines):
            alone = ((lower >= before.start) & (upper <= line.end)).to(lower.dtype)
            first, second = _over(before).times(alone), _over(line)
            facts.append(Quadratic((first, second), equality=True))
            # The steeper one is the later one where the kink is convex.
            sign = torch.where(torch.zeros_like(lower) + line.slope >= before.slope, alone, -alone)
            facts += [above_zero(first.times(sign)), above_zero(second.times(sign))]
        return tuple(facts)


def _over(line: Line) -> Form:
    """Return how far a value is above a line."""
    return Form((-line.slope,), 1.0, -line.offset)


def _preimage(line: Line, output: Interval) -> Interval:
    """Return where `slope x + offset` lies in the output, outward of its rounding error."""
    low, high = output
    slope = torch.as_tensor(line.slope, dtype=low.dtype, device=low.device)
    offset = torch.as_tensor(line.offset, dtype=low.dtype, device=low.device)
    divisor = torch.where(slope == 0, 1.0, slope)
    first, second = (low - offset) / divisor, (high - offset) / divisor
    # 4: a subtraction and a division, each within half an ulp of what they work on.
    margin = 4 * torch.finfo(low.dtype).eps / divisor.abs()
    exact = (slope.abs() == 1) & (offset == 0)
    first_margin = torch.where(exact, 0.0, margin * (low.abs() + offset.abs()))
    second_margin = torch.where(exact, 0.0, margin * (high.abs() + offset.abs()))
    ascending = slope > 0
    left = torch.where(ascending, first - first_margin, second - second_margin)
    right = torch.where(ascending, second + second_margin, first + first_margin)
    flat, hit = slope == 0, (low <= offset) & (offset <= high)
    left = torch.where(flat, torch.where(hit, -inf, inf), left)
    right = torch.where(flat, torch.where(hit, inf, -inf), right)
    return Interval(left, right)
