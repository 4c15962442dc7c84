"""The meaning of a rule on symbolic numbers, and what it owes: that all of it is defined.

The words mean what `interpreter` says; the operator's values, derivatives and facts come from its
own methods.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from absolver.dsl.expressions import ARITHMETIC, ARITY_ANY, COMPARISONS, DERIVATIVES
from absolver.dsl.operators.record import Shape
from absolver.dsl.prover.paths import assume
from absolver.dsl.prover.reals import Flag, both, either, negation
from absolver.dsl.prover.terms import Mask, Term, flag_of
from absolver.dsl.syntax import (
    Binary,
    Call,
    Conditional,
    Expression,
    Number,
    Parameter,
    Slope,
    Span,
    Unary,
    Word,
)


@dataclass(frozen=True)
class Owed:
    """One condition for a rule to be defined, where it stands, and what it says."""

    span: Span
    says: str
    flag: Flag


@dataclass(frozen=True)
class Meaning:
    """An operator on a symbolic box, seen from one of its operands, under some conditions."""

    operator: Any
    box: tuple[Any, ...]
    operands: tuple[str, ...]
    operand: int = 0
    guard: Flag = True
    owed: list[Owed] = field(default_factory=list)
    parameters: dict[tuple[str, int], Term] = field(default_factory=dict)

    def slopes(self, slope: Slope) -> tuple[Term, ...]:
        """One side's slope in each operand."""
        result = []
        for operand in range(len(self.box)):
            entry = slope.entries[0 if slope.each else operand]
            term = replace(self, operand=operand).number(entry)
            self._owe(entry, "the slope is finite", term.real.finite)
            result.append(term)
        return tuple(result)

    def number(self, expression: Expression) -> Term:
        """The value of an expression."""
        match expression:
            case Number(value=value):
                return Term.of(value)
            case Word(text="chord"):
                return self._chord(expression)
            case Word(text=bound):
                return _bound(bound, self.box[self.operand])
            case Unary(operand=operand):
                return -self.number(operand)
            case Binary(operation=operation, left=left, right=right):
                return self._arithmetic(expression, operation, self.number(left), right)
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                return self._choice(condition, then, otherwise)
            case Call():
                return self._call(expression)
            case Parameter():
                return self._parameter(expression)

    def holds(self, condition: Expression) -> Flag:
        """Whether a condition holds."""
        match condition:
            case Word(text=fact):
                return self._fact(fact)
            case Unary(operand=operand):
                return negation(self.holds(operand))
            case Binary(operation="and", left=left, right=right):
                first = self.holds(left)
                return both(first, self._under(first).holds(right))
            case Binary(operation="or", left=left, right=right):
                first = self.holds(left)
                return either(first, self._under(negation(first)).holds(right))
            case Binary(operation=operation, left=left, right=right):
                return COMPARISONS[operation](self.number(left), self.number(right)).flag
        raise AssertionError(f"{condition} is no condition: the checker let it pass")

    def _under(self, condition: Flag) -> "Meaning":
        return replace(self, guard=both(self.guard, condition))

    def _owe(self, expression: Expression, says: str, flag: Flag) -> None:
        self.owed.append(Owed(expression.span, says, either(negation(self.guard), flag)))

    def _choice(self, condition: Expression, then: Expression, otherwise: Expression) -> Term:
        chosen = self.holds(condition)
        if isinstance(chosen, bool):
            return self.number(then if chosen else otherwise)
        yes, no = self._under(chosen).number(then), self._under(negation(chosen)).number(otherwise)
        result: Any = Mask(chosen).where(yes, no)
        return Term.of(result)

    def _arithmetic(
        self, whole: Expression, operation: str, left: Term, second: Expression
    ) -> Term:
        right = self.number(second)
        if operation in ARITHMETIC:
            return Term.of(ARITHMETIC[operation](left, right))
        self._owe(whole, "the divisor is not 0", flag_of(right != 0))
        return left / right

    def _chord(self, word: Expression) -> Term:
        lower, upper = self.box[self.operand]
        width = upper - lower
        self._owe(word, "the chord has a width", flag_of(width != 0))
        result: Term = (self.operator(upper) - self.operator(lower)) / width
        return result

    def _call(self, call: Call) -> Term:
        match call.function:
            case "f":
                value: Term = self.operator(self.number(call.arguments[0]))
                return value
            case "f'":
                return Term.of(self.operator.gradient([self.number(call.arguments[0])])[0])
            case "abs":
                return self.number(call.arguments[0]).abs()
            case "min":
                return self._extremum(call, Term.minimum)
            case "max":
                return self._extremum(call, Term.maximum)
        (argument,) = call.arguments
        assert isinstance(argument, Word)
        return _bound(call.function, self.box[self.operands.index(argument.text)])

    def _extremum(self, call: Call, function: Callable[[Any, Any], Term]) -> Term:
        values: list[Any] = []
        for argument in call.arguments:
            match argument:
                case Call(function=bound, arguments=(Word(text="earlier"),)):
                    values += [_bound(bound, each) for each in self.box[: self.operand]]
                case Call(function=bound, arguments=(Word(text="others"),)):
                    others = self.box[: self.operand] + self.box[self.operand + 1 :]
                    values += [_bound(bound, each) for each in others]
                case Word(text=text) if text == DERIVATIVES:
                    ((low, high),) = self.operator.derivative(self.box)
                    values += [low, high]
                case _:
                    values.append(self.number(argument))
        worst = torch.inf if call.function == "min" else -torch.inf
        result = Term.of(values[0] if values else worst)
        for value in values[1:]:
            result = function(result, value)
        return result

    def _parameter(self, parameter: Parameter) -> Term:
        place = self.operand if self.operands == ARITY_ANY else 0
        known = self.parameters.get((parameter.name, place))
        if known is not None:
            return known
        start, low, high = (
            self.number(part) for part in (parameter.start, parameter.lower, parameter.upper)
        )
        self._owe(parameter.lower, "the range is not empty", flag_of(low <= high))
        self._owe(
            parameter.start, "the start is in the range", flag_of((low <= start) & (start <= high))
        )
        suffix = f"[{place}]" if self.operands == ARITY_ANY else ""
        value = Term.unknown(f"{parameter.name}{suffix}")
        inside = both(flag_of(low <= value), flag_of(value <= high))
        assume(either(negation(both(self.guard, low.real.finite, high.real.finite)), inside))
        self.parameters[parameter.name, place] = value
        return value  # type: ignore[no-any-return]

    def _fact(self, fact: str) -> Flag:
        match fact:
            case "convex":
                return flag_of(self.operator.curvature(self.box) > 0)
            case "concave":
                return flag_of(self.operator.curvature(self.box) < 0)
            case "s_shaped":
                return self.operator.shape is Shape.S_SHAPED
        return flag_of(getattr(self.operator, fact))


def _bound(word: str, box: Sequence[Any]) -> Term:
    lower, upper = box
    result: Term = {"l": lower, "u": upper}.get(word)  # type: ignore[assignment]
    return (lower + upper) / 2 if word == "mid" else result
