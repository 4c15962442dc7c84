"""The mish activation."""

from dataclasses import dataclass
from math import inf

from absolver.dsl.operators.piece import concave, convex, curve, sliver
from absolver.dsl.operators.record import Shape
from absolver.dsl.operators.unary import Unary

# Neighbours in float32 of both inflection points, and the derivative between them.
_LEFT = (-2.2563765048980713, -2.256376266479492)
_LEFT_SLOPES = (-0.1125261223894627, -0.1125261223894615)
_RIGHT = (1.490571141242981, 1.4905712604522705)
_RIGHT_SLOPES = (1.08849816125172, 1.08849816125173)


@dataclass(frozen=True)
class Mish(Unary):
    """`x tanh(log(1 + exp(x)))`."""

    name = "mish"
    onnx = ("Mish",)
    shape = Shape.OTHER
    smooth = True
    monotone = False
    piecewise_linear = False
    valley = -1.1924312145154952
    pieces = curve(
        lambda x, m: x * m.tanh(m.softplus(x)),
        lambda x, m: (
            m.tanh(m.softplus(x))
            + 4 * x * m.sigmoid(x) * m.sigmoid(2 * m.softplus(x)) * m.sigmoid(-2 * m.softplus(x))
        ),
        concave(-inf, _LEFT[0]),
        sliver(*_LEFT, _LEFT_SLOPES),
        convex(_LEFT[1], _RIGHT[0]),
        sliver(*_RIGHT, _RIGHT_SLOPES),
        concave(_RIGHT[1], inf),
    )
