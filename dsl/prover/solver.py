"""Questions to z3: whether a claim follows on every way through a symbolic program."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import z3

from absolver.dsl.prover.obligations import Answer, Point, Status
from absolver.dsl.prover.paths import paths
from absolver.dsl.prover.reals import Flag, negation

SECONDS = 10.0
"""How long one question may take."""

Claim = Flag
Program = Callable[[], Claim]
"""Runs the code in question on symbolic numbers and returns what is claimed of it."""


def follows(
    program: Program, *, seconds: float = SECONDS, satisfiable: bool = True, detail: str = "z3"
) -> Answer:
    """Say whether the claim of a program holds on all ways through it.

    With `satisfiable`, hypotheses that contradict each other on every way prove nothing.
    """
    queries = []
    possible = not satisfiable
    for assumed, claim in paths(program):
        solver = z3.Solver()
        solver.set("timeout", int(1000 * seconds))
        solver.add(*assumed)
        possible = possible or _possible(assumed)
        if claim is True:
            continue
        solver.add(negation(claim))
        queries.append(solver.to_smt2())
        answer = solver.check()
        if answer == z3.sat:
            point = Point(_decimals(solver.model()))
            return Answer(Status.REFUTED, "z3 has a model", point, tuple(queries))
        if answer != z3.unsat:
            reason = f"z3: {solver.reason_unknown()}"
            return Answer(Status.UNDECIDED, reason, queries=tuple(queries))
    if not possible:
        return Answer(Status.UNDECIDED, "no case is possible", queries=tuple(queries))
    return Answer(Status.PROVED, detail, queries=tuple(queries))


def _possible(assumed: list[Any]) -> bool:
    """Say whether hypotheses are known to be satisfiable."""
    solver = z3.Solver()
    solver.set("timeout", int(1000 * SECONDS))
    solver.add(*assumed)
    return bool(solver.check() == z3.sat)


def _decimals(model: Any) -> dict[str, float]:  # noqa: ANN401
    """The reals of a model, as the floats nearest to them."""
    found = {}
    for declared in model.decls():
        value = model[declared]
        if z3.is_algebraic_value(value):
            value = value.approx(60)
        if z3.is_rational_value(value):
            found[declared.name()] = float(Fraction(value.as_fraction()))
    return dict(sorted(found.items()))
