"""The square."""

from dataclasses import dataclass
from math import inf

from absolver.dsl.operators.piece import convex, curve
from absolver.dsl.operators.record import Shape
from absolver.dsl.operators.unary import Unary


@dataclass(frozen=True)
class Square(Unary):
    """`x * x`; unlike `mul` it knows that both factors are one variable."""

    name = "square"
    onnx = ()
    shape = Shape.CONVEX
    smooth = True
    monotone = False
    piecewise_linear = False
    valley = 0.0
    pieces = curve(
        lambda x, m: x * x,
        lambda x, m: 2 * x,
        convex(-inf, inf, lambda q: q / 2),
    )
