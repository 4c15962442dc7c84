"""Rules whose upper slope is the chord: how their slopes change with the bounds is known."""

from dataclasses import replace

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
)


def under_chord(rule: CheckedRule) -> CheckedRule | None:
    """Return the rule of the lower slope alone, under a chord, if it is one that only jumps.

    None where the upper slope is no chord, or the lower one moves with the bounds.
    """
    if not _is_chord(rule.upper) or not all(is_flat(entry) for entry in rule.lower.entries):
        return None
    return replace(rule, upper=rule.lower)


def has_both_chords(rule: CheckedRule) -> bool:
    """Whether both slopes are the chord."""
    return _is_chord(rule.lower) and _is_chord(rule.upper)


def is_flat(slope: Expression) -> bool:
    """Whether a slope is constant wherever no condition within it changes.

    Parameters stand at their starts.
    """
    match slope:
        case Number():
            return True
        case Conditional(then=first, otherwise=second) | Binary(left=first, right=second):
            return is_flat(first) and is_flat(second)
        case Unary(operand=operand):
            return is_flat(operand)
        case Call(function="min" | "max" | "abs", arguments=arguments):
            return all(is_flat(argument) for argument in arguments)
        case Parameter(start=start, lower=lower, upper=upper):
            return is_flat(start) and is_flat(lower) and is_flat(upper)
    return False


def _is_chord(slope: Slope) -> bool:
    match slope.entries:
        case (Word(text="chord"),):
            return True
    return False
