"""The guides for authors, followed literally, work: from a new file to a checked certificate."""

from pathlib import Path

import pytest

from absolver import domains
from absolver.analyzer.cli.analyze import main as analyze
from tests.guides import ROOT, blocks, follow, in_order

GUIDE = "write-a-domain.md"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(ROOT / "examples", target_is_directory=True)


def test_the_guide_followed_literally_works(capsys: pytest.CaptureFixture[str]) -> None:
    for session in in_order(blocks(GUIDE, "dom", "console")):
        follow(session.text, capsys)
    assert Path("soft.svg").stat().st_size > 1000
    assert domains.load("softer.dom").optimised


@pytest.fixture
def prover(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prover for domains: what operators owe is proved in tests of its own."""
    for package in ("z3", "sympy", "flint"):
        pytest.importorskip(package)
    monkeypatch.setattr("absolver.dsl.prover.run.prove_operators", lambda *_: [])


@pytest.mark.usefixtures("prover")
def test_its_domain_is_proved(capsys: pytest.CaptureFixture[str]) -> None:
    for session in in_order(blocks(GUIDE, "dom", "proof")):
        follow(session.text, capsys)


@pytest.mark.usefixtures("prover")
def test_the_tutorial_refutes_a_rule_and_repairs_it(capsys: pytest.CaptureFixture[str]) -> None:
    for session in in_order(blocks("tutorial-unsound-rule.md", "dom", "console", "proof")):
        follow(session.text, capsys)


def test_its_domain_verifies_a_public_property_by_branch_and_bound(
    bench_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("acasxu").symlink_to(bench_folder / "acasxu", target_is_directory=True)
    for session in in_order(blocks(GUIDE, "dom", "benchmark")):
        follow(session.text, capsys)


def test_searched_slopes_verify_what_one_pass_does_not() -> None:
    for _ in in_order(blocks(GUIDE, "dom")):
        pass
    query = ["examples/avoidance.onnx", "examples/diverging_wide.vnnlib"]
    assert analyze([*query, "--domain", "softer.dom", "--quiet"]) == 0
