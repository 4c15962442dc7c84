"""The inverse tangent."""

from dataclasses import dataclass
from math import inf

from torch import Tensor

from absolver.dsl.operators.piece import concave, convex, curve
from absolver.dsl.operators.record import Shape
from absolver.dsl.operators.unary import Unary


def _right(q: Tensor) -> Tensor:
    """Solve `1 / (1 + x * x) = q` for the positive x."""
    return (1 / q.clamp(min=0) - 1).clamp(min=0).sqrt()


@dataclass(frozen=True)
class Atan(Unary):
    """`arctan(x)`."""

    name = "atan"
    onnx = ("Atan",)
    shape = Shape.S_SHAPED
    smooth = True
    monotone = True
    piecewise_linear = False
    pieces = curve(
        lambda x, m: m.atan(x),
        lambda x, m: 1 / (1 + x * x),
        convex(-inf, 0, lambda q: -_right(q)),
        concave(0, inf, lambda q: _right(q)),
    )
