"""Functions of one operand whose graph consists of segments: `f(z) - s z` is extremal at ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from absolver.certificates.network import Floats
from absolver.certificates.rounding import Box, add_down, add_up, minus, mul_down
from absolver.certificates.rules.rule import Attributes, Mask, Rule


class Segment(NamedTuple):
    """The points `(z, slope * z + intercept)` with `lower <= z <= upper`, where `occurs` holds."""

    lower: Floats
    upper: Floats
    slope: Floats | float
    intercept: Floats | float
    occurs: Mask


@dataclass(frozen=True)
class PiecewiseLinear(Rule):
    """The rule of a function whose graph over a box lies in the closed segments that occur.

    Where a single segment occurs, it is the graph.
    """

    segments: Callable[[Box, Attributes], Sequence[Segment]]

    def offset_below(
        self, slopes: Sequence[Floats], boxes: Sequence[Box], attributes: Attributes
    ) -> Floats:
        """Return the least `f(z) - slope * z` at an end of a segment."""
        return _least(self.segments(boxes[0], attributes), slopes[0], 1.0)

    def offset_above(
        self, slopes: Sequence[Floats], boxes: Sequence[Box], attributes: Attributes
    ) -> Floats:
        """Return the greatest `f(z) - slope * z` at an end of a segment."""
        return -_least(self.segments(boxes[0], attributes), slopes[0], -1.0)

    def affine(
        self, boxes: Sequence[Box], attributes: Attributes
    ) -> tuple[Mask, tuple[Floats, ...]]:
        """Return where a single segment occurs, and its slope."""
        segments = self.segments(boxes[0], attributes)
        slope = np.zeros_like(boxes[0].lower)
        for segment in segments:
            slope = np.where(segment.occurs, segment.slope, slope)
        return np.sum([segment.occurs for segment in segments], axis=0) == 1, (slope,)


def relu(box: Box, attributes: Attributes) -> tuple[Segment, ...]:
    """Describe max(z, 0)."""
    return _kinked(box, 0.0)


def leaky_relu(box: Box, attributes: Attributes) -> tuple[Segment, ...]:
    """Describe z where it is positive, else alpha z."""
    return _kinked(box, attributes["alpha"])


def absolute(box: Box, attributes: Attributes) -> tuple[Segment, ...]:
    """Describe |z|."""
    return _kinked(box, -1.0)


def clip(box: Box, attributes: Attributes) -> tuple[Segment, ...]:
    """Describe min(max(z, low), high); either limit may be missing or infinite."""
    high = attributes.get("max", np.inf)
    low = np.minimum(attributes.get("min", -np.inf), high)
    return (
        _continuous(box, (-np.inf, low), 0.0, low),
        _continuous(box, (low, high), 1.0, 0.0),
        _continuous(box, (high, np.inf), 0.0, high),
    )


def sign(box: Box, attributes: Attributes) -> tuple[Segment, ...]:
    """Describe -1, 0 or 1 with the sign of z."""
    lower, upper = box
    zero = np.zeros_like(lower)
    return (
        Segment(lower, np.minimum(upper, 0.0), 0.0, -1.0, lower < 0),
        Segment(zero, zero, 0.0, 0.0, (lower <= 0) & (upper >= 0)),
        Segment(np.maximum(lower, 0.0), upper, 0.0, 1.0, upper > 0),
    )


def floor(box: Box, attributes: Attributes) -> tuple[Segment, ...]:
    """Describe the largest integer that is at most z.

    Steps between the first and the last begin on the line z and end on the line z - 1.
    """
    (lower, upper), first, last = box, np.floor(box.lower), np.floor(box.upper)
    several, start = last > first, add_down(first, 1.0)
    end_of_first = np.minimum(upper, add_up(first, 1.0))
    return (
        Segment(lower, end_of_first, 0.0, first, lower > -np.inf),
        Segment(start, last, 1.0, 0.0, several),
        Segment(start, last, 1.0, -1.0, several),
        Segment(last, upper, 0.0, last, several & (upper < np.inf)),
    )


def ceil(box: Box, attributes: Attributes) -> tuple[Segment, ...]:
    """Describe the least integer that is at least z: -floor(-z)."""
    mirrored = floor(Box(-box.upper, -box.lower), attributes)
    return tuple(Segment(-s.upper, -s.lower, s.slope, -s.intercept, s.occurs) for s in mirrored)


@np.errstate(all="ignore")
def _least(segments: Sequence[Segment], slope: Floats, sign: float) -> Floats:
    """Return a lower bound of `sign * (f(z) - slope * z)`, -inf where no segment occurs."""
    least, found = np.full(np.shape(slope), np.inf), np.zeros(np.shape(slope), np.bool_)
    for segment in segments:
        # At an infinite end a tilt of 0, which is exact, leaves the intercept.
        tilts = minus(sign * segment.slope, sign * slope)
        ends = [mul_down(tilt, z) for tilt in tilts for z in (segment.lower, segment.upper)]
        value = add_down(np.minimum.reduce(ends), sign * segment.intercept)
        least = np.where(segment.occurs, np.minimum(least, value), least)
        found = found | segment.occurs
    return np.where(found, least, -np.inf)


def _kinked(box: Box, left: Floats | float) -> tuple[Segment, ...]:
    """Describe z where it is positive, else `left` times z."""
    return (
        _continuous(box, (-np.inf, 0.0), left, 0.0),
        _continuous(box, (0.0, np.inf), 1.0, 0.0),
    )


def _continuous(
    box: Box,
    ends: tuple[Floats | float, Floats | float],
    slope: Floats | float,
    intercept: Floats | float,
) -> Segment:
    """Describe a segment of a continuous function, cut to the box.

    Of a box with more than one point it needs no single points: its neighbour has them too.
    """
    lower, upper = np.maximum(box.lower, ends[0]), np.minimum(box.upper, ends[1])
    occurs = (lower < upper) | ((lower == upper) & (box.lower == box.upper))
    return Segment(lower, upper, slope, intercept, occurs)
