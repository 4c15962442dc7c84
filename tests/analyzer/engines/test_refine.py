"""`refine` begins with its domain's pass: oracles are asked only what that leaves open."""

from pathlib import Path

import pytest

from absolver.analyzer.decide import Execution
from absolver.analyzer.engines import refine
from absolver.analyzer.engines.engine import Control
from absolver.analyzer.report import Report, Verdict
from absolver.analyzer.search.strategy import Outcome, Task
from absolver.analyzer.verify import Wishes, verify
from tests.checking import audit_here


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clauses the engine was asked each time."""
    counts: list[int] = []
    own = refine.decide

    def decide(task: Task, control: Control) -> Outcome:
        counts.append(int((task.specification.clause >= 0).sum()))
        return own(task, control)

    monkeypatch.setattr(refine, "decide", decide)
    return counts


def refined(network: Path, query: Path, domain: str) -> Report:
    execution, wishes = Execution(engine="refine"), Wishes(checker=audit_here)
    return verify(network, query, domain=domain, execution=execution, wishes=wishes)


def test_what_the_domain_alone_refutes_needs_no_oracle(
    asked: list[int], examples_folder: Path
) -> None:
    report = refined(
        examples_folder / "avoidance.onnx", examples_folder / "diverging.vnnlib", "crown"
    )
    assert report.verdict is Verdict.VERIFIED and report.checked and not asked


def test_a_certificate_joins_what_the_domain_and_what_an_oracle_has_refuted(
    asked: list[int], examples_folder: Path, tmp_path: Path
) -> None:
    text = (examples_folder / "diverging.vnnlib").read_text()
    assert "(<= Y_2 Y_0)" in text
    query = tmp_path / "one_is_easy.vnnlib"
    query.write_text(text.replace("(<= Y_2 Y_0)", "(<= Y_2 -1000.0)"))
    report = refined(examples_folder / "avoidance.onnx", query, "interval")
    assert report.verdict is Verdict.VERIFIED and report.checked and asked == [1]
