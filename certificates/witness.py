"""The check of a witness: an input of the unsafe set, shown for reals, for a run, for every run."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from absolver.certificates.arithmetic import Array, arithmetic, float_below
from absolver.certificates.boxes import Lines
from absolver.certificates.container import fields
from absolver.certificates.kernel import Kernel, Proposals
from absolver.certificates.network import Ball, Broken, Clause, Constraint, Network, Property
from absolver.certificates.proposals import listed, numbers, whole
from absolver.certificates.semantics import profile
from absolver.certificates.terms import Form, Terms

NARROW = 1e-6
"""A value that misses by less may owe it to rounding, and is tried in rational arithmetic."""


def check_witness(
    network: Network, prop: Property, record: Mapping[str, Any], tier: str
) -> tuple[str, ...]:
    """Return the grades that the record claims.

    Guarantee: each of them holds, in the sense of the certificate format's section 8; that the
    runtime gave the output is believed. Raises `Broken` or `Unsupported` otherwise.
    """
    fields(record, ("record", "clause", "input", "output", "runtime", "grades"))
    grades, number = listed(record["grades"]), whole(record["clause"], 0, len(prop.clauses))
    if record["record"] != "witness" or not isinstance(record["runtime"], str) or not grades:
        raise Broken("this is no witness of any grade")
    point = _fractions(record["input"], network.sizes[0])
    output = _fractions(record["output"], network.sizes[network.output])
    clause = prop.clauses[number]
    for grade in grades:
        try:
            match grade:
                case "exact":
                    inside = _nearest(point, clause)
                    _require_input(inside, clause, prop.ball)
                    _require_output(network, clause, inside, "real", tier)
                case "runtime":
                    _require_input(point, clause, prop.ball)
                    _require(clause.on_outputs, [*point, *output])
                case "all executions":
                    if record["input"].dtype != np.float32:
                        raise Broken(f"the input is {record['input'].dtype}, not float32")
                    _require_input(point, clause, prop.ball)
                    _require_output(network, clause, point, "float32", tier)
                case _:
                    raise Broken("there is no such grade")
        except Broken as error:
            raise Broken(f"clause {number}, grade {grade!r:.40}: {error}") from None
    return tuple(grades)


def _fractions(array: object, size: int) -> list[Fraction]:
    flat = numbers(array, "f").ravel()
    if flat.size != size:
        raise Broken(f"a witness has {flat.size} numbers, the network {size}")
    return [Fraction(x) for x in flat.tolist()]


def _nearest(point: Sequence[Fraction], clause: Clause) -> list[Fraction]:
    """Return the nearest point of the clause's box, each coordinate for itself."""
    raised = [x if end is None else max(x, end) for x, end in zip(point, clause.lower, strict=True)]
    return [x if end is None else min(x, end) for x, end in zip(raised, clause.upper, strict=True)]


def _require_input(point: Sequence[Fraction], clause: Clause, ball: Ball | None) -> None:
    """Raise `Broken` unless the point is in the clause's box, in the ball, and meets the rest."""
    for i, (x, moved) in enumerate(zip(point, _nearest(point, clause), strict=True)):
        if x != moved:
            outside = float_below(x - moved)
            raise Broken(f"input {i} is {float_below(x)!r}, outside of the box by {outside:.3g}")
    if clause.empty:
        raise Broken("the clause's box is empty")
    if ball is not None:
        away = [abs(x - c) for x, c in zip(point, ball.center, strict=True)]
        if sum(d**ball.norm for d in away) > ball.radius**ball.norm:
            raise Broken(f"the input is outside of the ball of radius {float_below(ball.radius)}")
    _require((*clause.on_inputs, *clause.strict), point)


def _require(constraints: Sequence[Constraint], values: Sequence[Fraction]) -> None:
    """Raise `Broken` unless the values, inputs before outputs, meet the constraints exactly."""
    for i, constraint in enumerate(constraints):
        excess = sum(q * values[k] for k, q in constraint.terms) - constraint.bound
        if excess > 0 or (excess == 0 and constraint.strict):
            raise Broken(f"constraint {i} is missed by {float_below(excess):.6g}")


def _require_output(
    network: Network, clause: Clause, point: Sequence[Fraction], semantics: str, tier: str
) -> None:
    """Raise `Broken` unless bounds over the one point show the constraints on outputs."""
    least, missed = -np.inf, 0
    # Over the reals a value may be exact: where rounding decides, rationals have the last word.
    for attempt in dict.fromkeys((tier, "rational") if semantics == "real" else (tier,)):
        kernel = Kernel(network, arithmetic(attempt), profile(semantics))
        for values in _margins(kernel, clause, point):
            strict = [constraint.strict for constraint in clause.on_outputs]
            shown = [v > 0 or (v == 0 and not s) for v, s in zip(values, strict, strict=True)]
            if all(shown):
                return
            missed = shown.index(False)
            least = float_below(values[missed])
        if not least > -NARROW:
            break
    raise Broken(f"constraint {missed} may be missed by {-least:.6g}")


def _margins(kernel: Kernel, clause: Clause, point: Sequence[Fraction]) -> Iterator[Array]:
    """Yield lower bounds of `bound - sum of terms` at the point: by intervals, then with rows."""
    forms = [
        Form(c.bound, {kernel.network.place(k): -q for k, q in c.terms}) for c in clause.on_outputs
    ]
    lines = {
        v: Lines(["chord"], ["chord"])
        for v in kernel.network.operators.values()
        if len(kernel.operands[v]) == 1
    }
    facts, terms = kernel.root(point, point), Terms.of(forms, kernel.arithmetic)
    for proposals in (Proposals(lines), Proposals(undecided=True)):
        facts = kernel.enter(facts, proposals)
        if not facts.alive.all():
            raise Broken("no value of a node is left at the point")
        kernel.require_range(facts.steps, facts.alive)
        yield kernel.bound(facts, terms, {})[0]
