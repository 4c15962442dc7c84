"""The natural logarithm."""

from dataclasses import dataclass
from math import inf

from torch import Tensor

from absolver.dsl.operators.piece import concave, curve
from absolver.dsl.operators.record import Shape
from absolver.dsl.operators.unary import Unary


@dataclass(frozen=True)
class Log(Unary):
    """`log(x)`; a box that touches 0 has no bound."""

    name = "log"
    onnx = ("Log",)
    shape = Shape.CONCAVE
    smooth = True
    monotone = True
    piecewise_linear = False
    pieces = curve(
        lambda x, m: m.log(x),
        lambda x, m: 1 / x,
        concave(0, inf, lambda q: 1 / q.clamp(min=0)),
    )

    def defined_on(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Say where the box is positive."""
        return lower > 0
