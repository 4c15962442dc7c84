"""Rounding to integers: steps of length and height 1."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from absolver.dsl.operators.record import Interval, trusted
from absolver.dsl.operators.steps import Steps


class Staircase(Steps):
    """A step function with the value n on `[n + start, n + start + 1]`, ends in doubt.

    Over several steps `a x + b f(x)` takes its least value on the first two or the last two
    (ends of inner steps lie on two lines), at an end; one-sided limits at the steps' ends are
    approached, so they count.
    """

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
