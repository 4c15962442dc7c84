"""The sign."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from absolver.dsl.operators.piece import clamp_into
from absolver.dsl.operators.record import Interval, Operator, Shape, trusted
from absolver.dsl.operators.shaving import shave


@dataclass(frozen=True)
class Sign(Operator):
    """-1, 0 or 1, as x is negative, zero or positive."""

    name = "sign"
    onnx = ("Sign",)
    operands = ("x",)
    shape = Shape.OTHER
    smooth = False
    monotone = True
    piecewise_linear = False  # not continuous
    rounds = False

    def __call__(self, *operands: Tensor) -> Tensor:
        """Take the sign; of NaN it is NaN, unlike in torch."""
        (x,) = operands
        return torch.where(x.isnan(), x, x.sign())

    def support(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Take the least value at both ends, at 0, and at 0 approached from inside: exact."""
        (slope,), ((lower, upper),) = a, box
        inner = clamp_into(0.0, lower, upper)
        left, right = self(lower), self(upper)
        # From the left 0 is approached at the sign of l, from the right at that of u.
        limits = torch.minimum(torch.minimum(b * left, b * right), b * self(inner))
        ends = torch.minimum(slope * lower + b * left, slope * upper + b * right)
        return trusted(torch.minimum(ends, slope * inner + limits))

    def derivative(self, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Give 0 away from 0; a jump has no finite derivative."""
        flat = self.affine_on(box)[0]
        zero = torch.zeros_like(box[0].lower)
        return (Interval(zero, torch.where(flat, zero, inf)),)

    def gradient(self, point: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Give 0, the derivative of every step."""
        return (torch.zeros_like(point[0]),)

    def affine_on(self, box: Sequence[Interval]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Say where the box has one sign."""
        ((lower, upper),) = box
        return self(lower) == self(upper), (torch.zeros_like(lower),)

    def curvature(self, box: Sequence[Interval]) -> Tensor:
        """Give 1 (affine) where the box has one sign."""
        return self.affine_on(box)[0].to(box[0].lower.dtype)

    def inverse(self, output: Interval, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Shave off both ends of the box whatever maps outside the output."""
        return (shave(self, output, box[0]),)

    def range(self, box: Sequence[Interval]) -> Interval:
        """Take the signs of both ends: exact."""
        low, high = self(box[0].lower), self(box[0].upper)
        return Interval(torch.nan_to_num(low, nan=-inf), torch.nan_to_num(high, nan=inf))
