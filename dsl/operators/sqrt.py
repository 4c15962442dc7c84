"""The square root."""

from dataclasses import dataclass
from math import inf

from torch import Tensor

from absolver.dsl.operators.piece import concave, curve
from absolver.dsl.operators.record import Shape
from absolver.dsl.operators.unary import Unary


@dataclass(frozen=True)
class Sqrt(Unary):
    """`sqrt(x)`; a box with negative numbers has no bound."""

    name = "sqrt"
    onnx = ("Sqrt",)
    shape = Shape.CONCAVE
    smooth = True
    monotone = True
    piecewise_linear = False
    pieces = curve(
        lambda x, m: m.sqrt(x),
        lambda x, m: 1 / (2 * m.sqrt(x)),
        concave(0, inf, lambda q: 1 / (4 * q.clamp(min=0).square())),
    )

    def defined_on(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Say where the box has no negative number."""
        return lower >= 0
