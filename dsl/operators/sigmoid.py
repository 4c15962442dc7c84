"""The logistic function."""

from dataclasses import dataclass
from math import inf

from torch import Tensor

from absolver.dsl.operators.piece import concave, convex, curve
from absolver.dsl.operators.record import Shape
from absolver.dsl.operators.unary import Unary


def _left(q: Tensor) -> Tensor:
    """Solve `s (1 - s) = q` for the smaller s, as logit(s), without cancellation."""
    root = (1 - 4 * q).clamp(min=0).sqrt()
    return (4 * q.clamp(min=0)).log() - 2 * root.log1p()


@dataclass(frozen=True)
class Sigmoid(Unary):
    """`1 / (1 + exp(-x))`."""

    name = "sigmoid"
    onnx = ("Sigmoid",)
    shape = Shape.S_SHAPED
    smooth = True
    monotone = True
    piecewise_linear = False
    pieces = curve(
        lambda x, m: m.sigmoid(x),
        lambda x, m: m.sigmoid(x) * m.sigmoid(-x),
        convex(-inf, 0, _left),
        concave(0, inf, lambda q: -_left(q)),
    )
