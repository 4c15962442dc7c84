"""The meaning of a rule, spelled out: one neuron, Python's floats, no cleverness.

This is the test oracle of the compiler, and the definition to look up what an expression means.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from absolver.dsl.expressions import ARITHMETIC, ARITY_ANY, COMPARISONS, DERIVATIVES
from absolver.dsl.operators.record import Interval, Operator, Shape
from absolver.dsl.syntax import (
    Binary,
    Call,
    CheckedRule,
    Conditional,
    Expression,
    Number,
    Parameter,
    Slope,
    Unary,
    Word,
    children,
)

Range = tuple[float, float]
"""The lower and the upper bound of one operand."""


def slopes(
    rule: CheckedRule,
    operator: Operator,
    box: Sequence[Range],
    parameters: Mapping[str, float] | None = None,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Evaluate a rule on one neuron, as (lower slopes, upper slopes), one for each operand.

    `parameters` has values by name, `a`, or `a[0]` where each operand has its own.
    """
    affine, exact = operator.affine_on(_tensors(box))
    if affine.item():
        slope = tuple(_finite(each.item()) for each in exact)
        return slope, slope
    return (
        _side(rule.lower, _Neuron(operator, tuple(box), rule.operands, 0, parameters or {})),
        _side(rule.upper, _Neuron(operator, tuple(box), rule.operands, 0, parameters or {})),
    )


def line(
    slope: Slope,
    operator: Operator,
    operands: tuple[str, ...],
    box: Sequence[Range],
    parameters: Mapping[str, float] | None = None,
) -> tuple[tuple[float, ...], float]:
    """Evaluate a line that was written out, on one neuron, as (slopes, intercept)."""
    neuron = _Neuron(operator, tuple(box), operands, 0, parameters or {})
    assert slope.intercept is not None, "the line was split"
    return _side(slope, neuron), neuron.number(slope.intercept)


def parameter(
    declared: Parameter, rule: CheckedRule, operator: Operator, box: Sequence[Range], operand: int
) -> tuple[float, float, float]:
    """Evaluate what a parameter declares, on one neuron and for one operand.

    The result is (start, lower end, upper end). An end that is undefined or infinite becomes the
    start, an undefined or infinite start 0; an upper end below the lower one becomes the lower one.
    """
    return _Neuron(operator, tuple(box), rule.operands, operand).declared(declared)


def constant(expression: Expression) -> float | bool | None:
    """Evaluate an expression that depends on nothing around it; None if it does depend."""
    below = [expression]
    for node in below:
        if isinstance(node, Word | Parameter) or (
            isinstance(node, Call) and node.function not in ("min", "max", "abs")
        ):
            return None
        below.extend(children(node))
    nowhere = _Neuron(None, (), (), 0)
    match expression:
        case Unary(operation="not") | Binary(operation="and" | "or"):
            return nowhere.holds(expression)
        case Binary(operation=operation) if operation not in "+-*/":
            return nowhere.holds(expression)
    return nowhere.number(expression)


def _side(slope: Slope, neuron: "_Neuron") -> tuple[float, ...]:
    result = []
    for operand in range(len(neuron.box)):
        entry = slope.entries[0] if slope.each else slope.entries[operand]
        result.append(_finite(replace(neuron, operand=operand).number(entry)))
    return tuple(result)


@dataclass(frozen=True)
class _Neuron:
    """One operator application, seen from one of its operands; no operator for a constant."""

    operator: Operator | None
    box: tuple[Range, ...]
    operands: tuple[str, ...]
    operand: int
    parameters: Mapping[str, float] = field(default_factory=dict)

    def number(self, expression: Expression) -> float:
        match expression:
            case Number(value=value):
                return value
            case Word(text="chord"):
                return self._chord()
            case Word(text=bound):
                return _bound(bound, self.box[self.operand])
            case Unary(operand=operand):
                return -self.number(operand)
            case Binary(operation=operation, left=left, right=right):
                return _arithmetic(operation, self.number(left), self.number(right))
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                return self.number(then if self.holds(condition) else otherwise)
            case Call():
                return self._call(expression)
            case Parameter():
                return self._parameter(expression)

    def declared(self, parameter: Parameter) -> tuple[float, float, float]:
        start = _finite(self.number(parameter.start))
        ends = (self.number(parameter.lower), self.number(parameter.upper))
        lower, upper = (end if math.isfinite(end) else start for end in ends)
        upper = max(lower, upper)
        return min(max(start, lower), upper), lower, upper

    def _parameter(self, parameter: Parameter) -> float:
        start, lower, upper = self.declared(parameter)
        name = f"{parameter.name}[{self.operand}]" if self.operands == ARITY_ANY else parameter.name
        value = self.parameters.get(name, start)
        return value if math.isnan(value) else min(max(value, lower), upper)

    def holds(self, condition: Expression) -> bool:
        match condition:
            case Word(text=fact):
                return self._fact(fact)
            case Unary(operand=operand):
                return not self.holds(operand)
            case Binary(operation="and", left=left, right=right):
                return self.holds(left) and self.holds(right)
            case Binary(operation="or", left=left, right=right):
                return self.holds(left) or self.holds(right)
            case Binary(operation=operation, left=left, right=right):
                return bool(COMPARISONS[operation](self.number(left), self.number(right)))
        raise AssertionError(f"{condition} is no condition: the checker let it pass")

    def _call(self, call: Call) -> float:
        match call.function:
            case "f":
                return self._value(self.number(call.arguments[0]))
            case "f'":
                return self._derivative(self.number(call.arguments[0]))
            case "abs":
                return abs(self.number(call.arguments[0]))
            case "min":
                return -_largest([-value for value in self._values(call.arguments)])
            case "max":
                return _largest(self._values(call.arguments))
            case bound:
                (argument,) = call.arguments
                assert isinstance(argument, Word)
                return _bound(bound, self.box[self.operands.index(argument.text)])

    def _values(self, arguments: Sequence[Expression]) -> list[float]:
        values = []
        for argument in arguments:
            match argument:
                case Call(function=bound, arguments=(Word(text="earlier"),)):
                    values += [_bound(bound, range_) for range_ in self.box[: self.operand]]
                case Call(function=bound, arguments=(Word(text="others"),)):
                    others = self.box[: self.operand] + self.box[self.operand + 1 :]
                    values += [_bound(bound, range_) for range_ in others]
                case Word(text=text) if text == DERIVATIVES:
                    values += self._derivatives()
                case _:
                    values.append(self.number(argument))
        return values

    def _chord(self) -> float:
        lower, upper = self.box[self.operand]
        if lower == upper:
            return self._derivative(lower)
        return _arithmetic("/", self._value(upper) - self._value(lower), upper - lower)

    def _value(self, point: float) -> float:
        assert self.operator is not None
        return self.operator(_tensor(point)).item()

    def _derivative(self, point: float) -> float:
        assert self.operator is not None
        return self.operator.gradient((_tensor(point),))[0].item()

    def _derivatives(self) -> Range:
        """Return the least and the largest derivative of the operator on [l, u]."""
        assert self.operator is not None
        ((lower, upper),) = self.operator.derivative(_tensors(self.box))
        return lower.item(), upper.item()

    def _fact(self, fact: str) -> bool:
        assert self.operator is not None
        match fact:
            case "convex":
                return self.operator.curvature(_tensors(self.box)).item() > 0
            case "concave":
                return self.operator.curvature(_tensors(self.box)).item() < 0
            case "s_shaped":
                return self.operator.shape is Shape.S_SHAPED
            case "smooth":
                return self.operator.smooth
            case "monotone":
                return self.operator.monotone
            case "piecewise_linear":
                return self.operator.piecewise_linear
        raise AssertionError(f"{fact} is no fact: the checker let it pass")


def _bound(word: str, box: Range) -> float:
    lower, upper = box
    match word:
        case "l":
            return lower
        case "u":
            return upper
        case "mid":
            return (lower + upper) / 2
    raise AssertionError(f"{word} is no bound: the checker let it pass")


def _arithmetic(operation: str, left: float, right: float) -> float:
    if operation == "/":
        return left / right if right != 0 else math.nan
    result: float = ARITHMETIC[operation](left, right)
    return result


def _largest(values: Sequence[float]) -> float:
    """Take the maximum; NaN if any value is NaN, -inf of none."""
    if any(math.isnan(value) for value in values):
        return math.nan
    return max(values, default=-math.inf)


def _finite(slope: float) -> float:
    return slope if math.isfinite(slope) else 0.0


def _tensor(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def _tensors(box: Sequence[Range]) -> list[Interval]:
    return [Interval(_tensor(lower), _tensor(upper)) for lower, upper in box]
