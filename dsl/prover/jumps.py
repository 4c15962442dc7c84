"""Staircases: what is known of them, and their own methods run on it."""

from collections.abc import Callable
from typing import Any

import z3

from absolver.dsl.operators.staircase import Staircase
from absolver.dsl.prover.paths import assume, decide, fresh
from absolver.dsl.prover.reals import Flag, Real, at_most, both, either, negation, rational
from absolver.dsl.prover.sketch import bounded_box, point_in
from absolver.dsl.prover.terms import Term, real_of


class Whole:
    """Rounding to a whole number, of which is known what every staircase has.

    n + start <= x <= n + start + 1; it never falls; different values differ by 1 at least.
    """

    def __init__(self, start: float) -> None:
        """Nothing is known yet."""
        self._start = rational(start)
        self._points: list[tuple[Any, Any]] = []

    def __call__(self, x: Term) -> Term:
        """The whole number at a point."""
        for known, level in self._points:
            if known.eq(x.value):
                return Term(Real(level))
        level = fresh("level")
        assume(level + self._start <= x.value, x.value <= level + self._start + 1)
        for y, other in self._points:
            assume(
                z3.Implies(x.value <= y, level <= other), z3.Implies(x.value >= y, level >= other)
            )
            assume(z3.Or(level == other, level + 1 <= other, other + 1 <= level))
        self._points.append((x.value, level))
        return Term(Real(level))


def staircase(operator: Any) -> Any:  # noqa: ANN401
    """A staircase with the methods of another one, of which only that is known."""
    whole = Whole(operator.start)
    kind = type(operator)
    body = {"__call__": lambda itself, x: whole(x)}
    return object.__new__(type(f"Sketched{kind.__name__}", (kind,), body))


def level_by_level(operator: Staircase) -> Callable[[], Flag]:
    """No point of the box is below a staircase's support: by its level, and by signs."""

    def program() -> Flag:
        steps = staircase(operator)
        box = bounded_box()
        x = point_in(box)
        a, b = Term.unknown("a"), Term.unknown("b")
        first, level, last = (steps(each).value for each in (box.lower, x, box.upper))
        # Inner levels lie between the second and the last but one, on a line in the level.
        decide(a.value >= 0)
        decide(a.value + b.value >= 0)
        if not decide(level == first):
            decide(level == last)
        bound = real_of(steps.support([a], b, [box]))
        return both(
            negation(either(bound.nan, bound.up)), at_most(bound, (a * x + b * steps(x)).real)
        )

    return program
