"""What the kernel asks of the rule of a function f of one or more operands."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.network import Floats
from absolver.certificates.rounding import Box, Numbers

Slopes = Sequence[Floats]
Boxes = Sequence[Box]
Attributes = Mapping[str, Numbers]
Lines = tuple[NDArray[np.bool_], tuple[Floats, ...], Floats]


class Rule(ABC):
    """Bounds of f over boxes of its operands, elementwise; all arrays have one shape."""

    @abstractmethod
    def least(self, slopes: Slopes, boxes: Boxes, attributes: Attributes, sign: float) -> Floats:
        """Return a lower bound of `sign * (f(z) - slopes . z)` over all real z in the boxes.

        -inf where none is known, and where a slope is NaN.
        """

    def offset_below(self, slopes: Slopes, boxes: Boxes, attributes: Attributes) -> Floats:
        """Return t, or -inf. Guarantee: `f(z) >= slopes . z + t` for all real z in the boxes."""
        return self.least(slopes, boxes, attributes, 1.0)

    def offset_above(self, slopes: Slopes, boxes: Boxes, attributes: Attributes) -> Floats:
        """Return t, or inf. Guarantee: `f(z) <= slopes . z + t` for all real z in the boxes."""
        return -self.least(slopes, boxes, attributes, -1.0)

    def range(self, boxes: Boxes, attributes: Attributes) -> Box:
        """Return intervals that hold f's values over the boxes: what lines of slope 0 give."""
        flat = [np.zeros_like(box.lower) for box in boxes]
        below = self.offset_below(flat, boxes, attributes)
        return Box(below, self.offset_above(flat, boxes, attributes))

    def affine(self, boxes: Boxes, attributes: Attributes) -> Lines | None:
        """Return where f is affine on the boxes, and its slopes and its intercept there, exact."""
        return None

    @np.errstate(all="ignore")
    def chord(self, box: Box, attributes: Attributes) -> Floats:
        """Return a number near the mean slope of a function of one operand, 0 where it has none."""
        flat = [np.zeros_like(box.lower)]
        left, right = (self.offset_below(flat, [Box(end, end)], attributes) for end in box)
        slope = (right - left) / (box.upper - box.lower)
        return np.where(np.isfinite(slope), slope, 0.0)
