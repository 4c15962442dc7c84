"""Which expressions have a meaning: the words of the language, and where each may stand."""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from absolver.dsl.errors import ExpressionError, OperandError, UnknownWordError
from absolver.dsl.syntax import (
    Binary,
    Call,
    Conditional,
    Expression,
    Number,
    Parameter,
    Slope,
    Unary,
    Word,
    children,
)

BOUNDS: Mapping[str, str] = {
    "l": "the operand's lower bound",
    "u": "the operand's upper bound",
    "mid": "(l + u) / 2",
}
FACTS: Mapping[str, str] = {
    "convex": "the operator is convex on [l, u]",
    "concave": "the operator is concave on [l, u]",
    "s_shaped": "the operator is convex, then concave, as sigmoid is",
    "smooth": "the operator has a derivative everywhere",
    "monotone": "the operator never decreases",
    "piecewise_linear": "the operator consists of linear pieces",
}
BOX_FREE_FACTS = frozenset(FACTS) - {"convex", "concave"}
"""The facts that hold of an operator on every box or on none."""
GROUPS: Mapping[str, str] = {
    "others": "all operands but this one",
    "earlier": "the operands before this one",
}
DERIVATIVES = "f'"
"""As an argument of `min` or `max`: the operator's derivatives in all points of [l, u]."""
ARITY_ANY = ("each",)
"""What an operator record gives as its operands where it takes any number of them."""

ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
"""What operations mean, on any sort of numbers; a quotient depends on its divisor."""
COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
"""What comparisons mean."""
ARGUMENTS: Mapping[str, str] = {"f": "one", "f'": "one", "abs": "one", "min": "", "max": ""}
# CPython's parser refuses 200 nested parentheses, and no rule of the field comes near.
_DEEPEST = 60

Kind = Literal["number", "condition"]


@dataclass(frozen=True)
class Scope:
    """Where an expression stands: the operator, its operands, and whether `each` is in front."""

    operator: str
    operands: tuple[str, ...]
    each: bool = False

    @property
    def one_operand(self) -> bool:
        """Whether the operator has exactly one operand."""
        return len(self.operands) == 1 and self.operands != ARITY_ANY


def check_slope(slope: Slope, operator: str, operands: tuple[str, ...]) -> None:
    """Check that a slope has one meaningful number for each operand of the operator."""
    _check_arity(slope, operator, operands)
    scope = Scope(operator, operands, slope.each)
    for entry in (*slope.entries, *([slope.intercept] if slope.intercept else [])):
        _check(entry, scope, "number")


def check_depth(slope: Slope) -> None:
    """Check that no expression is nested too deeply to be walked through."""
    for entry in slope.entries:
        if _depth(entry) > _DEEPEST:
            message = f"this expression is nested more than {_DEEPEST} deep"
            raise ExpressionError(entry.span, message, "write a shorter expression")


def closest(word: str, candidates: Iterable[str]) -> str:
    """Advise what to write instead of an unknown word."""
    known = sorted(candidates)
    near = get_close_matches(word, known, n=1)
    if near:
        return f"did you mean `{near[0]}`?"
    return "known are " + ", ".join(f"`{name}`" for name in known)


def _depth(expression: Expression) -> int:
    below = [1]
    level = list(children(expression))
    while level:
        below.append(1)
        level = [child for parent in level for child in children(parent)]
    return len(below)


def _check_arity(slope: Slope, operator: str, operands: tuple[str, ...]) -> None:
    if operands == ARITY_ANY:
        if not slope.each:
            message = f"`{operator}` takes any number of operands"
            remedy = "write `slope each EXPRESSION`, in which l and u are one operand's bounds"
            raise OperandError(slope.span, message, remedy)
        return
    names = ", ".join(operands)
    if slope.each:
        message = f"`each` is for operators of any number of operands, `{operator}` has {names}"
        remedy = (
            "leave `each` out"
            if len(operands) == 1
            else f"write one slope for each: ({', '.join('…' for _ in operands)})"
        )
        raise OperandError(slope.span, message, remedy)
    if len(slope.entries) != len(operands):
        given = f"{len(slope.entries)} slope{'s' if len(slope.entries) > 1 else ''}"
        count = f"{len(operands)} operand{'s' if len(operands) > 1 else ''}"
        message = f"`{operator}` has {count} ({names}), this gives {given}"
        remedy = (
            "write a single expression"
            if len(operands) == 1
            else f"write one slope for each, in this order: ({', '.join('…' for _ in operands)})"
        )
        raise OperandError(slope.span, message, remedy)


def _check(expression: Expression, scope: Scope, wanted: Kind) -> None:
    kind: Kind = "number"
    match expression:
        case Number():
            pass
        case Word():
            kind = _check_word(expression, scope)
        case Unary(operation="-", operand=operand):
            _check(operand, scope, "number")
        case Unary(operand=operand):
            kind = "condition"
            _check(operand, scope, "condition")
        case Binary(operation=operation):
            kind = "number" if operation in ("+", "-", "*", "/") else "condition"
            parts: Kind = "condition" if operation in ("and", "or") else "number"
            _check(expression.left, scope, parts)
            _check(expression.right, scope, parts)
        case Call():
            _check_call(expression, scope)
        case Conditional() | Parameter():
            first, *others = children(expression)
            _check(first, scope, "condition" if isinstance(expression, Conditional) else "number")
            for part in others:
                _check(part, scope, "number")
    if kind != wanted:
        raise _wrong_kind(expression, wanted)


def _wrong_kind(expression: Expression, wanted: Kind) -> ExpressionError:
    if wanted == "number":
        message = "this is a condition, where a number is needed"
        return ExpressionError(expression.span, message, "write `if … then 1 else 0`")
    message = "this is a number, where a condition is needed"
    return ExpressionError(expression.span, message, "compare it with something: `… > 0`")


def _check_word(word: Word, scope: Scope) -> Kind:
    text = word.text
    if text in FACTS:
        return "condition"
    if text in BOUNDS:
        if not (scope.one_operand or scope.each):
            choices = " or ".join(f"`{text}({name})`" for name in scope.operands)
            names = " and ".join(scope.operands)
            message = f"`{scope.operator}` has the operands {names}: whose `{text}`?"
            raise OperandError(word.span, message, f"write {choices}")
        return "number"
    if text == "chord":
        _need_one_operand(word, "chord", scope)
        return "number"
    if text in ARGUMENTS:
        message = f"`{text}` is a function"
        raise ExpressionError(word.span, message, f"give it an argument: `{text}(…)`")
    if text in GROUPS:
        message = f"`{text}` names operands, not a number"
        raise ExpressionError(word.span, message, f"write `max(l({text}))` or `min(u({text}))`")
    if text in scope.operands or text == "x":
        message = f"`{text}` itself is not known, only its bounds"
        remedy = "write " + ("`l` or `u`" if scope.one_operand else f"`l({text})` or `u({text})`")
        raise UnknownWordError(word.span, message, remedy)
    raise UnknownWordError(
        word.span, f"`{text}` means nothing here", closest(text, {*BOUNDS, *FACTS, "chord"})
    )


def _check_call(call: Call, scope: Scope) -> None:
    function = call.function
    if function in BOUNDS:
        _check_access(call, scope, groups=False)
        return
    if function not in ARGUMENTS:
        message = f"there is no function `{function}`"
        raise UnknownWordError(call.span, message, closest(function, {*ARGUMENTS, *BOUNDS}))
    if function in ("f", "f'"):
        _need_one_operand(call, function, scope)
    if ARGUMENTS[function] and len(call.arguments) > 1:
        message = f"`{function}` takes one argument, this gives {len(call.arguments)}"
        raise ExpressionError(call.span, message, "keep one of them")
    for argument in call.arguments:
        if function in ("min", "max") and argument == Word(argument.span, DERIVATIVES):
            _need_one_operand(argument, DERIVATIVES, scope)
        elif function in ("min", "max") and _is_access(argument):
            assert isinstance(argument, Call)
            _check_access(argument, scope, groups=True)
        else:
            _check(argument, scope, "number")


def _is_access(expression: Expression) -> bool:
    return isinstance(expression, Call) and expression.function in BOUNDS


def _check_access(call: Call, scope: Scope, *, groups: bool) -> None:
    """Check `l(x)`, and `l(others)` where it is an argument of min or max."""
    names = () if scope.operands == ARITY_ANY else scope.operands
    allowed = {*names, *(GROUPS if scope.each and groups else ())}
    argument = call.arguments[0]
    if len(call.arguments) == 1 and isinstance(argument, Word) and argument.text in allowed:
        return
    if isinstance(argument, Word) and argument.text in GROUPS and scope.each:
        message = f"`{call.function}({argument.text})` is one number for each of several operands"
        remedy = f"take the `max` or `min` of them: `max({call.function}({argument.text}))`"
        raise OperandError(call.span, message, remedy)
    message = f"`{call.function}(…)` takes the name of one operand of `{scope.operator}`"
    if names:
        remedy = "write " + " or ".join(f"`{call.function}({name})`" for name in names)
    else:
        remedy = f"write `{call.function}`, which is the one of the operand at hand"
    raise OperandError(call.span, message, remedy)


def _need_one_operand(expression: Expression, what: str, scope: Scope) -> None:
    if not scope.one_operand:
        message = f"`{what}` is for operators of one operand, `{scope.operator}` has several"
        remedy = "write the slope with the bounds of the operands"
        raise OperandError(expression.span, message, remedy)
