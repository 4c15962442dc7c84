"""The piecewise-quadratic swish."""

from dataclasses import dataclass
from math import inf

from absolver.dsl.operators.piece import convex, curve
from absolver.dsl.operators.piecewise_linear import Line, affine_piece
from absolver.dsl.operators.record import Shape
from absolver.dsl.operators.unary import Unary


@dataclass(frozen=True)
class HardSwish(Unary):
    """`x max(0, min(1, x / 6 + 1 / 2))`."""

    name = "hard_swish"
    onnx = ("HardSwish",)
    shape = Shape.OTHER
    smooth = False
    monotone = False
    piecewise_linear = False
    valley = -1.5
    pieces = (
        affine_piece(Line(-inf, -3, 0, 0)),
        *curve(
            lambda x, m: x * (x + 3) / 6,
            lambda x, m: (2 * x + 3) / 6,
            convex(-3, 3, lambda q: 3 * q - 1.5),
        ),
        affine_piece(Line(3, inf, 1, 0)),
    )
