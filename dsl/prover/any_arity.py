"""What is proved of operators of any number of operands, and why a few operands are enough.

**Witnesses.** A claim that fails for k operands fails for some of them, in their order, as long as
they include those that the claim names, one that attains each largest or least value it speaks of,
and one for each "there is" of its hypotheses: extremes over a part that has the one that attains
them are the same, no part of nothing is empty, and what holds of all operands holds of some. So a
claim that holds for 1, 2, …, n operands, where n counts those, holds for any number.

**Sums.** The support of a maximum adds up what operands contribute, and sums have no witnesses.
They follow operand by operand: (1) the least of `a x` over x <= t is at most `a x`; (2) it is
linear in t where t passes no upper end. For b >= 0 let t be the maximum at some point, and p <= t
<= q the neighbouring candidates: the largest lower end is at most t, and the upper end of the
operand that is t at least t. By (1) the form at the point is at least the sum over all operands
plus b t; by (2) that is linear from p to q, hence at least its lesser end, which the support has.
For b <= 0 the winner's `(a + b) x` and the others' `a x` are at least what (1) says of them.
(1) and (2) are asked of the method that the support calls, and of the support itself that it adds
up as told here, whatever that method returns. A minimum is the maximum of negations, negated.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
import z3

from absolver.dsl.expressions import ARITY_ANY, GROUPS
from absolver.dsl.operators.max import Max
from absolver.dsl.operators.record import Interval, Shape
from absolver.dsl.prover import facts
from absolver.dsl.prover.facts import boxes
from absolver.dsl.prover.obligations import Answer, Status, combined
from absolver.dsl.prover.paths import assume
from absolver.dsl.prover.reals import Flag, Real
from absolver.dsl.prover.sketch import bounded_box, point_in
from absolver.dsl.prover.solver import follows
from absolver.dsl.prover.stacks import Stack
from absolver.dsl.prover.terms import Term, flag_of
from absolver.dsl.syntax import Call, CheckedRule, Expression, Word, children

# The operands that the claims name, and those that attain what they speak of.
_WITNESSES: Mapping[str, tuple[Callable[..., Callable[[], Flag]], int]] = {
    # The largest lower end, the largest upper end, the largest operand.
    "the range encloses": (facts.range_encloses, 3),
    # The one with the largest lower end, and the largest operand.
    "affine where it says so": (facts.affine_where_it_says, 2),
    # The one that moves, one above it, and the largest before and after.
    "the derivative encloses": (facts.derivative_encloses, 4),
    # An operand and the largest one; of two operands more is said than of three.
    "the quadratic constraints hold": (facts.quadratics_hold, 3),
    # An operand and the largest one.
    "the inverse keeps what it must": (facts.inverse_keeps, 2),
}
# The one with the largest lower end, and one that reaches above it.
_NOT_AFFINE = 2


def obligations_of_any_arity(
    make: Callable[[], Any],
) -> Iterator[tuple[str, Callable[[], Answer]]]:
    """What is owed for an operator of any number of operands: each claim, and how to decide it."""
    yield (
        "the whole support is a lower bound of 2 operands",
        lambda: for_any_number(lambda arity: follows(facts.support_is_sound(make, arity)), 1, 2),
    )
    lemmas = _of_a_maximum(make) if make().shape is Shape.CONVEX else _of_a_minimum(make)
    for claim, program in lemmas.items():
        yield claim, lambda program=program: follows(program)  # type: ignore[misc]
    for claim, (of_arity, most) in _WITNESSES.items():
        yield (
            claim,
            lambda of_arity=of_arity, most=most: for_any_number(  # type: ignore[misc]
                lambda arity: follows(of_arity(make, arity)), 1, most
            ),
        )


def for_any_number(decide: Callable[[int], Answer], least: int, most: int) -> Answer:
    """Decide a claim for each number of operands that matters, and stop at the first refutation."""
    answers: list[Answer] = []
    for arity in range(least, most + 1):
        answers.append(decide(arity))
        if answers[-1].status is not Status.PROVED:
            break
    return combined(*answers)


def operands_that_matter(rule: CheckedRule) -> int:
    """Count the operand at hand, those that make f not affine, and one for each extreme."""
    extremes: set[tuple[str, str, str]] = set()
    below: list[Expression] = [*rule.lower.entries, *rule.upper.entries]
    for expression in below:
        below += children(expression)
        if isinstance(expression, Call) and expression.function in ("min", "max"):
            for argument in expression.arguments:
                match argument:
                    case Call(function=bound, arguments=(Word(text=of),)) if of in GROUPS:
                        extremes.add((expression.function, bound, of))
    return 1 + _NOT_AFFINE + len(extremes)


def takes_any_number(rule: CheckedRule) -> bool:
    """Whether a rule is one for any number of operands."""
    return rule.operands == ARITY_ANY


# The support of a maximum, share by share.


def _of_a_maximum(make: Callable[[], Any]) -> Mapping[str, Callable[[], Flag]]:
    return {
        "a share is a lower bound": share_is_a_bound(make),
        "a share is linear between upper ends": share_is_linear(make),
        "the support adds shares up": adds_up(make),
    }


def share_is_a_bound(make: Callable[[], Any]) -> Callable[[], Flag]:
    """What one operand contributes is at most `a x`, with and without a height above x."""

    def program() -> Flag:
        operator, box, a, height = make(), bounded_box(), Term.unknown("a"), Term.unknown("t")
        x = point_in(box)
        assume(flag_of(x <= height))
        below = operator._share(a, box, height) <= a * x
        return flag_of(below & (operator._share(a, box) <= a * x))

    return program


def share_is_linear(make: Callable[[], Any]) -> Callable[[], Flag]:
    """Between heights with no upper end between them, a share is the mixture of both shares."""

    def program() -> Flag:
        operator, box, a, way = make(), bounded_box(), Term.unknown("a"), Term.unknown("way")
        low, high = Term.unknown("p"), Term.unknown("q")
        for holds in (box.lower <= low, low <= high, way >= 0, way <= 1):
            assume(flag_of(holds))
        assume(flag_of((box.upper <= low) | (box.upper >= high)))
        between = operator._share(a, box, low + way * (high - low))
        first, last = operator._share(a, box, low), operator._share(a, box, high)
        return flag_of(between == first + way * (last - first))

    return program


def adds_up(make: Callable[[], Any], arity: int = 3) -> Callable[[], Flag]:
    """The support is the least sum that the lemma names, whatever the shares are."""

    def program() -> Flag:
        box, _ = boxes(arity)
        a, b = [Term.unknown(f"a{k}") for k in range(arity)], Term.unknown("b")
        operator = _opaque(make())
        floor: Any = Stack(i.lower for i in box).amax(0)
        heights = [floor, *(torch.maximum(i.upper, floor) for i in box)]
        raised = [
            b * t + _total(operator.share(*each, t) for each in enumerate(a)) for t in heights
        ]
        sunk = [
            operator.share(k, a[k] + b, None)
            + _total(operator.share(j, s, None) for j, s in enumerate(a) if j != k)
            for k in range(arity)
        ]
        bound = operator.support(a, b, box)
        told = (b >= 0).where(Stack(raised).amin(0), Stack(sunk).amin(0))
        return flag_of(bound == told)

    return program


def _opaque(operator: Any) -> Any:  # noqa: ANN401
    """The operator with shares of which nothing is known: a function of slope and height."""

    class Opaque(type(operator)):  # type: ignore[misc]
        def share(self, place: int, slope: Term, height: Term | None) -> Term:
            given = [slope.value, *([] if height is None else [height.value])]
            kind = z3.Function(f"share{place}", *[z3.RealSort()] * (len(given) + 1))
            return Term(Real(kind(*given)))

        def _share(self, slopes: Stack, _: Any, height: Any = None) -> Stack:  # noqa: ANN401
            return Stack([self.share(k, slope, height) for k, slope in enumerate(slopes)])

    return Opaque()


def _total(terms: Iterable[Term]) -> Term:
    return Stack(list(terms)).sum(0)


# The support of a minimum.


def _of_a_minimum(make: Callable[[], Any]) -> Mapping[str, Callable[[], Flag]]:
    def program() -> Flag:
        operator, largest = make(), Max()
        box, x = boxes(3)
        a, b = [Term.unknown(f"a{k}") for k in range(3)], Term.unknown("b")
        negated: Any = [Interval(-i.upper, -i.lower) for i in box]
        bound = largest.support([-slope for slope in a], -b, negated)
        value = -largest(*(-each for each in x))
        same = (operator.support(a, b, box) == bound) & (operator(*x) == value)
        return flag_of(same)

    return {"it is the maximum of negations, negated": program}
