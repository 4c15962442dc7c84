"""The network and the properties that ship with the project do what their README says."""

import runpy
from pathlib import Path

import pytest

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.frontends.onnx import load_onnx
from absolver.analyzer.loops.verify import RunsQuery, verify_runs
from absolver.analyzer.verify import Session, verify

FOLDER = Path(__file__).resolve().parents[1] / "examples"


def table() -> list[tuple[str, str, str]]:
    """Read (property, domain, verdict) from the table of the README."""
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in (FOLDER / "README.md").read_text().splitlines()
        if line.startswith("|")
    ]
    domains = rows[0][2:]
    return [
        (row[0], domain, verdict)
        for row in rows[2:]
        for domain, verdict in zip(domains, row[2:], strict=True)
    ]


@pytest.mark.parametrize(("name", "domain", "verdict"), table())
def test_the_examples_get_the_verdicts_of_their_readme(
    name: str, domain: str, verdict: str
) -> None:
    session = Session(Deadline.after(60))
    report = verify(FOLDER / "avoidance.onnx", FOLDER / name, domain=domain, session=session)
    assert report.verdict.value == verdict


def test_every_example_property_is_in_the_table() -> None:
    assert {name for name, _, _ in table()} == {path.name for path in FOLDER.glob("*.vnnlib")}


@pytest.mark.parametrize(("name", "verdict"), [("stays", "verified"), ("short", "falsified")])
def test_the_cart_gets_the_verdicts_of_the_readme(name: str, verdict: str) -> None:
    query = RunsQuery(FOLDER / f"cart/{name}.vnnlib", ("next_state=state",))
    report = verify_runs(FOLDER / "cart/step.onnx", query, session=Session(Deadline.after(60)))
    assert report.verdict.value == verdict
    assert report.checked == (verdict == "verified")


def test_the_committed_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.*") if path.is_file()) < 200_000


def test_the_training_script_writes_a_network_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "avoidance.onnx"
    monkeypatch.setattr("sys.argv", ["train_avoidance.py", str(target), "--steps", "5"])
    runpy.run_path(str(FOLDER / "train_avoidance.py"), run_name="__main__")
    assert "mean error" in capsys.readouterr().out
    assert load_onnx(target).graph.input.shape == (1, 3)


def test_the_training_script_of_the_cart_writes_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "step.onnx"
    monkeypatch.setattr("sys.argv", ["train_cart.py", str(target), "--steps", "5"])
    runpy.run_path(str(FOLDER / "cart/train_cart.py"), run_name="__main__")
    assert "mean error" in capsys.readouterr().out
    assert [spec.name for spec in load_onnx(target).graph.inputs] == ["state", "wind"]
