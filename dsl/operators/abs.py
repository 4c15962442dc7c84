"""The absolute value."""

from dataclasses import dataclass
from math import inf

from torch import Tensor

from absolver.dsl.operators.piecewise_linear import Line, PiecewiseLinear, affine_piece
from absolver.dsl.operators.record import Shape


@dataclass(frozen=True)
class Abs(PiecewiseLinear):
    """`|x|`."""

    name = "abs"
    onnx = ("Abs",)
    shape = Shape.CONVEX
    monotone = False
    rounds = False
    pieces = (affine_piece(Line(-inf, 0, -1, 0)), affine_piece(Line(0, inf, 1, 0)))

    def __call__(self, *operands: Tensor) -> Tensor:
        """Drop the sign."""
        return operands[0].abs()
