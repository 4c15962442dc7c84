"""Step functions and waves: what is known of them, and their own methods run on it."""

from typing import Any

import z3

from absolver.dsl.prover.paths import assume, fresh
from absolver.dsl.prover.reals import Real, rational
from absolver.dsl.prover.terms import Term


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
