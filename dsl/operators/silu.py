"""The sigmoid linear unit, or swish."""

from dataclasses import dataclass
from math import inf

from absolver.dsl.operators.piece import concave, convex, curve, sliver
from absolver.dsl.operators.record import Shape
from absolver.dsl.operators.unary import Unary

# Neighbours in float32 of the inflection point, and the derivative between them.
_LOW, _HIGH = 2.3993570804595947, 2.399357318878174
_STEEP_LOW, _STEEP_HIGH = 1.09983932012886, 1.09983932012887


@dataclass(frozen=True)
class Silu(Unary):
    """`x / (1 + exp(-x))`."""

    name = "silu"
    onnx = ()
    shape = Shape.OTHER
    smooth = True
    monotone = False
    piecewise_linear = False
    valley = -1.2784645427610738
    # f'' has the sign of 2 - x tanh(x / 2), which vanishes at +-2.39935728.
    pieces = curve(
        lambda x, m: x * m.sigmoid(x),
        lambda x, m: m.sigmoid(x) * (1 + x * m.sigmoid(-x)),
        concave(-inf, -_HIGH),
        sliver(-_HIGH, -_LOW, (1 - _STEEP_HIGH, 1 - _STEEP_LOW)),
        convex(-_LOW, _LOW),
        sliver(_LOW, _HIGH, (_STEEP_LOW, _STEEP_HIGH)),
        concave(_HIGH, inf),
    )
