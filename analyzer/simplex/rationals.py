"""Exact rational numbers: python-flint's where it is installed, else the standard library's.

`flint.fmpq` adds and multiplies about ten times as fast as `Fraction`, and a whole check of a
tableau runs some five times as fast with it. Either one has the operators that are used here, so
that `Fraction` serves as the type of both.
"""

from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from typing import cast

Number = Fraction
"""A rational; `flint.fmpq` at run time where the extra `rational` is installed."""


def _maker() -> Callable[[int, int], Fraction]:
    if find_spec("flint") is None:
        return Fraction
    return cast("Callable[[int, int], Fraction]", import_module("flint").fmpq)


_make = _maker()


def exact(value: float | Fraction) -> Number:
    """Return the number that a float, an integer or a rational is, exactly."""
    if isinstance(value, int):
        return _make(value, 1)
    numerator, denominator = value.as_integer_ratio()
    return _make(numerator, denominator)


def fraction(value: Number) -> Fraction:
    """Return a rational as one of the standard library, which rounds to floats correctly."""
    return Fraction(int(value.numerator), int(value.denominator))


ZERO, ONE = exact(0), exact(1)
