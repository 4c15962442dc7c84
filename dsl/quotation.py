"""What an author has written, as comments above what it becomes."""

import re
from collections.abc import Sequence

from absolver.dsl.syntax import CheckedRule, Slope, Span

_SIDE = re.compile(r"\b(lower|upper|both)\b")


def quoted(operators: Sequence[str], rule: CheckedRule) -> str:
    """Quote a rule under the names of its operators, each line as a comment.

    Guarantee: every line begins with `#` and has no character at which Python would end it.
    """
    sides = {"lower": rule.lower, "upper": rule.upper}
    if rule.lower == rule.upper:
        del sides["upper"]
    texts = [_written(side, slope) for side, slope in sides.items()]
    head = ", ".join(operators) + ":  "
    lines = [line for text in texts for line in text]
    margins = [head, *(" " * len(head) for _ in lines[1:])]
    quotes = [f"# {margin}{line}" for margin, line in zip(margins, lines, strict=True)]
    return "".join(f"{_harmless(quote).rstrip()}\n" for quote in quotes)


def _written(side: str, slope: Slope) -> list[str]:
    """Return the lines of one side, from `lower` or `upper` to the end of its expression."""
    span = slope.span
    if not span.source.text:  # no rule anywhere, not even a default one
        return [f"{side} slope {'each ' if slope.each else ''}0"]
    lines = span.source.text.split("\n")[span.line - 1 : span.end_line]
    start = _start(lines[0], span)
    lines[-1] = lines[-1][: span.end_column - 1]
    first, *others = lines
    # The lines below keep their places under the first.
    return [first[start:], *(line[min(start, _indentation(line)) :] for line in others)]


def _start(line: str, span: Span) -> int:
    """Find the last side that a line names before an expression; else the expression's start."""
    heads = list(_SIDE.finditer(line, 0, span.column - 1))
    return heads[-1].start() if heads else span.column - 1


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def _harmless(line: str) -> str:
    """Replace what could end a comment, as a carriage return, by spaces."""
    return "".join(character if character.isprintable() else " " for character in line)
