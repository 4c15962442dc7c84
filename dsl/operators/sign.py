"""The sign."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from absolver.dsl.operators.piece import clamp_into
from absolver.dsl.operators.record import Interval, trusted
from absolver.dsl.operators.steps import Steps


@dataclass(frozen=True)
class Sign(Steps):
    """-1, 0 or 1, as x is negative, zero or positive."""

    name = "sign"
    onnx = ("Sign",)

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
