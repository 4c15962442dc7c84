"""The square."""

from dataclasses import dataclass
from math import inf

from absolver.dsl.operators.piece import convex, curve
from absolver.dsl.operators.quadratic import Quadratic, of_square
from absolver.dsl.operators.record import Interval, Shape
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

    def quadratics(self, box: Interval) -> tuple[Quadratic, ...]:
        """Give the quadratic constraints on (x, f(x)) over a box."""
        return of_square(box)
