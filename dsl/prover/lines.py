"""Lines that a rule writes out: proved to bound the operator, or refuted by a point.

A refutation is found by plain evaluation, and is one. A proof is z3's: with the operator's own code
where it is piecewise linear or polynomial, else with what its pieces and exact values say.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from absolver.dsl.checker import CheckedDomain
from absolver.dsl.operators.unary import Unary
from absolver.dsl.prover.counterexamples import confirmed, searched
from absolver.dsl.prover.domains import abstract
from absolver.dsl.prover.facts import boxes
from absolver.dsl.prover.meaning import Meaning
from absolver.dsl.prover.obligations import (
    Answer,
    Obligation,
    Status,
    combined,
    undecided,
)
from absolver.dsl.prover.operators import instances
from absolver.dsl.prover.paths import assume
from absolver.dsl.prover.pins import pin
from absolver.dsl.prover.reals import Flag, both, negation
from absolver.dsl.prover.solver import follows
from absolver.dsl.prover.terms import Term, flag_of
from absolver.dsl.written import WrittenLine, written_lines

# Proved for some attributes only, of which there are more.
_INCOMPLETE = frozenset({"elu", "pow"})


def line_obligations(domain: CheckedDomain) -> Iterator[Obligation]:
    """What a domain's written lines owe, those of its factors and of its bounds included."""
    for part in (*domain.factors, *([domain.bounds_from] if domain.bounds_from else [])):
        yield from line_obligations(part)
    if not domain.factors:
        for line in written_lines(domain.rules):
            yield line_obligation(domain.name, line)


def line_obligation(domain: str, line: WrittenLine) -> Obligation:
    """What a written line owes: to be on its side of the operator wherever its rule is asked."""
    where = "above" if line.side == "upper" else "below"
    claim = f"{line.operator}: the {line.side} line is {where} the operator"
    return Obligation(domain, claim, partial(bounds, line), f"line {line!r}")


def bounds(line: WrittenLine) -> Answer:
    """Decide whether a line bounds its operator."""
    answers = []
    for name, make in instances().items():
        if name.split(" ")[0] != line.operator:
            continue
        point = searched(line, name)
        if point is not None:
            return Answer(Status.REFUTED, _what(line), point)
        answers.append(_confirmed(line, follows(partial(_program, line, make))))
    if line.operator in _INCOMPLETE:
        answers.append(undecided("not decided for all attributes of the operator"))
    return combined(*answers)


def _what(line: WrittenLine) -> str:
    return f"the {line.side} line is {'below' if line.side == 'upper' else 'above'} the operator"


def _confirmed(line: WrittenLine, answer: Answer) -> Answer:
    """Believe a refutation by z3 only if a plain evaluation shows it too."""
    if answer.status is not Status.REFUTED:
        return answer
    point = confirmed(line, answer.point.values if answer.point else {})
    if point is None:
        return undecided("what is known of the operator does not suffice, and no point breaks it")
    return Answer(Status.REFUTED, _what(line), point, answer.queries)


def _program(line: WrittenLine, make: Callable[[], Any]) -> Flag:
    exact = make()
    operator = abstract(exact, values=True)
    box, x = boxes(len(line.operands))
    affine, _ = operator.affine_on(box)
    assume(negation(flag_of(affine)))
    if isinstance(exact, Unary):
        defined = operator.defined_on(*box[0])
        assume(True if defined is None else defined.flag)
        pin(exact, operator, [*box[0], *x])
    meaning = Meaning(operator, tuple(box), line.operands)
    height = meaning.number(line.slope.intercept) if line.slope.intercept else Term.of(0)
    for slope, each in zip(meaning.slopes(line.slope), x, strict=True):
        height = height + slope * each
    value = operator(*x)
    right = value <= height if line.side == "upper" else height <= value
    return both(*(owed.flag for owed in meaning.owed), flag_of(right))
