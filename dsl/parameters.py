"""Parameters of a rule: each use of a name becomes its declaration, so that a side stands alone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import isfinite
from typing import Literal

from absolver.dsl.errors import ParameterError
from absolver.dsl.expressions import ARGUMENTS, BOUNDS, FACTS, GROUPS, check_depth
from absolver.dsl.interpreter import constant
from absolver.dsl.syntax import (
    Conditional,
    Expression,
    Parameter,
    Rule,
    Slope,
    Word,
    children,
    rebuilt,
)

Place = Literal["slope", "condition", "range or start"]


def resolved(rule: Rule, operands: Iterable[str]) -> Rule:
    """Put the declaration of a parameter in the place of each use of its name.

    A name may be used behind its declaration, on either side; `operands` are names that no
    parameter may have.
    """
    declared: dict[str, Parameter] = {}
    for side in rule.sides:
        check_depth(side.slope)
        for parameter in _declarations(side.slope.entries):
            _check_name(parameter, declared, {*_WORDS, *operands})
            declared[parameter.name] = parameter
    if not declared:
        return rule
    names = _Names(declared)
    sides = tuple(replace(side, slope=names.resolve(side.slope)) for side in rule.sides)
    return replace(rule, sides=sides)


def parameters_of(*slopes: Slope) -> tuple[Parameter, ...]:
    """List the parameters of resolved slopes, each once, as they are declared."""
    found = (each for slope in slopes for each in _declarations(slope.entries))
    return tuple({each.span: each for each in found}.values())


_WORDS = frozenset({*BOUNDS, *FACTS, *GROUPS, *ARGUMENTS, "chord"})


def _declarations(expressions: Iterable[Expression]) -> Iterator[Parameter]:
    """Go through the parameters below some expressions, in the order of the text."""
    for expression in expressions:
        if isinstance(expression, Parameter):
            yield expression
        yield from _declarations(children(expression))


def _check_name(
    parameter: Parameter, declared: Mapping[str, Parameter], taken: frozenset[str] | set[str]
) -> None:
    name = parameter.name
    if name in taken:
        message = f"`{name}` is a word of the language, no name for a parameter"
        raise ParameterError(parameter.span, message, "choose another name")
    if name in declared and declared[name].span != parameter.span:
        message = f"a second parameter `{name}`; line {declared[name].span.line} has the first"
        remedy = f"write `{name}` for the same value, or choose another name"
        raise ParameterError(parameter.span, message, remedy)


class _Names:
    """The parameters of one rule, and those of them that the text has declared so far."""

    def __init__(self, declared: Mapping[str, Parameter]) -> None:
        self._all = declared
        self._behind: dict[str, Parameter] = {}

    def resolve(self, slope: Slope) -> Slope:
        entries = tuple(self._resolved(entry, "slope") for entry in slope.entries)
        intercept = slope.intercept and self._resolved(slope.intercept, "slope")
        return replace(slope, entries=entries, intercept=intercept)

    def _resolved(self, expression: Expression, place: Place) -> Expression:
        match expression:
            case Parameter(name=name):
                self._check_place(expression, name, place)
                _check_range(expression)
                for part in children(expression):
                    self._resolved(part, "range or start")
                self._behind[name] = expression
                return expression
            case Word(text=name) if name in self._all:
                self._check_place(expression, name, place)
                if name not in self._behind:
                    line = self._all[name].span.line
                    message = f"the parameter `{name}` is declared further on, in line {line}"
                    remedy = "declare it where it is used first, and name it from there on"
                    raise ParameterError(expression.span, message, remedy)
                return self._behind[name]
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                inside: Place = "condition" if place == "slope" else place
                parts = (
                    self._resolved(condition, inside),
                    self._resolved(then, place),
                    self._resolved(otherwise, place),
                )
                return rebuilt(expression, parts)
        below = tuple(self._resolved(part, place) for part in children(expression))
        return rebuilt(expression, below) if below else expression

    def _check_place(self, expression: Expression, name: str, place: Place) -> None:
        if place == "slope":
            return
        message = f"the parameter `{name}` stands in a {place}"
        remedy = (
            "choose by l and u, and put the parameter behind `then` or `else`: "
            "the search follows gradients, and a condition has none"
            if place == "condition"
            else "write ranges and starts with l and u only"
        )
        raise ParameterError(expression.span, message, remedy)


def _check_range(parameter: Parameter) -> None:
    ends = [constant(end) for end in (parameter.lower, parameter.upper)]
    for written, end in zip((parameter.lower, parameter.upper), ends, strict=True):
        if isinstance(end, float) and not isfinite(end):
            message = "an end of a parameter's range has to be a finite number"
            raise ParameterError(written.span, message, "write a number, or a bound by l and u")
    lower, upper = ends
    if isinstance(lower, float) and isinstance(upper, float) and lower > upper:
        span = parameter.lower.span.to(parameter.upper.span)
        message = f"the range of `{parameter.name}` is empty: {lower:g} is more than {upper:g}"
        raise ParameterError(span, message, f"write `[{upper:g}, {lower:g}]`")
