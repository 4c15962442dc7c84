"""The square."""

from dataclasses import dataclass
from math import inf

from absolver.dsl.operators.piece import convex, curve
from absolver.dsl.operators.quadratic import Quadratic, x_within
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
        """State the square itself, `y = x x`, and the box."""
        return (Quadratic(-1, 0, 0, 0, 1, 0, equality=True), x_within(box))
