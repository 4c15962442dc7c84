"""The product of two operands, bounded exactly over boxes."""

import numpy as np

from absolver.certificates.network import Floats
from absolver.certificates.rounding import plus, point, times
from absolver.certificates.rules.rule import Attributes, Boxes, Lines, Rule, Slopes


class Product(Rule):
    """The rule of x y."""

    def least(self, slopes: Slopes, boxes: Boxes, attributes: Attributes, sign: float) -> Floats:
        """Return an end of `x y - a x - b y`, which is `(x - b) (y - a) - a b`."""
        (a, b), (x, y) = slopes, boxes
        form = plus(times(plus(x, point(-b)), plus(y, point(-a))), times(point(-a), point(b)))
        return form.lower if sign > 0 else -form.upper

    def affine(self, boxes: Boxes, attributes: Attributes) -> Lines:
        """Return where an operand is constant: it is the slope of the other one."""
        x, y = boxes
        constant = y.lower == y.upper
        slopes = np.where(constant, y.lower, 0.0), np.where(constant, 0.0, x.lower)
        return constant | (x.lower == x.upper), slopes, np.zeros_like(x.lower)
