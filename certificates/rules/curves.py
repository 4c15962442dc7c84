"""Smooth functions of one operand, from their pieces of known curvature.

On a concave piece `f(z) - s z` is least at an end. On a convex one it lies above every tangent,
which is least at an end. Where tangents touch is computed in floats and need not be right: each
gives a bound, as value and slope are enclosed by proved functions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from absolver.certificates.network import Floats
from absolver.certificates.rounding import Box, add_down, mirrored, mul_down, plus, point, times
from absolver.certificates.rules.functions import exp, log, reciprocal, sigmoid, sqrt, tanh
from absolver.certificates.rules.rule import Attributes, Boxes, Rule, Slopes

TINY = 5e-324
"""The least positive float64."""


class Piece(NamedTuple):
    """Where a function is convex, or else concave, and the place at which it has a given slope."""

    lower: float
    upper: float
    convex: bool
    touches: Callable[[Floats], Floats]


@dataclass(frozen=True)
class Curve(Rule):
    """The rule of a smooth function; no bound over a box that its pieces do not cover in order."""

    value: Callable[[Floats], Box]
    slope: Callable[[Floats], Box]
    pieces: tuple[Piece, ...]

    @np.errstate(all="ignore")
    def least(self, slopes: Slopes, boxes: Boxes, attributes: Attributes, sign: float) -> Floats:
        """Return the least of the pieces' bounds."""
        slope, covered, least = slopes[0], boxes[0].lower, np.full_like(slopes[0], np.inf)
        for piece in self.pieces:
            covered = np.where(piece.lower <= covered, np.maximum(covered, piece.upper), covered)
            low = np.maximum(boxes[0].lower, piece.lower)
            high = np.minimum(boxes[0].upper, piece.upper)
            if piece.convex == (sign > 0):
                # One tangent a little flatter for what is left of x, where it falls, and one a
                # little steeper for the rest, where it rises, however far the piece reaches.
                shift = sign * 2.0**-40 * np.abs(slope)
                touches = piece.touches(slope - shift), piece.touches(slope + shift)
                x, y = (np.fmin(np.fmax(z, low), high) for z in touches)
                left = self._tangent(x, (low, x), slope, sign)
                right = self._tangent(y, (x, high), slope, sign)
            else:
                left, right = (self._tangent(z, (z,), slope, sign) for z in (low, high))
            least = np.where(low <= high, np.minimum(least, np.minimum(left, right)), least)
        return np.where((covered >= boxes[0].upper) & (least < np.inf), least, -np.inf)

    def _tangent(self, x: Floats, ends: tuple[Floats, ...], slope: Floats, sign: float) -> Floats:
        """Return the least value at the ends of the tangent at x of `sign * (f(z) - slope * z)`."""
        value, steepness = self.value(x), self.slope(x)
        if sign < 0:
            value, steepness = mirrored(value), mirrored(steepness)
        tilt = plus(steepness, point(-sign * slope))
        rises = [np.where(z == x, 0.0, times(tilt, plus(point(z), point(-x))).lower) for z in ends]
        at = add_down(value.lower, mul_down(-sign * slope, x))
        return add_down(at, np.minimum.reduce(rises))


def square(x: Floats) -> Box:
    """Enclose x^2."""
    return times(point(x), point(x))


def _sigmoid_slope(x: Floats) -> Box:
    return times(sigmoid(x), sigmoid(-x))


def _tanh_slope(x: Floats) -> Box:
    """Enclose 1 - tanh(x)^2 = 4 sigmoid'(2x)."""
    return times(point(4.0), _sigmoid_slope(2 * x))


def _sqrt_slope(x: Floats) -> Box:
    root = sqrt(x)
    return Box(reciprocal(2 * root.upper).lower, reciprocal(2 * root.lower).upper)


def _reciprocal_slope(x: Floats) -> Box:
    inverse = reciprocal(x)
    return mirrored(times(inverse, inverse))


def _sigmoid_touches(slope: Floats) -> Floats:
    """Solve y (1 - y) = slope for y = sigmoid(-x), x >= 0."""
    slope = np.clip(slope, 0.0, 0.25)
    y: Floats = 2 * slope / (1 + np.sqrt(1 - 4 * slope))
    return -np.log(y / (1 - y))


def _reciprocal_touches(slope: Floats) -> Floats:
    return np.sqrt(1 / np.maximum(-slope, TINY))


def _s_shaped(touches: Callable[[Floats], Floats]) -> tuple[Piece, Piece]:
    left = Piece(-np.inf, 0.0, True, lambda slope: -touches(slope))
    return left, Piece(0.0, np.inf, False, touches)


CURVES: Mapping[str, Curve] = {
    "exp": Curve(exp, exp, (Piece(-np.inf, np.inf, True, np.log),)),
    "log": Curve(log, reciprocal, (Piece(TINY, np.inf, False, lambda s: 1 / np.maximum(s, TINY)),)),
    "sqrt": Curve(
        sqrt, _sqrt_slope, (Piece(0.0, np.inf, False, lambda s: (0.5 / np.maximum(s, TINY)) ** 2),)
    ),
    "square": Curve(
        square,
        lambda x: times(point(2.0), point(x)),
        (Piece(-np.inf, np.inf, True, lambda s: s / 2),),
    ),
    "cube": Curve(
        lambda x: times(square(x), point(x)),
        lambda x: times(point(3.0), square(x)),
        (
            Piece(-np.inf, 0.0, False, lambda s: -np.sqrt(np.maximum(s, 0.0) / 3)),
            Piece(0.0, np.inf, True, lambda s: np.sqrt(np.maximum(s, 0.0) / 3)),
        ),
    ),
    "sigmoid": Curve(sigmoid, _sigmoid_slope, _s_shaped(_sigmoid_touches)),
    "tanh": Curve(tanh, _tanh_slope, _s_shaped(lambda s: _sigmoid_touches(s / 4) / 2)),
    "reciprocal": Curve(
        reciprocal,
        _reciprocal_slope,
        (
            Piece(-np.inf, -TINY, False, lambda s: -_reciprocal_touches(s)),
            Piece(TINY, np.inf, True, _reciprocal_touches),
        ),
    ),
}
