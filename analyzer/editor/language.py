"""What an editor asks about a domain file: is it right, what is this word, what may stand here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import getdoc
from pathlib import Path

from absolver import domains
from absolver.dsl.errors import DomainError, LocatedError
from absolver.dsl.expressions import FACTS
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Operator
from absolver.dsl.words import CARRIERS, CHOICE, FUNCTIONS, MEANINGS, NUMBERS, STRUCTURE

_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*'?")
# What stands before the place of a completion, from the line's start.
_WANTS_DOMAIN = re.compile(r"(^\s*extends|\bbounds\s+from|[&(])\s*\w*$")
_WANTS_CARRIER = re.compile(r"\bover\s+\w*$")
_BEGINS_STATEMENT = re.compile(r"^\s*(\w+\s*,\s*)*\w*$")
_SIDES = ("lower slope", "upper slope", "both slope")


@dataclass(frozen=True)
class Finding:
    """Something wrong with a file: lines and columns from 1, the end column not included."""

    line: int
    column: int
    end_line: int
    end_column: int
    message: str


@dataclass(frozen=True)
class Proposal:
    """A word that may stand at a place, and what it means."""

    word: str
    meaning: str
    kind: str


def findings(text: str, path: Path) -> list[Finding]:
    """Check a text; the language reports the first thing that is wrong."""
    try:
        domains.examine(text, path)
    except LocatedError as error:
        span, message = error.span, f"{error.message}\n{error.remedy}"
        if span.source.text == text:
            end_line, end = span.end_line, span.end_column
            return [Finding(span.line, span.column, end_line, end, message)]
        return [Finding(1, 1, 1, 2, str(error))]  # in a file that this one builds on
    except DomainError as error:
        return [Finding(1, 1, 1, 2, str(error))]
    return []


def explanation(line: str, column: int) -> str | None:
    """Say what the word at a column means, as Markdown; columns count from 0."""
    for match in _WORD.finditer(line):
        if match.start() <= column <= match.end():
            word = match.group()
            # `min` and `max` are operators where a rule begins, functions in expressions.
            heads_rule = re.match(r"\s*(\w+\s*,\s*)*$", line[: match.start()]) is not None
            if word in OPERATORS and (heads_rule or word not in MEANINGS):
                return _facts(OPERATORS[word])
            if word in MEANINGS:
                return f"**{word}**: {MEANINGS[word]}"
            if word in domains.names():
                return f"**{word}**, a domain of the library: {_doc(word)}"
    return None


def proposals(before: str, path: Path) -> list[Proposal]:
    """Propose what may follow the text of a line, from its start to the place at hand."""
    if _WANTS_CARRIER.search(before):
        return _of("carrier", CARRIERS)
    if _WANTS_DOMAIN.search(before):
        beside = {file.stem: f"{file.name}" for file in sorted(path.parent.glob("*.dom"))}
        beside.pop(path.stem, None)
        return _of("domain", beside | {name: _doc(name) for name in domains.names()})
    if _BEGINS_STATEMENT.match(before):
        operators = {name: _first_line(operator) for name, operator in OPERATORS.items()}
        begin = {
            word: STRUCTURE[word]
            for word in ("any", "extends", "bounds", "lower", "x", "noise", "certifies")
        }
        return [*_of("operator", operators), *_of("word", begin)]
    sides = {side: STRUCTURE[side.split()[0]] for side in _SIDES}
    return [
        *_of("number", NUMBERS),
        *_of("function", FUNCTIONS),
        *_of("fact", FACTS),
        *_of("word", {**CHOICE, **sides, "parameter": STRUCTURE["parameter"]}),
    ]


def _of(kind: str, words: Mapping[str, str]) -> list[Proposal]:
    return [Proposal(word, meaning, kind) for word, meaning in words.items()]


def _facts(operator: type[Operator]) -> str:
    """Describe an operator by what rules may ask of it."""
    several = operator.operands == ("each",)
    operands = "any number of operands" if several else f"operands {', '.join(operator.operands)}"
    facts = [operands, f"shape {operator.shape.value}"]
    facts += [word for word in ("smooth", "monotone") if getattr(operator, word) is True]
    facts += ["piecewise linear"] if operator.piecewise_linear is True else []
    return f"**{operator.name}**: {_first_line(operator)}\n\n{'; '.join(facts)}"


def _first_line(operator: type[Operator]) -> str:
    return (getdoc(operator) or "").split("\n")[0]


def _doc(name: str) -> str:
    (path,) = domains.locate(name)
    return domains.declaration(path).doc
