"""The cases of a rule that an operator's facts tell apart, before any number is looked at."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from absolver.dsl.expressions import BOX_FREE_FACTS
from absolver.dsl.interpreter import constant
from absolver.dsl.syntax import (
    Binary,
    CheckedRule,
    Conditional,
    Expression,
    Number,
    Slope,
    Source,
    Span,
    Unary,
    Word,
    children,
    rebuilt,
)

_NOWHERE: Final = Span(Source("", ""), 1, 1, 1, 1)
_ZERO: Final = Number(_NOWHERE, 0.0)
_TRUE: Final = Binary(_NOWHERE, "==", _ZERO, _ZERO)
_FALSE: Final = Binary(_NOWHERE, "!=", _ZERO, _ZERO)


@dataclass(frozen=True)
class Case:
    """A condition that one operator meets on all boxes or on none, and the rule either way."""

    fact: Expression
    met: CheckedRule
    missed: CheckedRule


def first_case(rule: CheckedRule) -> Case | None:
    """Split a rule at the first condition that needs no bounds; None if it has none.

    Guarantee: for every operator that meets the fact `met` means what the rule does, for every
    other one `missed` does.
    """
    fact = _first_fact((*rule.lower.entries, *rule.upper.entries))
    if fact is None:
        return None
    return Case(fact, *(_assumed(rule, fact, truth) for truth in (_TRUE, _FALSE)))


def _first_fact(expressions: Iterable[Expression]) -> Expression | None:
    """Find the first part that consists of facts alone, the whole of it."""
    for expression in expressions:
        if _is_fact(expression):
            return expression
        found = _first_fact(children(expression))
        if found is not None:
            return found
    return None


def _is_fact(expression: Expression) -> bool:
    match expression:
        case Word(text=text):
            return text in BOX_FREE_FACTS
        case Unary(operation="not") | Binary(operation="and" | "or"):
            return all(map(_is_fact, children(expression)))
    return False


def _assumed(rule: CheckedRule, fact: Expression, truth: Expression) -> CheckedRule:
    lower = _assumed_in(rule.lower, fact, truth)
    same = rule.lower == rule.upper
    return replace(rule, lower=lower, upper=lower if same else _assumed_in(rule.upper, fact, truth))


def _assumed_in(slope: Slope, fact: Expression, truth: Expression) -> Slope:
    entries = tuple(_folded(entry, fact, truth) for entry in slope.entries)
    return replace(slope, entries=entries)


def _folded(expression: Expression, fact: Expression, truth: Expression) -> Expression:
    """Put a truth in the place of a fact, and drop what can no longer be chosen."""
    if expression == fact:
        return truth
    below = tuple(_folded(part, fact, truth) for part in children(expression))
    match expression:
        case Conditional():
            condition, then, otherwise = below
            known = constant(condition)
            if known is not None:
                return then if known else otherwise
        case Binary(operation="and" | "or" as operation):
            for one, other in (below, below[::-1]):
                known = constant(one)
                if known is not None:
                    return other if known == (operation == "and") else one
    return rebuilt(expression, below) if below else expression
