"""The exponential."""

from dataclasses import dataclass
from math import inf

from absolver.dsl.operators.piece import convex, curve
from absolver.dsl.operators.record import Shape
from absolver.dsl.operators.unary import Unary


@dataclass(frozen=True)
class Exp(Unary):
    """`e ** x`."""

    name = "exp"
    onnx = ("Exp",)
    shape = Shape.CONVEX
    smooth = True
    monotone = True
    piecewise_linear = False
    pieces = curve(
        lambda x, m: m.exp(x),
        lambda x, m: m.exp(x),
        convex(-inf, inf, lambda q: q.clamp(min=0).log()),
    )
