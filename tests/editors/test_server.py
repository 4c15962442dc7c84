"""The language server as an editor meets it: messages in, messages out."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from absolver import domains
from absolver.analyzer.cli.absolver import main
from absolver.analyzer.editor.language import explanation, findings, proposals
from absolver.dsl.operators import OPERATORS

WRONG = "domain wrong\n  x = affine over symbols\n  relu:   upper slope chord\n"
RIGHT = "domain right\n  \"é𝛼\"\n  extends crown\n  tanh:   both slope min(f'(l), f'(u))\n"


def words(before: str, folder: Path = Path()) -> set[str]:
    return {each.word for each in proposals(before, folder / "mine.dom")}


@pytest.mark.parametrize("name", domains.names())
def test_nothing_is_found_in_the_library(name: str) -> None:
    (path,) = domains.locate(name)
    assert findings(path.read_text(encoding="utf-8"), path) == []


def test_what_is_wrong_is_found_where_it_stands() -> None:
    (found,) = findings(WRONG, Path("wrong.dom"))
    assert (found.line, found.column, found.end_column) == (3, 11, 22)
    assert "over symbols" in found.message and "write `both slope chord`" in found.message


def test_what_is_wrong_in_a_file_that_is_extended_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "wrong.dom").write_text(WRONG, encoding="utf-8")
    (found,) = findings("domain mine\n  extends wrong\n", tmp_path / "mine.dom")
    assert found.line == 1 and "wrong.dom:3:11" in found.message


@pytest.mark.parametrize(
    ("line", "column", "said"),
    [
        ("  relu, tanh:  upper slope chord", 9, "**tanh**: `(exp(x)"),
        ("  relu, tanh:  upper slope chord", 28, "**chord**: (f(u) - f(l))"),
        ("  max:  lower slope each 0", 3, "any number of operands; shape convex"),
        ("  relu: lower slope max(l, u)", 21, "the largest of several numbers"),
        ("  relu: lower slope f'(l)", 20, "the operator's derivative"),
        ("  extends crown", 12, "a domain of the library: Linear bounds"),
        ("  relu: lower slope zzz", 21, None),
        ("", 0, None),
    ],
)
def test_a_word_is_explained_by_what_it_means_there(
    line: str, column: int, said: str | None
) -> None:
    found = explanation(line, column)
    assert found is None if said is None else said in (found or "")


def test_what_is_proposed_fits_the_place(tmp_path: Path) -> None:
    (tmp_path / "beside.dom").touch()
    assert words("  lower <= x <= upper over ") == {"values", "inputs", "neurons", "symbols"}
    assert words("  extends cr", tmp_path) == {*domains.names(), "beside"}
    assert words("  bounds from ") == words("  interval & ") == set(domains.names())
    assert {*OPERATORS, "any", "extends"} <= words("  re") & words("  relu, ")
    inside = words("  relu: lower slope if convex then ")
    assert {"chord", "l", "f'", "min", "smooth", "else", "parameter"} <= inside
    assert not inside & {"relu", "crown"}


def talk(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    """Let an editor say something to a server, and return what that says."""
    server = pytest.importorskip("absolver.analyzer.editor.server").server()
    said = io.BytesIO()
    for message in messages:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        said.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    said.seek(0)
    answered = io.BytesIO()
    answered.close = lambda: None  # type: ignore[method-assign]
    server.start_io(said, answered)
    parts = answered.getvalue().split(b"\r\n\r\n")[1:]
    return [json.loads(part.split(b"Content-Length")[0]) for part in parts]


def test_an_editor_is_told_what_is_wrong_what_a_word_means_and_what_may_follow() -> None:
    def document(version: int | None = None) -> dict[str, Any]:
        return {"uri": "file:///mine.dom"} | ({"version": version} if version else {})

    def at(line: int, character: int) -> dict[str, Any]:
        return {"textDocument": document(), "position": {"line": line, "character": character}}

    opened = {"textDocument": document(1) | {"languageId": "absolver-domain", "text": WRONG}}
    changed = {"textDocument": document(2), "contentChanges": [{"text": RIGHT}]}
    answers = talk(
        {"id": 1, "method": "initialize", "params": {"capabilities": {}, "processId": None}},
        {"method": "initialized", "params": {}},
        {"method": "textDocument/didOpen", "params": opened},
        {"method": "textDocument/didChange", "params": changed},
        {"id": 2, "method": "textDocument/hover", "params": at(3, 4)},
        {"id": 3, "method": "textDocument/completion", "params": at(2, 10)},
        {"id": 4, "method": "textDocument/hover", "params": at(99, 99)},
        {"id": 5, "method": "shutdown"},
        {"method": "exit"},
    )
    by_id = {answer["id"]: answer.get("result") for answer in answers if "id" in answer}
    assert by_id[1]["capabilities"]["hoverProvider"]
    published = [a["params"] for a in answers if a.get("method", "").endswith("publishDiagnostics")]
    (wrong,) = published[0]["diagnostics"]
    assert wrong["range"]["start"] == {"line": 2, "character": 10}
    assert published[1]["diagnostics"] == []
    assert by_id[2]["contents"]["value"].startswith("**tanh**")
    assert {item["label"] for item in by_id[3]} >= set(domains.names())
    assert by_id[4] is None


def test_without_pygls_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "absolver.analyzer.editor.server", raising=False)
    monkeypatch.setitem(sys.modules, "pygls", None)
    monkeypatch.setitem(sys.modules, "pygls.lsp.server", None)
    assert main(["domain", "server"]) == 64
    assert "pip install 'absolver[editor]'" in capsys.readouterr().err
