"""The square."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from absolver.dsl.operators.piece import convex, curve
from absolver.dsl.operators.quadratic import Form, Quadratic
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

    def quadratics(self, box: Sequence[Interval]) -> tuple[Quadratic, ...]:
        """State the square itself, `y = x x`."""
        del box
        x = Form((1.0,), 0.0)
        return (Quadratic((x, x), Form((0.0,), -1.0), equality=True),)
