"""What every operator owes, as programs: its own methods, run on symbolic numbers."""

from collections.abc import Callable, Sequence
from itertools import product as combinations
from typing import Any

from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval
from absolver.dsl.prover.paths import assume, decide
from absolver.dsl.prover.reals import Flag, at_most, both, either, negation
from absolver.dsl.prover.sketch import bounded_box, inside, point_in
from absolver.dsl.prover.stacks import Stack  # noqa: F401  # torch.stack is found there
from absolver.dsl.prover.terms import Term, flag_of, real_of

Make = Callable[[], Any]
"""Makes the operator, anew for each run: it may remember what it has decided."""


def boxes(arity: int) -> tuple[list[Any], list[Any]]:
    """A bounded box and a point in it."""
    names = [""] if arity == 1 else [str(k) for k in range(arity)]
    box = [bounded_box(name) for name in names]
    return box, [point_in(each, f"x{name}") for each, name in zip(box, names, strict=True)]


def form(operator: Any, a: Sequence[Term], b: Term, x: Sequence[Term]) -> Term:  # noqa: ANN401
    """The form `a · x + b f(x)` at a point."""
    result: Term = b * operator(*x)
    for slope, each in zip(a, x, strict=True):
        result = result + slope * each
    return result


def support_is_sound(make: Make, arity: int = 1) -> Callable[[], Flag]:
    """No point of the box is below the support, which is a number or -inf."""

    def program() -> Flag:
        operator = make()
        box, x = boxes(arity)
        a, b = [Term.unknown(f"a{k}") for k in range(arity)], Term.unknown("b")
        bound = operator.support(a, b, box).real
        return both(
            negation(either(bound.nan, bound.up)), at_most(bound, real_of(form(operator, a, b, x)))
        )

    return program


def support_is_attained(
    make: Make, arity: int, candidates: Callable[..., list[Sequence[Term]]]
) -> Callable[[], Flag]:
    """The support is the value at one of some points of the box."""

    def program() -> Flag:
        operator = make()
        box, _ = boxes(arity)
        a, b = [Term.unknown(f"a{k}") for k in range(arity)], Term.unknown("b")
        bound = operator.support(a, b, box).real
        hits = []
        for point in candidates(operator, a, b, box):
            there = real_of(form(operator, a, b, point))
            within = [
                both((i.lower <= x).flag, (x <= i.upper).flag)
                for i, x in zip(box, point, strict=True)
            ]
            hits.append(both(bound.finite, there.finite, there.value == bound.value, *within))
        return either(*hits)

    return program


def vertices(_: object, a: object, b: object, box: Sequence[Any]) -> list[Sequence[Term]]:
    """The vertices of a box."""
    del a, b
    return [list(ends) for ends in combinations(*box)]


def corners(
    operator: PiecewiseLinear, a: object, b: object, box: Sequence[Any]
) -> list[Sequence[Any]]:
    """The ends of an interval and the joints inside."""
    del a, b
    return [[corner.x] for corner in operator.corners(box[0])]


def range_encloses(make: Make, arity: int = 1) -> Callable[[], Flag]:
    """The value at each point of the box lies in the range."""

    def program() -> Flag:
        operator = make()
        box, x = boxes(arity)
        low, high = operator.range(box)
        value = operator(*x).real
        known = either(
            negation(value.finite), both(at_most(low.real, value), at_most(value, high.real))
        )
        return both(negation(either(low.real.nan, high.real.nan)), known)

    return program


def quadratics_hold(make: Make, arity: int = 1) -> Callable[[], Flag]:
    """The quadratic constraints hold of each point of the box and its value."""

    def program() -> Flag:
        operator = make()
        box, x = boxes(arity)
        value = operator(*x)
        claims: list[Flag] = []
        for quadratic in operator.quadratics(box):
            side = quadratic.at(tuple(x), value)
            claims.append((side == 0).flag if quadratic.equality else (side >= 0).flag)
        return either(negation(value.real.finite), both(*claims))

    return program


def affine_where_it_says(make: Make, arity: int = 1) -> Callable[[], Flag]:
    """Where the operator is said to be affine, it is: with the slopes that are given."""

    def program() -> Flag:
        operator = make()
        box, x = boxes(arity)
        affine, slopes = operator.affine_on(box)
        line = operator(*(each.lower for each in box))
        for slope, each, interval in zip(slopes, x, box, strict=True):
            line = line + Term.of(slope) * (each - interval.lower)
        value = operator(*x)
        return either(negation(flag_of(affine)), negation(value.real.finite), (value == line).flag)

    return program


def derivative_encloses(make: Make, arity: int = 1) -> Callable[[], Flag]:
    """Every difference quotient over the box lies in the derivative's enclosure."""

    def program() -> Flag:
        operator = make()
        box, x = boxes(arity)
        claims = []
        for place, (low, high) in enumerate(operator.derivative(box)):
            y = list(x)
            y[place] = point_in(box[place], "y")
            assume(x[place].value < y[place].value)
            rise = operator(*y) - operator(*x)
            run = y[place] - x[place]
            claims += [(low * run <= rise).flag, (rise <= high * run).flag]
        return both(*claims)

    return program


def slopes_enclosed(make: Make) -> Callable[[], Flag]:
    """The derivative formula of each piece that the box meets lies in the enclosure."""

    def program() -> Flag:
        operator = make()
        (interval,), (x,) = boxes(1)
        ((low, high),) = operator.derivative([interval])
        claims = []
        for piece in operator.pieces:
            slope = piece.slope_at(x)
            here = both(inside(piece, x.value), flag_of(piece.met_by(*interval)))
            enclosed = both(
                at_most(real_of(low), real_of(slope)), at_most(real_of(slope), real_of(high))
            )
            claims.append(either(negation(here), enclosed))
        return both(*claims)

    return program


def curvature_is_right(make: Make) -> Callable[[], Flag]:
    """Where the operator is said to be convex (concave), slopes do not fall (rise) over the box."""

    def program() -> Flag:
        operator = make()
        interval = bounded_box()
        p, q = point_in(interval, "p"), point_in(interval, "q")
        assume(p.value < q.value)
        for piece in operator.pieces[1:]:  # the chain of slopes goes through the joints
            piece.slope_at(Term.of(piece.start))
        curvature = real_of(operator.curvature([interval]))
        claims = []
        for i, first in enumerate(operator.pieces):
            for second in operator.pieces[i:]:
                a, b = real_of(first.slope_at(p)), real_of(second.slope_at(q))
                here = [
                    both(inside(piece, x.value), flag_of(piece.met_by(*interval)))
                    for piece, x in ((first, p), (second, q))
                ]
                right = both(
                    either(curvature.value <= 0, at_most(a, b)),
                    either(curvature.value >= 0, at_most(b, a)),
                )
                finite = both(a.finite, b.finite)
                claims.append(either(negation(both(*here, finite)), right))
        return both(*claims)

    return program


def inverse_keeps(make: Make, arity: int = 1) -> Callable[[], Flag]:
    """A point whose value lies in the output is in the intervals that the inverse leaves."""

    def program() -> Flag:
        operator = make()
        box, x = boxes(arity)
        low, high = Term.unknown("low"), Term.unknown("high")
        value = operator(*x)
        assume((low <= value).flag, (value <= high).flag)
        kept = [
            both((i.lower <= each).flag, (each <= i.upper).flag)
            for i, each in zip(operator.inverse(Interval(low, high), box), x, strict=True)
        ]
        return both(*kept)

    return program


def quotient_keeps(make: Make, place: int) -> Callable[[], Flag]:
    """A factor of a product in the output is in what the inverse leaves of it: sign by sign."""

    def program() -> Flag:
        operator = make()
        box, x = boxes(2)
        low, high = Term.unknown("low"), Term.unknown("high")
        value = operator(*x)
        assume((low <= value).flag, (value <= high).flag)
        other = box[1 - place]
        if not decide(other.lower.value > 0):
            decide(other.upper.value < 0)
        for number in (x[place], low, high):
            decide(number.value >= 0)
        kept = operator.inverse(Interval(low, high), box)[place]
        return both((kept.lower <= x[place]).flag, (x[place] <= kept.upper).flag)

    return program
