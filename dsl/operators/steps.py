"""Step functions: increasing, constant between jumps."""

from collections.abc import Sequence
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from absolver.dsl.operators.record import Interval, Operator, Shape
from absolver.dsl.operators.rounding import magnitude, product
from absolver.dsl.operators.shaving import shave


class Steps(Operator):
    """An increasing function of one operand that is constant between jumps.

    Its slope is 0 wherever it has one; its values over a box lie between those at the box's ends.
    """

    operands: ClassVar[tuple[str, ...]] = ("x",)
    shape: ClassVar[Shape] = Shape.OTHER
    smooth: ClassVar[bool] = False
    monotone: ClassVar[bool] = True
    piecewise_linear: ClassVar[bool] = False  # not continuous
    rounds: ClassVar[bool] = False

    def support_size(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Add up both products at their largest; ends of steps are rounded too."""
        value = magnitude(*self.range(box)) + 1
        return 6 * (product(a[0].abs(), magnitude(*box[0]) + 1) + product(b.abs(), value))

    def derivative(self, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Give 0 between jumps; a jump has no finite derivative."""
        flat = self.affine_on(box)[0]
        zero = torch.zeros_like(box[0].lower)
        return (Interval(zero, torch.where(flat, zero, inf)),)

    def gradient(self, point: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Give 0, the derivative of every step."""
        return (torch.zeros_like(point[0]),)

    def affine_on(self, box: Sequence[Interval]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Say where no jump lies in the box."""
        ((lower, upper),) = box
        return self(lower) == self(upper), (torch.zeros_like(lower),)

    def curvature(self, box: Sequence[Interval]) -> Tensor:
        """Give 1 (affine) where no jump lies in the box."""
        return self.affine_on(box)[0].to(box[0].lower.dtype)

    def inverse(self, output: Interval, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Shave off both ends of the box whatever maps outside the output."""
        return (shave(self, output, box[0]),)

    def range(self, box: Sequence[Interval]) -> Interval:
        """Take the values at both ends: exact."""
        low, high = self(box[0].lower), self(box[0].upper)
        return Interval(torch.where(low.isnan(), -inf, low), torch.where(high.isnan(), inf, high))
