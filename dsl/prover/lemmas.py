"""What is proved once for all operators: the bound on one piece, and that pieces add up.

`Unary.support` is the minimum of a bound for each piece. The first lemma says that `_least_on` is
such a bound for any function with the facts of a piece; the second that the minimum of such bounds
is one for the whole box. With the facts (`calculus`) they give the operator's support.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import z3

from absolver.dsl.operators.piece import Bend, Piece
from absolver.dsl.operators.record import Interval, Shape, trusted
from absolver.dsl.operators.tangent import tangent_point
from absolver.dsl.operators.unary import Unary
from absolver.dsl.prover.paths import assume, fresh
from absolver.dsl.prover.reals import Flag, Real, at_most, both, either, negation
from absolver.dsl.prover.sketch import (
    Curve,
    anything,
    bounded_box,
    height,
    inside,
    point_in,
    sketch,
)
from absolver.dsl.prover.terms import Term, real_of


class OnePiece(Unary):
    """Any function with one piece of a bend, between ends of which nothing is known."""

    name, onnx, shape = "one piece", (), Shape.OTHER
    smooth = monotone = piecewise_linear = False

    def __init__(self, bend: Bend) -> None:
        """Make the piece."""
        curve = Curve()
        start, end = Term.unknown("start"), Term.unknown("end")
        assume(start.value <= end.value)
        slopes: Any = None
        if bend is Bend.UNKNOWN:
            slopes = Term.unknown("least"), Term.unknown("most")
            assume(slopes[0].value <= slopes[1].value)
        self.piece = Piece(start, end, bend, curve.value, curve.derivative, anything, slopes)
        curve.spans.append(self.piece)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The only one."""
        return (self.piece,)


def tangent_point_is_inside() -> Flag:
    """Whatever is proposed, NaN and infinities too, the tangent is taken in the interval."""
    here = bounded_box()
    point: Any = tangent_point(here, anything(Term.of(0)))
    inside_it = both((here.lower <= point).flag, (point <= here.upper).flag)
    return both(point.real.finite, inside_it)


def bound_on_a_piece(bend: Bend, *, positive: bool) -> Callable[[], Flag]:
    """`_least_on` is below the form on the part of a piece that it is asked for, for b > 0 or not.

    The part may also be a single point beside the piece: so it is where a box misses the piece.
    The tangent is taken at any point of the part (`tangent_point_is_inside`).
    """

    def program() -> Flag:
        operator = OnePiece(bend)
        here = bounded_box()
        x = point_in(here)
        piece = replace(operator.piece, stationary=lambda _: point_in(here, "t"))
        ends = [end.value for end in here]
        assume(either(ends[0] == ends[1], both(*(inside(piece, end) for end in ends))))
        a, b = Term.unknown("a"), Term.unknown("b")
        assume(b.value > 0 if positive else b.value <= 0)
        bound = _bound(operator, piece, here, a, b)
        return at_most(bound, real_of(height(operator, a, b, x)))

    return program


def tight_on_a_piece(bend: Bend) -> Callable[[], Flag]:
    """`_least_on` is taken at an end, or at the proposed point if the form is stationary there."""

    def program() -> Flag:
        operator = OnePiece(bend)
        piece = operator.piece
        here = bounded_box()
        low, high = (end.value for end in here)
        assume(both(inside(piece, low), inside(piece, high)))
        a, b = Term.unknown("a"), Term.unknown("b")
        stationary = Term.unknown("t")
        # The point with the wanted derivative, or the end of the interval that is nearest to it.
        slope: Any = piece.slope_at(stationary)
        rise = a + b * slope
        assume(low <= stationary.value, stationary.value <= high, slope.real.finite)
        assume(
            either(
                rise.value == 0,
                both(stationary.value == low, rise.value >= 0),
                both(stationary.value == high, rise.value <= 0),
            )
        )
        piece = replace(piece, stationary=lambda _: stationary)
        ends = [height(operator, a, b, end) for end in (*here, stationary)]
        bound = _bound(operator, piece, here, a, b)
        return either(*(bound.value == each.value for each in ends))

    return program


def _bound(operator: OnePiece, piece: Piece, here: Interval, a: Term, b: Term) -> Real:
    """What `support` takes from a part of a piece."""
    chord = torch.minimum(*(height(operator, a, b, end) for end in here))
    form: tuple[Any, Any] = a, b
    bound: Any = trusted(operator._least_on(piece, here, *form, chord))
    result: Real = bound.real
    return result


def bounds_add_up(operator: Unary) -> Callable[[], Flag]:
    """Where each piece's bound is right, the support is: the pieces cover every box."""

    def program() -> Flag:
        asked: list[Any] = []

        def least_on(itself: Any, piece: Piece, here: Interval, *form: Any) -> Term:  # noqa: ANN401
            del itself, piece, form
            bound = Term(Real(fresh("bound")))
            asked.append((here, bound))
            return bound

        operator_here = sketch(operator, values=False, _least_on=least_on)
        box = bounded_box()
        x = point_in(box)
        a, b = Term.unknown("a"), Term.unknown("b")
        result = operator_here.support([a], b, [box])
        value = height(operator_here, a, b, x)
        for (low, high), bound in asked:
            here = both(low.value <= x.value, x.value <= high.value)
            assume(z3.Implies(here, bound.value <= value.value))
        result = result.real
        return both(negation(either(result.nan, result.up)), at_most(result, value.real))

    return program


def parts_lie_in_pieces(operator: Unary) -> Callable[[], Flag]:
    """What `_least_on` is asked for is a part of its piece, or a single point."""

    def program() -> Flag:
        claims: list[Flag] = []

        def least_on(itself: Any, piece: Piece, here: Interval, *form: Any) -> Term:  # noqa: ANN401
            del itself, form
            low, high = (real_of(end).value for end in here)
            part = both(inside(piece, low), inside(piece, high))
            claims.append(both(low <= high, either(low == high, part)))
            return Term.of(0)

        here = sketch(operator, values=False, _least_on=least_on)
        box = bounded_box()
        here.support([Term.unknown("a")], Term.unknown("b"), [box])
        lower, upper = box
        defined = here.defined_on(lower, upper)
        where = True if defined is None else defined.flag
        return either(negation(where), both(*claims))

    return program
