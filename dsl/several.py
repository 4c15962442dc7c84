"""Several slopes on a side: several lines at once, combined by multipliers that are searched."""

from collections.abc import Mapping
from dataclasses import replace

from absolver.dsl.errors import ParameterError
from absolver.dsl.parameters import parameters_of
from absolver.dsl.syntax import (
    Binary,
    Call,
    Expression,
    Number,
    Parameter,
    Rule,
    Side,
    Slope,
    Span,
    Word,
    children,
    rebuilt,
)

Inherited = Mapping[str, Slope | None]
"""By `lower`, `upper` or `both`: the slope that the extended domain has there, if any."""


def combined(rule: Rule, inherited: Inherited) -> Rule:
    """Make one slope with parameters of several slopes on a side.

    Guarantee: its values are all combinations of the slopes whose multipliers are not negative
    and sum to one; the intercept that `support` finds for a combination is at least as tight as
    the combination of the slopes' own intercepts.
    """
    sides = tuple(_combined(side, inherited) if side.others else side for side in rule.sides)
    return replace(rule, sides=sides)


def _combined(side: Side, inherited: Inherited) -> Side:
    lines = (side.slope, *side.others)
    for parameter in parameters_of(*lines):
        message = f"the parameter `{parameter.name}` stands among several slopes"
        remedy = "name slopes by l and u: what lies between them is searched, or write one slope"
        raise ParameterError(parameter.span, message, remedy)
    if all(len(line.entries) == 1 for line in lines):
        slope = _between(side, lines, inherited[side.side])
    else:
        slope = _mixed(side, lines)
    return replace(side, slope=slope, others=())


def _between(side: Side, lines: tuple[Slope, ...], start: Slope | None) -> Slope:
    """Search between the least and the largest slope: that is every combination of numbers.

    It starts where the extended domain does, as far as that lies between them, else at the first.
    """
    first = side.slope
    span = first.span.to(lines[-1].span)
    numbers = tuple(line.entries[0] for line in lines)
    begin = numbers[0]
    if start is not None and start.each == first.each and len(start.entries) == 1:
        begin = _at_start(start.entries[0])
    ends = (Call(span, "min", numbers), Call(span, "max", numbers))
    return Slope(span, (Parameter(span, side.side, *ends, begin, False),), first.each)


def _mixed(side: Side, lines: tuple[Slope, ...]) -> Slope:
    """Mix vectors of slopes, one after the other in: each has one multiplier for all operands."""
    mixture, *others = lines
    for number, line in enumerate(others, start=2):
        span = mixture.span.to(line.span)
        name, nothing, all_of_it = f"{side.side}_{number}", Number(span, 0.0), Number(span, 1.0)
        # The first use of a name declares it, the others mean the same value.
        share: Expression = Parameter(span, name, nothing, all_of_it, nothing, False)
        entries = []
        for before, own in zip(mixture.entries, line.entries, strict=False):
            rest = _of(span, "-", all_of_it, share)
            share = Word(span, name)
            kept, added = _of(span, "*", rest, before), _of(span, "*", share, own)
            entries.append(_of(span, "+", kept, added))
        mixture = Slope(span, (*entries, *line.entries[len(entries) :]))
    return mixture


def _of(span: Span, operation: str, left: Expression, right: Expression) -> Binary:
    return Binary(span, operation, left, right)


def _at_start(expression: Expression) -> Expression:
    """Put the start of each parameter in its place."""
    if isinstance(expression, Parameter):
        return expression.start
    below = tuple(_at_start(part) for part in children(expression))
    return rebuilt(expression, below) if below else expression
