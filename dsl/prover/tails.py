"""The sign of an expression on a half-line, by dominance: computed, not asserted.

An expression of exponentials of polynomials is a quotient of two polynomials in x and in one
E = exp(-p(x)) that vanishes at infinity. From some x = T on, every monomial with E is at most what
it is at T, and the polynomial in x alone is monotone in size and exceeds their sum.
"""

from math import prod
from typing import Any

import flint
import sympy

from absolver.dsl.prover.exact import PRECISION, X

E = sympy.Symbol("E", positive=True)
# Where a tail may begin; what is before is for interval evaluation.
STARTS = (2, 4, 8, 16, 32)
# Functions that sympy and Arb call alike.
_FUNCTIONS = frozenset({"log", "erf", "erfc", "tanh", "atan"})


def tail_sign(expression: Any, *, left: bool) -> tuple[int, int]:  # noqa: ANN401
    """The sign of an expression beyond some point: (sign, the point's distance from 0).

    Guarantee: for the sign 1 (-1) it is above (below) 0 for all x >= T, or all x <= -T. The sign
    is 0 if that is not found.
    """
    mirrored = expression.subs(X, -X) if left else expression
    quotient = _normal_form(mirrored)
    if quotient is None:
        return 0, 0
    numerator, denominator, decay = quotient
    for start in STARTS:
        signs = [_sign_beyond(part, decay, start) for part in (numerator, denominator)]
        if 0 not in signs:
            return signs[0] * signs[1], start
    return 0, 0


def _normal_form(expression: Any) -> tuple[Any, Any, Any] | None:  # noqa: ANN401
    """Write an expression as N(x, E) / D(x, E) with E = exp(-p(x)); None if it has another form."""
    plain = sympy.powsimp(expression.rewrite(sympy.exp))
    powers = {atom.exp: atom for atom in plain.atoms(sympy.exp)}
    polynomials = [power for power in powers if power.is_polynomial(X) and power.has(X)]
    if len(polynomials) < len(powers):
        return None
    decay = sympy.Integer(0)
    replaced = plain
    if polynomials:
        decay = _least(polynomials)
        for power, atom in powers.items():
            multiple = sympy.simplify(power / decay)
            if not multiple.is_Integer:
                return None
            replaced = replaced.subs(atom, E**-multiple)
    top, bottom = sympy.fraction(sympy.together(replaced))
    if not all(part.is_polynomial(X, E) for part in (top, bottom)):
        return None
    return sympy.Poly(top, X, E), sympy.Poly(bottom, X, E), decay


def _least(polynomials: list[Any]) -> Any:  # noqa: ANN401
    """The polynomial of least size, with the sign that makes it grow."""
    leading = {p: abs(sympy.Poly(p, X).LC()) for p in polynomials}
    least = min(polynomials, key=lambda p: float(leading[p]))
    return least if sympy.Poly(least, X).LC() > 0 else -least


def _sign_beyond(polynomial: Any, decay: Any, start: int) -> int:  # noqa: ANN401
    """The sign of P(x, E) for all x >= start; 0 if it is not found."""
    lowest = min(j for _, j in polynomial.monoms())  # E > 0 is divided out
    terms = [((i, j - lowest), c) for (i, j), c in polynomial.terms()]
    alone = {i: c for (i, j), c in terms if j == 0}
    rest = flint.arb(0)
    for (i, j), coefficient in terms:
        if j == 0:
            continue
        # x^i E^j falls where j x p'(x) > i.
        falling = sympy.Poly(j * X * sympy.diff(decay, X) - i, X)
        if not _grows(_shifted(falling, start)):
            return 0
        size = X**i * sympy.exp(-j * decay)
        rest = rest + abs(evaluated(coefficient)) * evaluated(size.subs(X, start))
    shifted = _shifted(sympy.Poly(sum(c * X**i for i, c in alone.items()), X), start)
    for sign in (1, -1):
        if _grows([sign * each for each in shifted]) and sign * shifted[-1] > rest:
            return sign
    return 0


def _shifted(polynomial: Any, start: int) -> list[Any]:  # noqa: ANN401
    """The coefficients, highest first, of P(start + s), as balls."""
    return [evaluated(c) for c in polynomial.compose(sympy.Poly(X + start, X)).all_coeffs()]


def _grows(coefficients: list[Any]) -> bool:
    """Whether a polynomial is positive at 0 and never falls from there on."""
    *higher, last = coefficients
    return bool(last > 0) and all(c >= 0 or c == 0 for c in higher)


def evaluated(constant: Any) -> Any:  # noqa: ANN401
    """Enclose a constant expression in a ball; NaN, which encloses all, for other forms."""
    flint.ctx.prec = PRECISION
    match constant:
        case sympy.Rational():
            return flint.arb(flint.fmpq(int(constant.p), int(constant.q)))
        case sympy.Add(args=parts):
            return sum((evaluated(part) for part in parts), flint.arb(0))
        case sympy.Mul(args=parts):
            return prod((evaluated(part) for part in parts), start=flint.arb(1))
        case sympy.Pow(base=base, exp=power) if power.is_Rational:
            return evaluated(base) ** evaluated(power)
        case sympy.exp():
            return evaluated(constant.exp).exp()
        case sympy.Function(args=(inner,)) if constant.func.__name__ in _FUNCTIONS:
            return getattr(evaluated(inner), constant.func.__name__)()
    if constant == sympy.pi:
        return flint.arb.pi()
    return flint.arb.const_e() if constant == sympy.E else flint.arb.nan()
