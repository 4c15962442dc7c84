"""The reals with NaN and infinities, as IEEE 754 defines them, over formulas of z3."""

from dataclasses import dataclass
from functools import cache
from math import isinf, isnan
from typing import Any

import z3

from absolver.dsl.prover.paths import assume, fresh, fresh_flag

Flag = Any
"""A condition: Python's bool where it is known, or a formula of z3."""


def both(*flags: Flag) -> Flag:
    """All of some conditions."""
    rest = [flag for flag in flags if flag is not True]
    if any(flag is False for flag in rest):
        return False
    return True if not rest else rest[0] if len(rest) == 1 else z3.And(rest)


def either(*flags: Flag) -> Flag:
    """At least one of some conditions."""
    rest = [flag for flag in flags if flag is not False]
    if any(flag is True for flag in rest):
        return True
    return False if not rest else rest[0] if len(rest) == 1 else z3.Or(rest)


def negation(flag: Flag) -> Flag:
    """The opposite condition."""
    return not flag if isinstance(flag, bool) else z3.Not(flag)


@cache
def rational(number: float) -> Any:  # noqa: ANN401
    """A finite number as z3's exact one."""
    top, bottom = float(number).as_integer_ratio()
    return z3.RealVal(top) if bottom == 1 else z3.Q(top, bottom)


@dataclass(frozen=True, eq=False)
class Real:
    """A real number, or NaN, or an infinity, under conditions that exclude each other."""

    value: Any
    nan: Flag = False
    up: Flag = False
    down: Flag = False

    @staticmethod
    def of(number: float) -> "Real":
        """An exact number of Python."""
        if isnan(number) or isinf(number):
            return Real(z3.RealVal(0), isnan(number), number > 0, number < 0)
        return Real(rational(number))

    @property
    def infinite(self) -> Flag:
        """Under which condition this is an infinity."""
        return either(self.up, self.down)

    @property
    def finite(self) -> Flag:
        """Under which condition this is a real number."""
        return negation(either(self.nan, self.up, self.down))

    @property
    def positive(self) -> Flag:
        """Under which condition this is above 0."""
        return either(self.up, both(self.finite, self.value > 0))

    @property
    def negative(self) -> Flag:
        """Under which condition this is below 0."""
        return either(self.down, both(self.finite, self.value < 0))


def total(a: Real, b: Real) -> Real:
    """The sum; opposite infinities give NaN."""
    nan = either(a.nan, b.nan, both(a.up, b.down), both(a.down, b.up))
    known = negation(nan)
    up, down = both(known, either(a.up, b.up)), both(known, either(a.down, b.down))
    return Real(a.value + b.value, nan, up, down)


def opposite(a: Real) -> Real:
    """The negation."""
    return Real(-a.value, a.nan, a.down, a.up)


def product(a: Real, b: Real) -> Real:
    """The product; an infinity times 0 gives NaN."""
    if a.infinite is False and b.infinite is False:
        return Real(a.value * b.value, either(a.nan, b.nan))
    nothing = either(
        both(a.infinite, b.finite, b.value == 0), both(b.infinite, a.finite, a.value == 0)
    )
    nan = either(a.nan, b.nan, nothing)
    large = both(negation(nan), either(a.infinite, b.infinite))
    same = either(both(a.positive, b.positive), both(a.negative, b.negative))
    return Real(a.value * b.value, nan, both(large, same), both(large, negation(same)))


def quotient(a: Real, b: Real) -> Real:
    """The quotient; what is divided by 0 is an infinity of unknown sign, 0 by 0 is NaN."""
    if a.infinite is False and z3.is_rational_value(b.value) and b.infinite is False:
        if b.value.as_fraction() != 0:
            return Real(a.value / b.value, either(a.nan, b.nan))
    result, sign = fresh("quotient"), fresh_flag("sign")
    zero = both(b.finite, b.value == 0)
    assume(either(zero, negation(b.finite), result * b.value == a.value))
    null = both(a.finite, b.infinite)
    value = result if null is False else z3.If(null, z3.RealVal(0), result)
    nan = either(a.nan, b.nan, both(a.infinite, b.infinite), both(zero, a.finite, a.value == 0))
    large = both(negation(nan), either(zero, a.infinite))
    return Real(value, nan, both(large, sign), both(large, negation(sign)))


def less(a: Real, b: Real) -> Flag:
    """Whether a is below b; not if one is NaN."""
    known = negation(either(a.nan, b.nan))
    far = either(both(a.down, negation(b.down)), both(b.up, negation(a.up)))
    return both(known, either(far, both(a.finite, b.finite, a.value < b.value)))


def at_most(a: Real, b: Real) -> Flag:
    """Whether a is at most b; not if one is NaN."""
    known = negation(either(a.nan, b.nan))
    return both(known, either(a.down, b.up, both(a.finite, b.finite, a.value <= b.value)))


def choice(flag: Flag, then: Real, otherwise: Real) -> Real:
    """One of two numbers, by a condition."""
    if isinstance(flag, bool):
        return then if flag else otherwise
    a, b = then.value, otherwise.value

    def part(yes: Flag, no: Flag) -> Flag:
        return either(both(flag, yes), both(negation(flag), no))

    return Real(
        a if a.eq(b) else z3.If(flag, a, b),
        part(then.nan, otherwise.nan),
        part(then.up, otherwise.up),
        part(then.down, otherwise.down),
    )
