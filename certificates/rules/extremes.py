"""The maximum and the minimum of several operands.

The maximum of `max(z) - s . z` over a box is the greatest one of `z_i - s . z` over all i, found
coordinate by coordinate. From below, `max(z) >= w . z` for weights w >= 0 of sum 1.
"""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.network import Floats
from absolver.certificates.rounding import Box, Numbers, add_down, add_up, mirrored, mul_down
from absolver.certificates.rules.rule import Attributes, Boxes, Lines, Rule, Slopes


@dataclass(frozen=True)
class Extreme(Rule):
    """The rule of max(z_1, ..., z_n), or of min(z) = -max(-z)."""

    largest: bool

    def least(self, slopes: Slopes, boxes: Boxes, attributes: Attributes, sign: float) -> Floats:
        """Return the best bound by weights, or the least of `-(z_i - s . z)` over all i."""
        if not self.largest:
            boxes, sign = [mirrored(box) for box in boxes], -sign
        if sign < 0:
            worst: Floats = np.minimum.reduce(_each(slopes, [mirrored(box) for box in boxes]))
            return worst
        weights = _weights(np.stack(slopes))
        terms = [_least(w, s, box) for w, s, box in zip(weights, slopes, boxes, strict=True)]
        near = np.where((weights >= 0).all(axis=0), list(accumulate(terms, add_down))[-1], -np.inf)
        best: Floats = np.maximum.reduce([near, *_each(slopes, boxes)])
        return best

    def affine(self, boxes: Boxes, attributes: Attributes) -> Lines:
        """Return where the operand with the greatest lower bound is never below the others."""
        boxes = boxes if self.largest else [mirrored(box) for box in boxes]
        lower, upper = (np.stack(ends) for ends in zip(*boxes, strict=True))
        chosen = _greatest(lower)
        slopes = tuple(chosen.astype(np.float64))
        return (chosen | (upper <= lower.max(axis=0))).all(axis=0), slopes, np.zeros_like(slopes[0])


def _each(slopes: Slopes, boxes: Boxes) -> list[Floats]:
    """Return for each i a lower bound of `z_i - s . z` over the boxes."""
    pairs, nothing = list(zip(slopes, boxes, strict=True)), np.zeros_like(slopes[0])
    others = [_least(0.0, s, box) for s, box in pairs]
    before = accumulate([nothing, *others[:-1]], add_down)
    after = list(accumulate([nothing, *others[:0:-1]], add_down))[::-1]
    rest = (add_down(left, right) for left, right in zip(before, after, strict=True))
    return [add_down(r, _least(1.0, s, box)) for r, (s, box) in zip(rest, pairs, strict=True)]


def _least(weight: Numbers, slope: Floats, box: Box) -> Floats:
    """Return a lower bound of `(weight - slope) z`."""
    tilts = add_down(weight, -slope), add_up(weight, -slope)
    least: Floats = np.minimum.reduce([mul_down(tilt, z) for tilt in tilts for z in box])
    return least


@np.errstate(all="ignore")
def _weights(slopes: Floats) -> Floats:
    """Return weights near slopes `[n, ...]`: multiples of 2^-40, so that their sum is exactly 1."""
    positive = np.maximum(slopes, 0.0)
    weights: Floats = np.floor(np.nan_to_num(positive / positive.sum(axis=0)) * 2.0**40) / 2.0**40
    # The rest goes to the largest weight. Sums of such multiples are exact below 2^12.
    return np.where(_greatest(weights), weights + (1 - weights.sum(axis=0)), weights)


def _greatest(values: Floats) -> NDArray[np.bool_]:
    """Mark for each element the first one of its greatest values, which are along axis 0."""
    return np.stack([values.argmax(axis=0) == i for i in range(len(values))])
