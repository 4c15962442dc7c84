"""The torch source of one rule: short, batched, each shared expression computed once."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

import torch

from absolver.dsl.cases import first_case
from absolver.dsl.expressions import ARITY_ANY, BOUNDS, DERIVATIVES
from absolver.dsl.interpreter import constant
from absolver.dsl.parameters import parameters_of
from absolver.dsl.syntax import (
    Binary,
    Call,
    CheckedRule,
    Conditional,
    Expression,
    Number,
    Parameter,
    Unary,
    Word,
    children,
)

# How tightly Python binds: an operand that binds less than its place needs parentheses.
_CONDITIONAL, _OR, _AND, _NOT, _COMPARE, _BIT_OR, _BIT_AND, _SUM, _TERM, _SIGN, _ATOM = range(11)
_BINDING: Mapping[str, int] = {"+": _SUM, "-": _SUM, "*": _TERM}
# Characters of one conditional, beyond which its second branch gets a line of its own.
_READABLE = 70
# Facts that are asked for first, each of which may double the source of a rule.
_MOST_CASES = 3
_LARGEST = torch.finfo(torch.float32).max
_FIELDS: Mapping[str, str] = {"l": "lower", "u": "upper"}


@dataclass(frozen=True)
class _Text:
    """A piece of Python: what it evaluates to, and how tightly it binds.

    A constant is a Python number, a flag a Python bool; values and masks are tensors.
    """

    python: str
    kind: Literal["constant", "flag", "value", "mask"]
    binding: int = _ATOM

    def within(self, binding: int) -> str:
        """This text, in parentheses if it binds less tightly than its place needs."""
        return self.python if self.binding >= binding else f"({self.python})"

    @property
    def is_python(self) -> bool:
        """Whether the value is known without looking at a tensor."""
        return self.kind in ("constant", "flag")


def write_rule(name: str, rule: CheckedRule, first: Sequence[str] = ()) -> str:
    """Write the function of a rule, behind some first lines.

    It is `name(f, box)`, or `name(f, box, parameters)` if the rule has parameters.
    """
    inputs = "f, box, parameters" if parameters_of(rule.lower, rule.upper) else "f, box"
    lines = [*first, *_body(rule, _MOST_CASES)]
    return f"def {name}({inputs}):\n" + _indented(lines)


def _body(rule: CheckedRule, most_cases: int) -> list[str]:
    """Write the lines of a function, one block for each case that an operator's facts decide."""
    case = first_case(rule) if most_cases else None
    if case is None:
        return _Writer(rule).body()
    if case.met == case.missed:
        return _body(case.missed, most_cases)
    fact = _Writer(rule).condition(case.fact)
    met, missed = (_body(part, most_cases - 1) for part in (case.met, case.missed))
    return [f"if {fact}:", *(f"    {line}" for line in met), *missed]


def _indented(lines: Iterable[str]) -> str:
    return "".join(f"    {line}\n" for line in lines)


class _Writer:
    """The body of one function as it grows, line by line."""

    def __init__(self, rule: CheckedRule) -> None:
        self.lines: list[str] = []
        self._rule = rule
        self._operands = rule.operands
        self._each = rule.operands == ARITY_ANY
        distinct = dict.fromkeys((rule.lower, rule.upper))
        entries = (entry for slope in distinct for entry in slope.entries)
        self._shared = {node for node, count in _occurrences(entries).items() if count > 1}
        self._nameless = 0
        self._variables: dict[Expression, _Text] = {}

    def body(self) -> list[str]:
        """Write all lines, those that define the words of the language first."""
        rule = self._rule
        both = rule.lower == rule.upper
        arguments = ["f", "box", self._slopes("slope" if both else "lower", rule.lower.entries)]
        if not both:
            arguments.append(self._slopes("upper", rule.upper.entries))
        body = [*self.lines, f"return stable_or({', '.join(arguments)})"]
        return [*self._prologue("\n".join(body)), *body]

    def condition(self, expression: Expression) -> str:
        """Write a condition by itself."""
        return self._text(expression).python

    def _prologue(self, body: str) -> list[str]:
        """Return the lines that define the words of the language which a body uses."""
        used = set(re.findall(r"\w+", body))
        lines = []
        if len(self._operands) > 1 and used & {*self._operands}:
            lines.append(f"{', '.join(self._operands)} = box")
        if self._each:
            for word, field in _FIELDS.items():
                if used & {word, "mid"}:
                    lines.append(f"{word} = torch.stack([o.{field} for o in box])")
        elif len(self._operands) == 1 and used & {"l", "u", "mid", "chord"}:
            lines.append("l, u = box[0]")
        if "mid" in used:
            lines.append("mid = (l + u) / 2")
        if "chord" in used:
            lines.append("chord = slope_between(f, l, u)")
        if used & {"greatest_slope", "least_slope"}:
            lines.append("((least_slope, greatest_slope),) = f.derivative(box)")
        if "curvature" in used:
            lines.append("curvature = f.curvature(box)")
        return lines

    def _slopes(self, name: str, entries: Sequence[Expression]) -> str:
        """Write what computes the slopes of one side, and return the tuple of them."""
        texts = [self._text(entry) for entry in entries]
        if self._each:
            (text,) = texts
            if text.kind == "constant":
                return f"({text.python},) * len(box)"
            if text.python.isidentifier():
                return f"unstacked({text.python}, box)"
            self.lines.append(f"{name} = {text.python}")
            return f"unstacked({name}, box)"
        parts = []
        for operand, text in zip(self._operands, texts, strict=True):
            if text.binding == _ATOM and "(" not in text.python:
                parts.append(text.python)
                continue
            variable = name if len(texts) == 1 else f"{name}_{operand}"
            self.lines.append(f"{variable} = {text.python}")
            parts.append(variable)
        return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"

    @property
    def _reference(self) -> str:
        """A tensor that has the shape, dtype and device of the slopes."""
        if self._each:
            return "box[0].lower"
        return "l" if len(self._operands) == 1 else f"{self._operands[0]}.lower"

    def _text(self, expression: Expression) -> _Text:
        """Write an expression, unless it is a constant or stands in a variable already."""
        value = constant(expression)
        if isinstance(value, bool):
            return _Text(str(value), "flag")
        if value is not None:
            return self._number(value)
        if expression in self._variables:
            return self._variables[expression]
        text = self._composed(expression)
        repeated = expression in self._shared and not text.is_python
        repeated = repeated and not text.python.isidentifier()
        if repeated or isinstance(expression, Parameter):
            text = self._variables[expression] = self._named(text, _telling_name(expression))
        return text

    def _number(self, value: float) -> _Text:
        if _LARGEST < abs(value) < inf:  # as a Python number, torch would refuse it for float32
            return _Text(f"{self._reference}.new_tensor({value!r})", "value")
        text = str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
        return _Text(text, "constant", _SIGN if value < 0 else _ATOM)

    def _named(self, text: _Text, name: str = "") -> _Text:
        """Put a text into a variable, and write the variable instead."""
        if not name:
            self._nameless += 1
            name = f"t{self._nameless}"
        self.lines.append(f"{name} = {text.python}")
        return _Text(name, text.kind)

    def _composed(self, expression: Expression) -> _Text:
        match expression:
            case Word(text=word):
                return _word(word)
            case Unary(operation="-", operand=operand):
                return _Text(f"-{self._text(operand).within(_SIGN)}", "value", _SIGN)
            case Unary(operand=operand):
                return _negated(self._text(operand))
            case Binary(operation="and" | "or" as operation, left=left, right=right):
                return _joined(operation, self._text(left), self._text(right))
            case Binary(operation="/", left=left, right=right):
                return _quotient(self._text(left), self._text(right))
            case Binary(operation=operation, left=left, right=right):
                binding = _BINDING.get(operation, _COMPARE)
                # One step tighter on the right: a - (b - c), and no chained comparison.
                a = self._text(left).within(binding + (binding == _COMPARE))
                b = self._text(right).within(binding + 1)
                return _Text(
                    f"{a} {operation} {b}", "mask" if binding == _COMPARE else "value", binding
                )
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                return self._choice(self._text(condition), self._text(then), self._text(otherwise))
            case Call():
                return self._called(expression)
            case Parameter():
                return self._declared(expression)
        raise AssertionError(f"{expression} is a constant")

    def _declared(self, parameter: Parameter) -> _Text:
        """Write the value of a parameter, which is named, clamped and recorded in one call."""
        written = self._tensor(self._text(parameter.start))
        if len(written.python) > _READABLE // 2:
            written = self._named(written, f"start_{parameter.name}")
        start = written.python
        ends = ", ".join(self._text(end).python for end in (parameter.lower, parameter.upper))
        shared = ", shared=True" if parameter.shared else ""
        arguments = (
            f'"{parameter.name}", box, {start}, ({ends})'
            if self._each
            else (f'"{parameter.name}", {start}, {ends}')
        )
        method = "each" if self._each else "value"
        return _Text(f"parameters.{method}({arguments}{shared})", "value")

    def _choice(self, condition: _Text, then: _Text, otherwise: _Text) -> _Text:
        if len(condition.python + then.python + otherwise.python) > _READABLE:
            otherwise = self._named(otherwise)
        if condition.kind == "flag":
            a, b = (self._tensor(text).within(_OR) for text in (then, otherwise))
            return _Text(f"{a} if {condition.within(_OR)} else {b}", "value", _CONDITIONAL)
        match then.python, otherwise.python:
            case "1", "0":
                return _Text(f"{condition.within(_ATOM)}.to({self._reference}.dtype)", "value")
            case "0", "1":
                inverse = _negated(condition)
                return _Text(f"{inverse.within(_ATOM)}.to({self._reference}.dtype)", "value")
        if then.is_python and otherwise.is_python:
            then = self._tensor(then)  # `where` of two numbers would forget the dtype
        return _Text(f"torch.where({condition.python}, {then.python}, {otherwise.python})", "value")

    def _called(self, call: Call) -> _Text:
        match call:
            case Call(function="f", arguments=(point,)):
                return _Text(f"f({self._tensor(self._text(point)).python})", "value")
            case Call(function="f'", arguments=(point,)):
                at = self._tensor(self._text(point)).python
                return _Text(f"f.gradient(({at},))[0]", "value")
            case Call(function="abs", arguments=(argument,)):
                return _Text(f"torch.abs({self._text(argument).python})", "value")
            case Call(function="min" | "max" as function, arguments=arguments):
                return self._extremum(function, arguments)
            case Call(function=bound, arguments=(Word(text=operand),)):
                if len(self._operands) == 1:
                    return _word(bound)
                if bound in _FIELDS:
                    return _Text(f"{operand}.{_FIELDS[bound]}", "value")
                middle = f"({operand}.lower + {operand}.upper) / 2"
                return _Text(middle, "value", _TERM)
        raise AssertionError(f"{call}: the checker let it pass")

    def _extremum(self, function: str, arguments: Sequence[Expression]) -> _Text:
        texts = [self._several(function, each) or self._text(each) for each in arguments]
        values = [self._tensor(text) for text in texts if not _is_finite_constant(text)]
        result = values[0]
        for value in values[1:]:
            result = _Text(f"torch.{function}imum({result.python}, {value.python})", "value")
        limit = "max" if function == "min" else "min"
        for text in filter(_is_finite_constant, texts):
            result = _Text(f"torch.clamp({result.python}, {limit}={text.python})", "value")
        return result

    def _several(self, function: str, argument: Expression) -> _Text | None:
        """Write the extremum of an argument that is several numbers; None if it is one."""
        match argument:
            case Word(text=text) if text == DERIVATIVES:
                return _Text("greatest_slope" if function == "max" else "least_slope", "value")
            case Call(function=bound, arguments=(Word(text="others" | "earlier" as group),)):
                if function == "max":
                    return _Text(f"max_{group}({bound})", "value")
                return _Text(f"-max_{group}(-{bound})", "value", _SIGN)
        return None

    def _tensor(self, text: _Text) -> _Text:
        if text.kind != "constant":
            return text
        return _Text(f"torch.full_like({self._reference}, {text.python})", "value")


def _telling_name(expression: Expression) -> str:
    match expression:
        case Call(function="f'", arguments=(Word(text=point),)):
            return f"slope_at_{point}"
        case Call(function="f", arguments=(Word(text=point),)):
            return f"value_at_{point}"
        case Parameter(name=name):
            # No word of Python or of the language: nothing that a user wrote runs as it stands.
            return f"given_{name}"
    return ""


def _is_finite_constant(text: _Text) -> bool:
    return text.kind == "constant" and text.python not in ("nan", "inf", "-inf")


def _word(word: str) -> _Text:
    match word:
        case "convex":
            return _Text("curvature > 0", "mask", _COMPARE)
        case "concave":
            return _Text("curvature < 0", "mask", _COMPARE)
        case "s_shaped":
            return _Text("f.shape is S_SHAPED", "flag", _COMPARE)
        case "smooth" | "monotone" | "piecewise_linear":
            return _Text(f"f.{word}", "flag")
    return _Text(word, "value")


def _negated(text: _Text) -> _Text:
    if text.kind == "flag":
        return _Text(f"not {text.within(_NOT)}", "flag", _NOT)
    return _Text(f"~{text.within(_SIGN)}", "mask", _SIGN)


def _joined(operation: str, left: _Text, right: _Text) -> _Text:
    if left.kind == right.kind == "flag":
        binding = _AND if operation == "and" else _OR
        return _Text(f"{left.within(binding)} {operation} {right.within(binding)}", "flag", binding)
    binding, sign = (_BIT_AND, "&") if operation == "and" else (_BIT_OR, "|")
    return _Text(f"{left.within(binding)} {sign} {right.within(binding)}", "mask", binding)


def _quotient(left: _Text, right: _Text) -> _Text:
    if right.kind == "constant" and right.python != "0":
        return _Text(f"{left.within(_TERM)} / {right.within(_SIGN)}", "value", _TERM)
    if right.kind == "constant":  # whatever is divided by 0 is undefined
        return _Text(f"{left.within(_TERM)} * nan", "value", _TERM)
    return _Text(f"divide({left.python}, {right.python})", "value")


def _occurrences(expressions: Iterable[Expression]) -> Counter[Expression]:
    """Count where each composed expression is written; inside a repeated one only once."""
    seen: Counter[Expression] = Counter()

    def visit(expression: Expression) -> None:
        atomic = isinstance(expression, Word | Number) or (
            isinstance(expression, Call) and expression.function in BOUNDS
        )
        if atomic:
            return
        seen[expression] += 1
        if seen[expression] == 1:
            for child in children(expression):
                visit(child)

    for expression in expressions:
        visit(expression)
    return seen
