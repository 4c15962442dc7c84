"""Directed rounding without a rounding mode: from rationals to float64, from dtype to dtype."""

from fractions import Fraction
from math import inf, isinf, nextafter

import torch
from torch import Tensor


def float_below(value: Fraction) -> float:
    """Return the greatest float64 that is at most `value`."""
    nearest = _nearest(value)
    return nextafter(nearest, -inf) if _difference(nearest, value) > 0 else nearest


def float_above(value: Fraction) -> float:
    """Return the least float64 that is at least `value`."""
    nearest = _nearest(value)
    return nextafter(nearest, inf) if _difference(nearest, value) < 0 else nearest


def _nearest(value: Fraction) -> float:
    try:
        # Dividing two integers rounds correctly, to nearest even.
        return value.numerator / value.denominator
    except OverflowError:
        return inf if value > 0 else -inf


def _difference(x: float, value: Fraction) -> float:
    """Return a number of the sign of `x - value`."""
    if isinf(x):
        return x
    numerator, denominator = x.as_integer_ratio()
    left, right = numerator * value.denominator, value.numerator * denominator
    return (left > right) - (left < right)


def round_down(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert to a dtype, each element to the greatest number there that is at most it."""
    nearest = x.to(dtype)
    return torch.where(nearest > x, next_below(nearest), nearest)


def round_up(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert to a dtype, each element to the least number there that is at least it."""
    nearest = x.to(dtype)
    return torch.where(nearest < x, next_above(nearest), nearest)


def next_below(x: Tensor) -> Tensor:
    """Return the greatest number of the same dtype below each element."""
    return torch.nextafter(x, torch.full_like(x, -inf))


def next_above(x: Tensor) -> Tensor:
    """Return the least number of the same dtype above each element."""
    return torch.nextafter(x, torch.full_like(x, inf))


def subtract_down(x: Tensor, y: Tensor) -> Tensor:
    """Return a number that is at most `x - y`; `x` itself where `y` is 0."""
    return torch.where(y == 0, x, next_below(x - y))


def add_up(x: Tensor, y: Tensor) -> Tensor:
    """Return a number that is at least `x + y`; `x` itself where `y` is 0."""
    return torch.where(y == 0, x, next_above(x + y))
