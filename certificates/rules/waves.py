"""Sine and cosine, over one period of the box, cut near the inflections.

Inflections are irrational, and where a wave is cut is computed in floats and need not be right: how
far the wave is from convex, or from concave, between two cuts is enclosed, and paid for.
"""

from dataclasses import dataclass
from math import pi

import numpy as np

from absolver.certificates.network import Floats
from absolver.certificates.rounding import (
    Box,
    add_down,
    add_up,
    mul_down,
    plus,
    point,
    times,
)
from absolver.certificates.rules.functions import wave
from absolver.certificates.rules.rule import Attributes, Boxes, Rule, Slopes

PERIOD = 6.2831854
"""More than 2 pi, and less than one part more."""


@dataclass(frozen=True)
class Wave(Rule):
    """The rule of `sin(z + quarters pi / 2)`."""

    quarters: int

    @np.errstate(all="ignore")
    def least(self, slopes: Slopes, boxes: Boxes, attributes: Attributes, sign: float) -> Floats:
        """Return the best of -1 for the wave, and of the parts of one period.

        `sign * f` is a wave g too. With the slope s of the line, g(z) - s z changes by -2 pi s in a
        period, so it is least in the first period of the box where s <= 0, else in the last one.
        """
        turn, slope, (lower, upper) = self.quarters + 1 - int(sign), sign * slopes[0], boxes[0]
        flat = add_down(np.minimum(mul_down(-slope, lower), mul_down(-slope, upper)), -1.0)
        start = np.where(slope > 0, np.maximum(lower, add_down(upper, -PERIOD)), lower)
        end = np.where(slope > 0, upper, np.minimum(upper, add_up(lower, PERIOD)))
        # Part n of g reaches from n pi to (n + 1) pi, less a quarter period for each turn.
        first = np.floor((start / (pi / 2) + turn) / 2)
        parts = np.stack([first + n for n in range(4)])
        cuts = np.fmin(np.fmax((2 * parts[1:] - turn) * (pi / 2), start), end)
        left, right = np.stack([start, *cuts]), np.stack([*cuts, end])
        touches = (2 * parts + 1 - turn) * (pi / 2) + np.arcsin(np.clip(slope, -1.0, 1.0))
        touches = np.fmin(np.fmax(touches, left), right)
        best = np.minimum.reduce(_part(turn, slope, Box(left, right), touches))
        return np.maximum(flat, best)


def _part(turn: int, slope: Floats, ends: Box, x: Floats) -> Floats:
    """Return the least value of `g(z) - slope z` between ends up to 3.8 apart, -inf beyond.

    Where g exceeds a number d <= 1/2 it does so for more than 2. So if it exceeds d neither at the
    ends nor at the middle, it is at most d between them, and so is -g''. Then g(z) + d (z - x)^2 /
    2 is convex, and g above its tangent at x less 8 d. Likewise, if g is nowhere below -d, it is
    above its chord less 8 d. The whole wave has d = 1.
    """
    middle = ends.lower + (ends.upper - ends.lower) / 2
    places = np.stack([ends.lower, middle, ends.upper])
    values, at, steepness = wave(places, turn), wave(x, turn), wave(x, turn + 1)
    rises, falls = np.maximum.reduce(values.upper), -np.minimum.reduce(values.lower)
    doubts = [np.where(d <= 0.5, np.maximum(d, 0.0), 1.0) for d in (rises, falls)]
    tilt = plus(steepness, point(-slope))
    tangent = np.minimum.reduce([times(tilt, plus(point(z), point(-x))).lower for z in ends])
    tangent = add_down(add_down(at.lower, mul_down(-slope, x)), tangent)
    chord = np.minimum.reduce(add_down(values.lower, mul_down(-slope, places))[::2])
    bounds = [add_down(b, -8 * d) for b, d in zip((tangent, chord), doubts, strict=True)]
    short = np.maximum(middle - ends.lower, ends.upper - middle) < 1.9
    return np.where(short, np.maximum(*bounds), -np.inf)
