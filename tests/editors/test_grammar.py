"""The editors' grammar knows exactly the words that the language has.

`python -m tests.editors.test_grammar` writes the grammar anew from `dsl/words.py`.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from absolver import domains
from absolver.dsl.expressions import ARGUMENTS, BOUNDS, FACTS, GROUPS
from absolver.dsl.operators import OPERATORS
from absolver.dsl.parser import keywords
from absolver.dsl.smoothing import kinds
from absolver.dsl.words import (
    CARRIERS,
    CHOICE,
    FUNCTIONS,
    MEANINGS,
    NOISE_FUNCTIONS,
    NOISE_WORDS,
    NOISES,
    NUMBERS,
    STRUCTURE,
)

FOLDER = Path(__file__).resolve().parents[2] / "editors/vscode"
FILE = FOLDER / "syntaxes/absolver-domain.tmLanguage.json"


def one_of(words: Iterable[str]) -> str:
    """Match whole words; `f'` is one too, and ends where no letter follows."""
    return rf"\b(?:{'|'.join(sorted(words, key=lambda w: (-len(w), w)))})(?![A-Za-z_0-9'])"


def grammar() -> dict[str, Any]:
    head = r"[A-Za-z_][A-Za-z_0-9]*"
    patterns: list[dict[str, Any]] = [
        {"name": "comment.line.number-sign.absolver-domain", "match": "#.*$"},
        {"name": "string.quoted.double.absolver-domain", "begin": '"', "end": '"'},
        {
            "match": rf"^\s*(domain|extends)\s+({head})",
            "captures": {
                "1": {"name": "keyword.declaration.absolver-domain"},
                "2": {"name": "entity.name.type.absolver-domain"},
            },
        },
        {
            "comment": "the operators that a rule is for",
            "match": rf"^\s*({head}(?:\s*,\s*{head})*)\s*(?=:|in\s+groups\b)",
            "captures": {"1": {"name": "entity.name.function.absolver-domain"}},
        },
    ]
    for name, words in {
        "keyword.control": CHOICE,
        "keyword.declaration": STRUCTURE,
        "support.type": {**CARRIERS, **NOISES},
        "support.constant": FACTS,
        "support.function": {**FUNCTIONS, **NOISE_FUNCTIONS},
        "variable.language": {**NUMBERS, **NOISE_WORDS},
    }.items():
        patterns.append({"name": f"{name}.absolver-domain", "match": one_of(words)})
    patterns += [
        {
            "name": "constant.numeric.absolver-domain",
            "match": r"(?:\b\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?",
        },
        {"name": "keyword.operator.absolver-domain", "match": r"<=|>=|==|!=|[<>+\-*/&|=]"},
    ]
    return {
        "$schema": "https://raw.githubusercontent.com/martinring/tmlanguage/master/tmlanguage.json",
        "name": "Absolver domain",
        "scopeName": "source.absolver-domain",
        "fileTypes": ["dom"],
        "patterns": patterns,
    }


def written() -> str:
    return json.dumps(grammar(), indent=2) + "\n"


def test_the_grammar_has_the_words_of_the_language() -> None:
    assert FILE.read_text(encoding="utf-8") == written(), "run python -m tests.editors.test_grammar"


def test_every_word_that_the_parser_and_the_checker_know_has_a_meaning() -> None:
    known = {*keywords(), *BOUNDS, *FACTS, *GROUPS, *ARGUMENTS, "chord", "any"}
    known |= {*kinds.KINDS, *kinds.SLOPES, *kinds.VOTES, *kinds.FUNCTIONS}
    assert known <= set(MEANINGS), "add it to dsl/words.py"
    assert all(MEANINGS.values())


def test_every_word_with_a_meaning_stands_in_the_language() -> None:
    guide = (FOLDER.parents[1] / "docs/dsl.md").read_text(encoding="utf-8")
    assert [word for word in MEANINGS if not re.search(rf"\b{word}(?!\w)", guide)] == []


@pytest.mark.parametrize("name", ["package.json", "language-configuration.json"])
def test_the_extension_names_files_that_are_there(name: str) -> None:
    content = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    for kind in content.get("contributes", {}).values():
        for entry in kind:
            named = [entry[key] for key in ("configuration", "path") if key in entry]
            assert named and all((FOLDER / path).is_file() for path in named)


def test_every_line_of_the_library_is_coloured_to_its_end() -> None:
    operands = {name for operator in OPERATORS.values() for name in operator.operands}
    rules = [rule for rule in grammar()["patterns"] if "match" in rule]
    for name in domains.names():
        (path,) = domains.locate(name)
        for line in re.sub('"[^"]*"', "", path.read_text(encoding="utf-8")).splitlines():
            rest = line
            for rule in rules:
                rest = re.sub(rule["match"], " ", rest)
            names = set(re.findall(r"[A-Za-z_]+", rest))
            # What is left are names: of domains, parameters and operands.
            parameters = re.findall(r"parameter (\w+)", path.read_text(encoding="utf-8"))
            assert names <= {*domains.names(), *operands, *parameters}


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
