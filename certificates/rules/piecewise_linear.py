"""Functions whose graph consists of segments: `f(z) - s z` is extremal at their ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.network import Floats
from absolver.certificates.rounding import Box, Numbers, add_down, add_up, mirrored, mul_down
from absolver.certificates.rules.rule import Attributes, Boxes, Lines, Rule, Slopes


class Segment(NamedTuple):
    """The points `(z, slope * z + intercept)` with `lower <= z <= upper`, where it occurs."""

    lower: Numbers
    upper: Numbers
    slope: Numbers
    intercept: Numbers
    occurs: NDArray[np.bool_]


@dataclass(frozen=True)
class PiecewiseLinear(Rule):
    """The rule of a function whose graph over a box lies in the closed segments that occur.

    Where a single segment occurs, it is the graph.
    """

    segments: Callable[[Box, Attributes], list[Segment]]

    def least(self, slopes: Slopes, boxes: Boxes, attributes: Attributes, sign: float) -> Floats:
        """Return the least value at an end of a segment."""
        least, slope = np.full_like(slopes[0], np.inf), sign * slopes[0]
        for segment in self.segments(boxes[0], attributes):
            # At an infinite end a tilt of 0, which is exact, leaves the intercept.
            steepness = sign * np.asarray(segment.slope)
            tilts = add_down(steepness, -slope), add_up(steepness, -slope)
            ends = [
                mul_down(np.where(np.signbit(z), *reversed(tilts)), z)
                for z in (segment.lower, segment.upper)
            ]
            value = add_down(np.minimum.reduce(ends), sign * np.asarray(segment.intercept))
            least = np.where(segment.occurs, np.minimum(least, value), least)
        return np.where((least < np.inf) & (boxes[0].lower <= boxes[0].upper), least, -np.inf)

    def affine(self, boxes: Boxes, attributes: Attributes) -> Lines:
        """Return where a single segment occurs, its slope, and its intercept."""
        segments = self.segments(boxes[0], attributes)
        occurs = [segment.occurs for segment in segments]
        slope = np.select(occurs, [np.asarray(segment.slope) for segment in segments], 0.0)
        offset = np.select(occurs, [np.asarray(segment.intercept) for segment in segments], 0.0)
        single = (np.sum(occurs, axis=0) == 1) & (boxes[0].lower <= boxes[0].upper)
        return single, (slope,), offset


def kinked(box: Box, left: Numbers) -> list[Segment]:
    """Describe z where it is positive, else `left` times z: relu, leaky_relu and abs."""
    return _continuous(box, (-np.inf, 0.0, left, 0.0), (0.0, np.inf, 1.0, 0.0))


def clip(box: Box, attributes: Attributes) -> list[Segment]:
    """Describe min(max(z, low), high); either limit may be missing or infinite."""
    high = attributes.get("max", np.inf)
    low = np.minimum(attributes.get("min", -np.inf), high)
    ends = (-np.inf, low, 0.0, low), (high, np.inf, 0.0, high)
    return _continuous(box, ends[0], (low, high, 1.0, 0.0), ends[1])


def sign(box: Box, attributes: Attributes) -> list[Segment]:
    """Describe -1, 0 or 1 with the sign of z."""
    lower, upper = box
    return [
        Segment(lower, np.minimum(upper, 0.0), 0.0, -1.0, lower < 0),
        Segment(0.0, 0.0, 0.0, 0.0, (lower <= 0) & (upper >= 0)),
        Segment(np.maximum(lower, 0.0), upper, 0.0, 1.0, upper > 0),
    ]


def floor(box: Box, attributes: Attributes) -> list[Segment]:
    """Describe the largest integer that is at most z.

    Steps between the first and the last one begin on the line z and end on the line z - 1.
    """
    first, last = np.floor(box.lower), np.floor(box.upper)
    start, end, several = add_down(first, 1.0), add_up(first, 1.0), last > first
    return [
        Segment(box.lower, np.minimum(box.upper, end), 0.0, first, box.lower > -np.inf),
        Segment(start, last, 1.0, 0.0, several),
        Segment(start, last, 1.0, -1.0, several),
        Segment(last, box.upper, 0.0, last, several & (box.upper < np.inf)),
    ]


def ceil(box: Box, attributes: Attributes) -> list[Segment]:
    """Describe the least integer that is at least z: -floor(-z)."""
    return [
        Segment(np.negative(end), np.negative(start), slope, np.negative(intercept), occurs)
        for start, end, slope, intercept, occurs in floor(mirrored(box), attributes)
    ]


def _continuous(box: Box, *segments: tuple[Numbers, Numbers, Numbers, Numbers]) -> list[Segment]:
    """Cut the segments of a continuous function to the box.

    Of a box with more than one point it needs no single points: a neighbour has them too.
    """
    cut = []
    for start, end, slope, intercept in segments:
        lower, upper = np.maximum(box.lower, start), np.minimum(box.upper, end)
        occurs = (lower < upper) | ((lower == upper) & (box.lower == box.upper))
        cut.append(Segment(lower, upper, slope, intercept, occurs))
    return cut


CONTINUOUS = ("relu", "leaky_relu", "abs", "clip")
"""Those of the functions that have no jumps."""
PIECEWISE_LINEAR: Mapping[str, PiecewiseLinear] = {
    "relu": PiecewiseLinear(lambda box, attributes: kinked(box, 0.0)),
    "leaky_relu": PiecewiseLinear(lambda box, attributes: kinked(box, attributes["alpha"])),
    "abs": PiecewiseLinear(lambda box, attributes: kinked(box, -1.0)),
    "clip": PiecewiseLinear(clip),
    "sign": PiecewiseLinear(sign),
    "floor": PiecewiseLinear(floor),
    "ceil": PiecewiseLinear(ceil),
}
