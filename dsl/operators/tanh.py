"""The hyperbolic tangent."""

from dataclasses import dataclass
from math import inf

from torch import Tensor

from absolver.dsl.operators.piece import concave, convex, curve
from absolver.dsl.operators.record import Shape
from absolver.dsl.operators.unary import Unary


def _left(q: Tensor) -> Tensor:
    """Solve `1 - t * t = q` for the negative t, as artanh(t), without cancellation."""
    root = (1 - q).clamp(min=0).sqrt()
    return q.clamp(min=0).log() / 2 - root.log1p()


@dataclass(frozen=True)
class Tanh(Unary):
    """`(exp(x) - exp(-x)) / (exp(x) + exp(-x))`."""

    name = "tanh"
    onnx = ("Tanh",)
    shape = Shape.S_SHAPED
    smooth = True
    monotone = True
    piecewise_linear = False
    pieces = curve(
        lambda x, m: m.tanh(x),
        lambda x, m: 4 * m.sigmoid(2 * x) * m.sigmoid(-2 * x),
        convex(-inf, 0, _left),
        concave(0, inf, lambda q: -_left(q)),
    )
