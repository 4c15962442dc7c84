"""What a domain owes: every rule is defined wherever it is asked, and its parameters can start.

Any finite slope is sound, since the operator's support finds the intercept (DESIGN, idea 1). So a
rule owes no more than that its slopes are finite; lines that it writes out are for `lines`.
"""

from collections.abc import Callable, Iterator
from typing import Any

from z3 import z3util

from absolver.dsl.checker import CheckedDomain
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval
from absolver.dsl.operators.staircase import Staircase
from absolver.dsl.operators.unary import Unary
from absolver.dsl.prover.any_arity import for_any_number, operands_that_matter, takes_any_number
from absolver.dsl.prover.facts import boxes
from absolver.dsl.prover.groups import group_obligations
from absolver.dsl.prover.jumps import staircase
from absolver.dsl.prover.meaning import Meaning, Owed
from absolver.dsl.prover.obligations import Answer, Obligation, Status, combined
from absolver.dsl.prover.operators import instances
from absolver.dsl.prover.paths import assume, fresh, fresh_flag, paths
from absolver.dsl.prover.reals import Flag, Real, both, choice, negation
from absolver.dsl.prover.sketch import sketch
from absolver.dsl.prover.solver import follows
from absolver.dsl.prover.terms import Mask, Term, flag_of, real_of
from absolver.dsl.syntax import CheckedRule


def obligations(domain: CheckedDomain) -> Iterator[Obligation]:
    """All that a domain owes, its factors and the domain of its bounds included."""
    for factor in domain.factors:
        yield from obligations(factor)
    if domain.factors:
        return
    for name, make in instances().items():
        operator = name.split(" ")[0]
        rule = _rule_for(domain, operator)
        if rule is not None and domain.carrier.has_lines:
            yield Obligation(
                domain.name,
                f"{name}: slopes are finite, starts are in range",
                _deciding(rule, make),
                f"{name}: {rule!r}",
            )
    yield from group_obligations(domain, _deciding)
    if domain.bounds_from is not None:
        yield from obligations(domain.bounds_from)


def _rule_for(domain: CheckedDomain, operator: str) -> CheckedRule | None:
    if operator in domain.rules:
        return domain.rules[operator]
    return domain.default if OPERATORS[operator].operands == ("x",) else None


def _deciding(rule: CheckedRule, make: Callable[[], Any]) -> Callable[[], Answer]:
    def decide() -> Answer:
        if takes_any_number(rule):
            most = operands_that_matter(rule)
            return for_any_number(lambda arity: _decided(rule, make, arity), 2, most)
        return _decided(rule, make, len(rule.operands))

    return decide


def _decided(rule: CheckedRule, make: Callable[[], Any], arity: int) -> Answer:
    def program() -> Flag:
        return both(*(owed.flag for owed in meaning_of(rule, make, arity).owed))

    answer = follows(program)
    return answer if answer.status is Status.PROVED else _located(rule, make, arity)


def _located(rule: CheckedRule, make: Callable[[], Any], arity: int) -> Answer:
    """Prove one condition after the other, to say which of them fails, and where it stands."""
    answers: list[Answer] = []
    says = [f"line {owed.span.line}: {owed.says}" for owed in _all_owed(rule, make, arity)]
    for place, what in enumerate(says):

        def program(place: int = place) -> Flag:
            owed = meaning_of(rule, make, arity).owed
            return owed[place].flag if place < len(owed) else True

        answer = follows(program)
        detail = what if answer.status is Status.REFUTED else f"{what}: {answer.detail}"
        answers.append(Answer(answer.status, detail, answer.point, answer.queries))
    return combined(*answers)


def _all_owed(rule: CheckedRule, make: Callable[[], Any], arity: int) -> list[Owed]:
    runs = paths(lambda: meaning_of(rule, make, arity).owed)
    return max((owed for _, owed in runs), key=len)


def meaning_of(rule: CheckedRule, make: Callable[[], Any], arity: int) -> Meaning:
    """Evaluate a rule on any box on which it is asked: where f is not affine."""
    operator = abstract(make(), values=False)
    box, _ = boxes(arity)
    affine, _ = operator.affine_on(box)
    assume(negation(flag_of(affine)))
    if hasattr(operator, "defined_on"):
        defined = operator.defined_on(*box[0])
        assume(True if defined is None else defined.flag)
    meaning = Meaning(operator, tuple(box), rule.operands)
    for side in dict.fromkeys((rule.lower, rule.upper)):
        meaning.slopes(side)
    return meaning


def abstract(operator: Any, *, values: bool) -> Any:  # noqa: ANN401
    """An operator that runs on symbolic numbers; of its values something is known if asked for."""
    match operator:
        case PiecewiseLinear():
            return operator
        case Unary() if runs_as_it_stands(operator):
            return operator
        case Unary():
            return sketch(operator, values=values)
        case Staircase():
            return staircase(operator)
        case _ if operator.operands == ("x",) and operator.name != "sign":
            return Smooth(operator)
    return operator


def runs_as_it_stands(operator: Unary) -> bool:
    """Whether all formulas of an operator are rational, so that z3 knows them exactly."""
    x: Any = Term.unknown("x")
    try:
        formulas = [each for p in operator.pieces for each in (p.value_at(x), p.slope_at(x))]
    except (NotImplementedError, TypeError):  # a function that z3 does not have
        return False
    # A function of which nothing is known would leave an unknown of its own.
    return all({str(v) for v in z3util.get_vars(real_of(f).value)} <= {"x"} for f in formulas)


class Smooth:
    """A smooth function of which nothing is known but that it has finite values and slopes."""

    def __init__(self, operator: Any) -> None:  # noqa: ANN401
        """Keep the facts that rules may name."""
        self.shape, self.smooth, self.monotone = operator.shape, operator.smooth, operator.monotone
        self.piecewise_linear = operator.piecewise_linear
        self._ends: list[tuple[Any, Any]] = []

    def __call__(self, x: Term) -> Term:
        """Some value."""
        del x
        return Term(Real(fresh("f")))

    def gradient(self, point: list[Term]) -> tuple[Term]:
        """Some slope, within what encloses them all."""
        del point
        slope = Term(Real(fresh("slope")))
        for low, high in self._ends:
            assume(low <= slope.value, slope.value <= high)
        return (slope,)

    def derivative(self, box: Any) -> tuple[Interval]:  # noqa: ANN401
        """What encloses all slopes."""
        del box
        if not self._ends:
            low, high = fresh("least"), fresh("most")
            assume(low <= high)
            self._ends.append((low, high))
        ((low, high),) = self._ends
        return (Interval(Term(Real(low)), Term(Real(high))),)  # type: ignore[arg-type]

    def affine_on(self, box: Any) -> tuple[Mask, tuple[Term]]:  # noqa: ANN401
        """In a point only."""
        ((lower, upper),) = box
        self.derivative(box)
        return lower == upper, self.gradient([lower])

    def curvature(self, box: Any) -> Term:  # noqa: ANN401
        """Some answer."""
        del box
        convex, concave = fresh_flag("convex"), fresh_flag("concave")
        up = choice(convex, Real.of(1), Real.of(0))
        return Term(choice(both(concave, negation(convex)), Real.of(-1), up))
