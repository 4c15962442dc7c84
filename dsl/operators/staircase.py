"""Rounding to integers: steps of length and height 1."""

from abc import abstractmethod
from collections.abc import Sequence
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from absolver.dsl.operators.record import Interval, Operator, Shape, trusted
from absolver.dsl.operators.shaving import shave


class Staircase(Operator):
    """A step function with the value n on `[n + start, n + start + 1]`, ends in doubt.

    Over several steps `a x + b f(x)` takes its least value on the first two or the last two
    (ends of inner steps lie on two lines), at an end; one-sided limits at the steps' ends are
    approached, so they count.
    """

    operands: ClassVar[tuple[str, ...]] = ("x",)
    shape: ClassVar[Shape] = Shape.OTHER
    smooth: ClassVar[bool] = False
    monotone: ClassVar[bool] = True
    piecewise_linear: ClassVar[bool] = False  # not continuous
    rounds: ClassVar[bool] = False
    start: ClassVar[float]

    @abstractmethod
    def __call__(self, *operands: Tensor) -> Tensor:
        """Round to an integer."""

    def support(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Take the least value at the ends of the outer two steps on either side: exact."""
        (slope,), ((lower, upper),) = a, box
        first, last = self(lower), self(upper)
        steps = (
            first,
            torch.minimum(first + 1, last),
            torch.maximum(last - 1, first),
            last,
        )
        least: Tensor | None = None
        for n in steps:
            low = torch.clamp(n + self.start, lower, upper)
            high = torch.clamp(n + (self.start + 1), lower, upper)
            level = trusted(b * n + torch.minimum(slope * low, slope * high))
            least = level if least is None else torch.minimum(least, level)
        assert least is not None, "four steps were visited"
        return least

    def derivative(self, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Give 0 on one step; a jump has no finite derivative."""
        flat = self.affine_on(box)[0]
        zero = torch.zeros_like(box[0].lower)
        return (Interval(zero, torch.where(flat, zero, inf)),)

    def gradient(self, point: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Give 0, the derivative of every step."""
        return (torch.zeros_like(point[0]),)

    def affine_on(self, box: Sequence[Interval]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Say where the box is on one step."""
        ((lower, upper),) = box
        return self(lower) == self(upper), (torch.zeros_like(lower),)

    def curvature(self, box: Sequence[Interval]) -> Tensor:
        """Give 1 (affine) on one step."""
        return self.affine_on(box)[0].to(box[0].lower.dtype)

    def inverse(self, output: Interval, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Shave off both ends of the box whatever maps outside the output."""
        return (shave(self, output, box[0]),)

    def range(self, box: Sequence[Interval]) -> Interval:
        """Round both ends: exact."""
        return Interval(
            -_unknown_as_infinite(-self(box[0].lower)), _unknown_as_infinite(self(box[0].upper))
        )


def _unknown_as_infinite(bound: Tensor) -> Tensor:
    return torch.where(bound.isnan(), inf, bound)
