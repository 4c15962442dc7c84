"""What is proved once is not proved again; what changed, or was undecided, is."""

from pathlib import Path

import pytest

from absolver import domains
from absolver.dsl.errors import LineError, ProverMissingError
from absolver.dsl.prover import cache, run
from absolver.dsl.prover.obligations import Outcome, Point, proved, refuted, undecided

TRIANGLE = "domain mine\n  extends crown\n  relu: upper line u/(u-l)*x - u*l/(u-l)\n"


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_an_answer_is_kept_under_its_content() -> None:
    point = Point({"l": 0.1}, 1.0, 2.0, ((0.0, 1.0, 2.0),))
    outcomes = [Outcome("a", "b", proved("z3"), 1.5), Outcome("a", "c", refuted("d", point), 0.5)]
    cache.keep(outcomes, "rule", "text")
    assert cache.kept("rule", "text") == outcomes
    assert cache.kept("rule", "another text") is None


def test_what_is_undecided_is_not_kept() -> None:
    cache.keep([Outcome("a", "b", undecided("no time"), 1.0)], "rule", "text")
    assert cache.kept("rule", "text") is None


def test_a_torn_entry_is_proved_anew(tmp_path: Path) -> None:
    cache.keep([Outcome("a", "b", proved(), 1.0)], "text")
    (entry,) = (tmp_path / "cache").rglob("*.json")
    entry.write_text(entry.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    assert cache.kept("text") is None


def test_a_place_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.keep([Outcome("a", "b", proved(), 1.0)], "text")
    assert cache.kept("text") is None


def test_a_proved_line_loads_and_is_not_proved_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.dom").write_text(TRIANGLE, encoding="utf-8")
    assert domains.load("mine.dom").name == "mine"

    def refuse(_: object) -> None:
        raise AssertionError("proved again")

    monkeypatch.setattr(run, "decided", refuse)
    assert domains.load("mine.dom").name == "mine"


def test_a_line_that_is_not_proved_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.dom").write_text(TRIANGLE.replace("- u*l", "+ u*l"), encoding="utf-8")
    with pytest.raises(LineError, match="refuted: the upper line is below"):
        domains.load("mine.dom")
    Path("mine.dom").write_text(TRIANGLE, encoding="utf-8")
    unknown = [Outcome("a", "b", undecided("no time"), 1.0)]
    monkeypatch.setattr(run, "decided", lambda _: unknown[0])
    with pytest.raises(LineError, match="undecided"):
        domains.load("mine.dom")


def test_without_solvers_only_written_lines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find_spec", lambda _: None)
    assert domains.load("crown").name == "crown"
    Path("mine.dom").write_text(TRIANGLE, encoding="utf-8")
    with pytest.raises(ProverMissingError, match=r"absolver\[smt\]"):
        domains.load("mine.dom")
