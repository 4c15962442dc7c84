"""Lines that a rule writes out, `upper line s*x + t`: their slopes run, their intercept is proved.

A line is split once into what is multiplied by each operand and the rest. The slopes then go the
way of all slopes; nothing but the prover looks at the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from absolver.dsl.errors import ExpressionError, OperandError, SideError
from absolver.dsl.expressions import ARITY_ANY
from absolver.dsl.syntax import (
    Binary,
    CheckedRule,
    Conditional,
    Expression,
    Number,
    Parameter,
    Rule,
    Side,
    Slope,
    Span,
    Unary,
    Word,
    children,
)

_Parts = tuple[Expression | None, ...]
"""What is multiplied by each operand, and last what by none; None for 0."""


class WrittenLine(NamedTuple):
    """One line of a rule, and where it belongs."""

    operator: str
    operands: tuple[str, ...]
    side: Literal["lower", "upper"]
    slope: Slope


def written_lines(rules: Mapping[str, CheckedRule]) -> Iterator[WrittenLine]:
    """Go through all lines that rules write out."""
    for operator, rule in rules.items():
        if rule.lower.written:
            yield WrittenLine(operator, rule.operands, "lower", rule.lower)
        if rule.upper.written:
            yield WrittenLine(operator, rule.operands, "upper", rule.upper)


def split_lines(rule: Rule, operator: str, operands: tuple[str, ...]) -> Rule:
    """Split the written lines of a rule for one of its operators."""
    sides = tuple(
        _split(side, operator, operands) if side.slope.written else side for side in rule.sides
    )
    return replace(rule, sides=sides)


def _split(side: Side, operator: str, operands: tuple[str, ...]) -> Side:
    if operator == "any" or operands == ARITY_ANY:
        message = f"`{operator}` cannot have a line that is written out"
        raise OperandError(side.head, message, "write it for one operator, or write a slope")
    if side.side == "both":
        message = "a line on both sides would say that the operator is that line"
        raise SideError(
            side.head, message, "write `lower line …`, `upper line …` or `both slope …`"
        )
    (line,) = side.slope.entries
    *slopes, intercept = _parts(line, operands)
    zero = Number(line.span, 0.0)
    entries = tuple(slope or zero for slope in slopes)
    return replace(side, slope=replace(side.slope, entries=entries, intercept=intercept or zero))


def _parts(expression: Expression, operands: Sequence[str]) -> _Parts:
    """Write an expression as a sum of multiples of the operands and a rest."""
    if not _names_one(expression, operands):
        return (*(None for _ in operands), expression)
    match expression:
        case Word(text=name, span=span):
            one = Number(span, 1.0)
            return (*(one if name == each else None for each in operands), None)
        case Unary(operation="-", operand=operand, span=span):
            return tuple(part and Unary(span, "-", part) for part in _parts(operand, operands))
        case Binary(operation="+" | "-" | "*" | "/"):
            parts = _of_binary(expression, operands)
        case Conditional(condition=condition) if not _names_one(condition, operands):
            parts = _of_choice(expression, operands)
        case _:
            parts = None
    if parts is not None:
        return parts
    names = " and ".join(f"`{name}`" for name in operands)
    message = f"this is no line: {names} may be added, negated and multiplied by numbers only"
    raise ExpressionError(expression.span, message, "write it as `slope*x + intercept`")


def _of_binary(whole: Binary, operands: Sequence[str]) -> _Parts | None:
    left, right, span = whole.left, whole.right, whole.span
    if whole.operation in ("+", "-"):
        pairs = zip(_parts(left, operands), _parts(right, operands), strict=True)
        return tuple(_added(span, whole.operation, *pair) for pair in pairs)
    if not _names_one(right, operands):
        parts = _parts(left, operands)
        if whole.operation == "*":
            return tuple(_product(span, part, right) for part in parts)
        return tuple(part and Binary(span, "/", part, right) for part in parts)
    if whole.operation == "*" and not _names_one(left, operands):
        return tuple(_product(span, left, part) for part in _parts(right, operands))
    return None


def _of_choice(whole: Conditional, operands: Sequence[str]) -> _Parts:
    span, zero = whole.span, Number(whole.span, 0.0)
    pairs = zip(_parts(whole.then, operands), _parts(whole.otherwise, operands), strict=True)
    return tuple(
        Conditional(span, whole.condition, then or zero, otherwise or zero)
        if then or otherwise
        else None
        for then, otherwise in pairs
    )


def _names_one(expression: Expression, operands: Sequence[str]) -> bool:
    if isinstance(expression, Word):
        return expression.text in operands
    # `l(x)` names a bound, not the operand itself.
    inner = children(expression)
    if len(inner) == 1 and isinstance(inner[0], Word) and not isinstance(expression, Unary):
        return getattr(expression, "function", "") not in ("l", "u", "mid") and _names_one(
            inner[0], operands
        )
    if isinstance(expression, Parameter):
        return False
    return any(_names_one(part, operands) for part in inner)


def _added(
    span: Span, operation: str, a: Expression | None, b: Expression | None
) -> Expression | None:
    if b is None:
        return a
    if a is None:
        return b if operation == "+" else Unary(span, "-", b)
    return Binary(span, operation, a, b)


def _product(span: Span, a: Expression | None, b: Expression | None) -> Expression | None:
    if a is None or b is None:
        return None
    one = [each for each in (a, b) if each != Number(span, 1.0)]
    return Binary(span, "*", a, b) if len(one) == 2 else one[0] if one else a
