"""Formulas over exact numbers: sympy's expressions, and balls that enclose the reals (Arb)."""

from collections.abc import Callable
from functools import cache
from math import factorial, inf
from typing import Any

import flint
import sympy

from absolver.dsl.operators.arithmetic import Formula, symbolic

X = sympy.Symbol("x", real=True)
# Enough that the curvature one float of single precision beside an inflection point is not lost.
PRECISION = 128


class Exact:
    """An expression of sympy in which Python's floats are the rationals that they are."""

    def __init__(self, expression: Any) -> None:  # noqa: ANN401
        """Keep the expression."""
        self.expression = exactly(expression)

    def __add__(self, other: object) -> "Exact":
        """Sum."""
        return Exact(self.expression + exactly(other))

    def __mul__(self, other: object) -> "Exact":
        """Product."""
        return Exact(self.expression * exactly(other))

    def __sub__(self, other: object) -> "Exact":
        """Difference."""
        return Exact(self.expression - exactly(other))

    def __truediv__(self, other: object) -> "Exact":
        """Quotient."""
        return Exact(self.expression / exactly(other))

    def __neg__(self) -> "Exact":
        """Negation."""
        return Exact(-self.expression)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: object) -> "Exact":
        """Difference."""
        return Exact(exactly(other) - self.expression)

    def __rtruediv__(self, other: object) -> "Exact":
        """Quotient."""
        return Exact(exactly(other) / self.expression)


def exactly(number: object) -> Any:  # noqa: ANN401
    """An expression without rounding."""
    if isinstance(number, Exact):
        return number.expression
    return sympy.Rational(number) if isinstance(number, float) else sympy.sympify(number)


class _Lifted:
    """The arithmetic of sympy for numbers of this file."""

    def __init__(self) -> None:
        self._plain = symbolic()
        self.pi = Exact(self._plain.pi)

    def power(self, x: Exact, exponent: float) -> Exact:
        return Exact(exactly(x) ** exactly(exponent))

    def __getattr__(self, name: str) -> Callable[[Any], Exact]:
        function = getattr(self._plain, name)
        return lambda x: Exact(function(exactly(x)))


def expression_of(formula: Formula) -> Any:  # noqa: ANN401
    """A formula of `x` as an expression of sympy."""
    return exactly(formula(Exact(X), _Lifted()))


# Balls.


class _Balls:
    """The arithmetic of Arb: what it returns encloses the exact result."""

    @property
    def pi(self) -> Any:  # noqa: ANN401
        return flint.arb.pi()

    def power(self, x: Any, exponent: float) -> Any:  # noqa: ANN401
        if float(exponent).is_integer():
            whole = int(exponent)
            result = flint.arb_series([1], x.prec) if isinstance(x, flint.arb_series) else 1
            for _ in range(abs(whole)):
                result = result * x
            return result if whole >= 0 else 1 / result
        return (x.log() * exponent).exp()

    def sigmoid(self, x: Any) -> Any:  # noqa: ANN401
        return 1 / (1 + (-x).exp())

    def softplus(self, x: Any) -> Any:  # noqa: ANN401
        return (1 + x.exp()).log()

    def expm1(self, x: Any) -> Any:  # noqa: ANN401
        return x.exp() - 1

    def tanh(self, x: Any) -> Any:  # noqa: ANN401
        return 2 / (1 + (-2 * x).exp()) - 1

    def sqrt(self, x: Any) -> Any:  # noqa: ANN401
        return flint.arb(x).sqrt() if isinstance(x, int | float) else x.sqrt()

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        return lambda x: getattr(x, name)()


@cache
def _balls() -> Any:  # noqa: ANN401
    flint.ctx.prec = PRECISION
    return _Balls()


def ball(low: float, high: float) -> Any:  # noqa: ANN401
    """The ball around an interval, which is exact but for an outward rounding."""
    arithmetic = _balls()
    del arithmetic
    return flint.arb(low).union(flint.arb(high))


def enclosed(formula: Formula, low: float, high: float, derivatives: int = 0) -> list[Any]:
    """Enclose a formula over an interval, and as many of its derivatives.

    Guarantee: at each x of the interval the k-th derivative is in the k-th ball. A ball that is
    not finite encloses everything, what is undefined included.
    """
    m = _balls()
    series = flint.arb_series([ball(low, high), 1], derivatives + 1)
    try:
        value = formula(series, m)
    except (ValueError, ZeroDivisionError):  # a divisor's ball contains 0: nothing is known
        return [flint.arb.nan()] * (derivatives + 1)
    if not isinstance(value, flint.arb_series):
        value = flint.arb_series([value], derivatives + 1)
    if value.prec < derivatives + 1:  # too few terms are known
        raise ArithmeticError("a formula loses terms of its series")
    return [value[k] * factorial(k) for k in range(derivatives + 1)]


def sign_between(formula: Formula, low: float, high: float, order: int, budget: int = 4000) -> int:
    """The sign of a derivative of a formula on a finite interval: 1, -1, or 0 if not known.

    Guarantee: for 1 (-1) the derivative of that order exceeds 0 (is below 0) on all of it.
    """
    if low == -inf or high == inf:
        raise ValueError("the interval has to be finite")
    found = 0
    work = [(low, high)]
    while work:
        budget -= 1
        if budget < 0:
            return 0
        start, end = work.pop()
        sign = _sign_here(formula, start, end, order)
        middle = start + (end - start) / 2
        if sign == 0 and not start < middle < end:
            return 0
        if sign == 0:
            work += [(start, middle), (middle, end)]
        elif found in (0, sign):
            found = sign
        else:
            return 0
    return found


def _sign_here(formula: Formula, low: float, high: float, order: int) -> int:
    """The sign by the mean-value form: the derivative's value in the middle, and its slope."""
    here = enclosed(formula, low, high, order + 1)
    middle = low + (high - low) / 2
    center = enclosed(formula, middle, middle, order)[order]
    spread = here[order + 1] * (ball(low, high) - flint.arb(middle))
    for enclosure in (here[order], center + spread):
        if enclosure > 0:
            return 1
        if enclosure < 0:
            return -1
    return 0
