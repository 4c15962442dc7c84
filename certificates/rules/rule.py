"""What the kernel asks of the rule of an operator."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.network import Floats
from absolver.certificates.rounding import Box

Attributes = Mapping[str, float | Floats]
Mask = NDArray[np.bool_]


class Rule(Protocol):
    """Bounds of one function f over boxes of its operands; all arrays have the operands' shape."""

    def offset_below(
        self, slopes: Sequence[Floats], boxes: Sequence[Box], attributes: Attributes
    ) -> Floats:
        """Return t, -inf where there is none.

        Guarantee: `f(z) >= slopes . z + t` for all real z in the boxes.
        """
        ...

    def offset_above(
        self, slopes: Sequence[Floats], boxes: Sequence[Box], attributes: Attributes
    ) -> Floats:
        """Return t, inf where there is none.

        Guarantee: `f(z) <= slopes . z + t` for all real z in the boxes.
        """
        ...

    def range(self, boxes: Sequence[Box], attributes: Attributes) -> Box:
        """Return intervals that hold f's values over the boxes: the lines of slope 0."""
        flat = [np.zeros_like(box.lower) for box in boxes]
        return Box(
            self.offset_below(flat, boxes, attributes), self.offset_above(flat, boxes, attributes)
        )

    def affine(
        self, boxes: Sequence[Box], attributes: Attributes
    ) -> tuple[Mask, tuple[Floats, ...]] | None:
        """Return where f is affine on the boxes, exactly, and its slopes there; None if nowhere."""
        return None

    @np.errstate(all="ignore")
    def chord(self, box: Box, attributes: Attributes) -> Floats:
        """Return a number near f's mean slope over the box, and 0 where it has none."""
        low, high = (self.range([Box(end, end)], attributes).lower for end in box)
        slope = (high - low) / (box.upper - box.lower)
        return np.where(np.isfinite(slope), slope, 0.0)
