"""What is known of a smooth operator beyond its bends: exact values at some points, and limits."""

from itertools import product
from math import inf, isinf, nextafter
from typing import Any

import sympy
import z3

from absolver.dsl.operators.arithmetic import Formula
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.unary import Unary
from absolver.dsl.prover.exact import X, enclosed, expression_of
from absolver.dsl.prover.paths import assume
from absolver.dsl.prover.reals import rational
from absolver.dsl.prover.sketch import inside
from absolver.dsl.prover.terms import Term, real_of

# Beside the joints, where papers put a line's point of contact.
_PLACES = (0.0, 1.0)


def pin(exact: Unary, sketched: Any, points: list[Any]) -> None:  # noqa: ANN401
    """Assume of a sketch the values that its operator has, and that its slopes are monotone."""
    if isinstance(exact, PiecewiseLinear):
        return
    places = {end for piece in exact.pieces for end in (piece.start, piece.end) if not isinf(end)}
    for known, unknown in zip(exact.pieces, sketched.pieces, strict=True):
        for place in sorted({*places, *_PLACES}):
            if known.start <= place <= known.end:
                x: Any = Term.of(place)
                _assume_value(known.value, place, real_of(unknown.value_at(x)).value)
                _assume_value(known.derivative, place, real_of(unknown.slope_at(x)).value)
    if exact.monotone:
        _between_limits(exact, sketched, points)


def _assume_value(formula: Formula, place: float, value: Any) -> None:  # noqa: ANN401
    exact = expression_of(formula).subs(X, sympy.Rational(place))
    if exact.is_Rational:
        assume(value == z3.Q(int(exact.p), int(exact.q)))
        return
    ball = enclosed(formula, place, place)[0]
    if ball.is_finite():
        low, high = float(ball.lower()), float(ball.upper())
        assume(rational(nextafter(low, -inf)) <= value, value <= rational(nextafter(high, inf)))


def _between_limits(exact: Unary, sketched: Any, points: list[Any]) -> None:  # noqa: ANN401
    """A monotone operator stays between its limits, and does not fall between two points."""
    first, last = exact.pieces[0], exact.pieces[-1]
    values = [real_of(sketched(x)).value for x in points]
    for piece, end, at_most in ((first, first.start, False), (last, last.end, True)):
        if not isinf(end):
            continue
        limit = sympy.limit(expression_of(piece.value), X, sympy.oo if at_most else -sympy.oo)
        if limit.is_Rational:
            bound = z3.Q(int(limit.p), int(limit.q))
            assume(*(value <= bound if at_most else bound <= value for value in values))
    for (x, f), (y, g) in product(zip(points, values, strict=True), repeat=2):
        assume(z3.Implies(x.value <= y.value, f <= g))
    for piece, x in product(sketched.pieces, points):
        slope = real_of(piece.slope_at(x))
        assume(z3.Implies(z3.And(inside(piece, x.value), slope.finite), slope.value >= 0))
