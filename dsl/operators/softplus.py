"""The softplus, a smooth relu."""

from dataclasses import dataclass
from math import inf

from absolver.dsl.operators.piece import convex, curve
from absolver.dsl.operators.record import Shape
from absolver.dsl.operators.unary import Unary


@dataclass(frozen=True)
class Softplus(Unary):
    """`log(1 + exp(x))`."""

    name = "softplus"
    onnx = ("Softplus",)
    shape = Shape.CONVEX
    smooth = True
    monotone = True
    piecewise_linear = False
    pieces = curve(
        lambda x, m: m.softplus(x),
        lambda x, m: m.sigmoid(x),
        convex(-inf, inf, lambda q: q.clamp(0, 1).logit()),
    )
