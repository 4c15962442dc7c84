"""The leaky rectified linear unit, with one slope for all neurons or one for each."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

import torch
from torch import Tensor

from absolver.dsl.operators.piece import Piece
from absolver.dsl.operators.piecewise_linear import Line, PiecewiseLinear, affine_piece
from absolver.dsl.operators.record import Shape


@dataclass(frozen=True, eq=False)
class LeakyRelu(PiecewiseLinear):
    """`x` for `x >= 0`, `alpha x` below; alpha is any number, or a tensor of them (PRelu)."""

    alpha: float | Tensor = 0.01

    name = "leaky_relu"
    onnx = ("LeakyRelu",)
    shape = Shape.CONVEX
    monotone = False  # a learned alpha may be negative

    def __call__(self, *operands: Tensor) -> Tensor:
        """Scale what is negative."""
        (x,) = operands
        return torch.where(x < 0, self.alpha * x, x)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """Two lines through the origin."""
        return affine_piece(Line(-inf, 0, self.alpha, 0)), affine_piece(Line(0, inf, 1, 0))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "LeakyRelu":
        """Move alpha if it is a tensor."""
        if not isinstance(self.alpha, Tensor):
            return self
        return replace(self, alpha=self.alpha.to(device, dtype))
