"""Backward tightening by bisection: an operator's `range` is all that it needs."""

from math import inf

import torch
from torch import Tensor

from absolver.dsl.operators.record import Interval, Operator

# 48 halvings bring an interval of ordinary width to its rounding error.
SHAVINGS = 48


def shave(operator: Operator, output: Interval, interval: Interval) -> Interval:
    """Cut from both ends of an operand's interval whatever maps outside the output.

    Nothing has to be inverted: a part is cut if the operator's range over it misses the output.
    An interval of which nothing is left comes back crossed: `lower = inf`, `upper = -inf`.
    """
    lower, upper = interval
    empty = _misses(operator, output, lower, upper)
    left, beyond = lower, upper
    for _ in range(SHAVINGS):
        middle = left + (beyond - left) / 2
        gone = _misses(operator, output, lower, middle)
        left, beyond = torch.where(gone, middle, left), torch.where(gone, beyond, middle)
    right, beyond = upper, left
    for _ in range(SHAVINGS):
        middle = right + (beyond - right) / 2
        gone = _misses(operator, output, middle, upper)
        right, beyond = torch.where(gone, middle, right), torch.where(gone, beyond, middle)
    return Interval(torch.where(empty, inf, left), torch.where(empty, -inf, right))


def _misses(operator: Operator, output: Interval, lower: Tensor, upper: Tensor) -> Tensor:
    """Say where no value over the interval lies in the output, rounding allowed for."""
    low, high = operator.range([Interval(lower, upper)])
    epsilon = torch.finfo(lower.dtype).eps
    # 16: `range` rounds a few times, each time by half an ulp of the value.
    below = high + 16 * epsilon * high.abs() < output.lower
    return below | (low - 16 * epsilon * low.abs() > output.upper)
