"""Quadratic constraints that hold between an operator's operand and its result, as data."""

from typing import NamedTuple

from torch import Tensor

from absolver.dsl.operators.record import Interval


class Quadratic(NamedTuple):
    """`xx x x + xy x y + yy y y + x x + y y + constant >= 0`, or `= 0` if it is an equality.

    Guarantee: it holds for every x of the box and y = f(x). Semidefinite relaxations multiply it
    by any number of the right sign.
    """

    xx: Tensor | float
    xy: Tensor | float
    yy: Tensor | float
    x: Tensor | float
    y: Tensor | float
    constant: Tensor | float
    equality: bool = False

    def at(self, x: Tensor, y: Tensor) -> Tensor:
        """Evaluate the left side."""
        quadratic = self.xx * x * x + self.xy * x * y + self.yy * y * y
        return quadratic + self.x * x + self.y * y + self.constant


def x_within(interval: Interval) -> Quadratic:
    """State that x is in an interval, `(x - l) (u - x) >= 0`."""
    lower, upper = interval
    return Quadratic(-1, 0, 0, lower + upper, 0, -lower * upper)


def y_within(interval: Interval) -> Quadratic:
    """State that y is in an interval, `(y - l) (u - y) >= 0`."""
    lower, upper = interval
    return Quadratic(0, 0, -1, 0, lower + upper, -lower * upper)
