"""The error function."""

from dataclasses import dataclass
from math import inf, pi, sqrt

from torch import Tensor

from absolver.dsl.operators.piece import concave, convex, curve
from absolver.dsl.operators.record import Shape
from absolver.dsl.operators.unary import Unary


def _right(q: Tensor) -> Tensor:
    """Solve `2 / sqrt(pi) exp(-x * x) = q` for the positive x."""
    return (-(q.clamp(min=0) * (sqrt(pi) / 2)).log()).clamp(min=0).sqrt()


@dataclass(frozen=True)
class Erf(Unary):
    """`2 / sqrt(pi)` times the integral of `exp(-t * t)` from 0 to x."""

    name = "erf"
    onnx = ("Erf",)
    shape = Shape.S_SHAPED
    smooth = True
    monotone = True
    piecewise_linear = False
    pieces = curve(
        lambda x, m: m.erf(x),
        lambda x, m: 2 / m.sqrt(m.pi) * m.exp(-x * x),
        convex(-inf, 0, lambda q: -_right(q)),
        concave(0, inf, lambda q: _right(q)),
    )
