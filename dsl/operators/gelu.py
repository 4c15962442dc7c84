"""The Gaussian error linear unit, exact and in its tanh approximation."""

from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any, Literal

from absolver.dsl.operators.arithmetic import Arithmetic
from absolver.dsl.operators.piece import Piece, Span, concave, convex, curve, sliver
from absolver.dsl.operators.record import Shape
from absolver.dsl.operators.unary import Unary


@dataclass(frozen=True)
class Gelu(Unary):
    """`x` times the normal distribution function, or its approximation by a tanh."""

    approximate: Literal["none", "tanh"] = "none"

    name = "gelu"
    onnx = ("Gelu",)
    shape = Shape.OTHER
    smooth = True
    monotone = False
    piecewise_linear = False

    @property
    def valley(self) -> float:
        """The root of the derivative."""
        return -0.7524614220710163 if self.approximate == "tanh" else -0.7517915246935645

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """Convex around 0, concave outside."""
        if self.approximate == "tanh":
            # f'' has one zero on each side: it has the sign of 1 + 6 c x^2 minus a product of
            # functions that grow with |x| faster; its value is 1.41850400878...
            spans = _spans((1.418503999710083, 1.4185041189193726), 1.12899306865876)
            return curve(_tanh_value, _tanh_derivative, *spans)
        # f'' = (2 - x^2) times the normal density.
        spans = _spans((1.4142135381698608, 1.4142136573791504), 1.12890414518515)
        return curve(
            lambda x, m: x * m.erfc(-x / m.sqrt(2)) / 2,
            lambda x, m: m.erfc(-x / m.sqrt(2)) / 2 + x * m.exp(-x * x / 2) / m.sqrt(2 * m.pi),
            *spans,
        )


def _spans(inflection: tuple[float, float], steepest: float) -> tuple[Span, ...]:
    """Bend at an inflection point between two neighbours in float32, and at its mirror image.

    The derivative there is within 2e-14 above `steepest`; on the mirror image it is 1 minus that,
    since `f(x) - f(-x) = x`.
    """
    low, high = inflection
    slopes = (steepest, steepest + 2e-14)
    return (
        concave(-inf, -high),
        sliver(-high, -low, (1 - slopes[1], 1 - slopes[0])),
        convex(-low, low),
        sliver(low, high, slopes),
        concave(high, inf),
    )


# tanh(y) = 2 sigmoid(2 y) - 1, so the approximation is x sigmoid(2 y), without cancellation.


def _argument(x: Any, m: Arithmetic) -> Any:  # noqa: ANN401
    return 2 * m.sqrt(2 / m.pi) * (x + 0.044715 * x * x * x)


def _tanh_value(x: Any, m: Arithmetic) -> Any:  # noqa: ANN401
    return x * m.sigmoid(_argument(x, m))


def _tanh_derivative(x: Any, m: Arithmetic) -> Any:  # noqa: ANN401
    steepness = 2 * m.sqrt(2 / m.pi) * (1 + 3 * (0.044715 * x * x))  # no folded constant is rounded
    y = _argument(x, m)
    return m.sigmoid(y) + x * m.sigmoid(y) * m.sigmoid(-y) * steepness
