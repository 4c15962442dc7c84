"""The conformance suite of VNN-LIB 2, `vnnlib-satisfactory`: every query gets its known answer."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from absolver.analyzer.certifier import Wishes
from absolver.analyzer.cli.supports import CAPABILITIES
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.executions import answer
from absolver.analyzer.problem import NamedQuery
from absolver.analyzer.properties.errors import ContradictionError
from absolver.analyzer.regions.errors import EmptyBoxError
from absolver.analyzer.report import Verdict
from absolver.analyzer.verify import Session
from tests.checking import audit_here

CASES = 178
LIMIT_S = 180
WORDS = {Verdict.VERIFIED: "UNSAT", Verdict.FALSIFIED: "SAT"}
THEORIES = {
    "multiple-network-theories": {"SNET", "MENET", "MINET", "MNET"},
    "hidden-node-theories": {"H"},
    "multiple-input-output-theories": {"SIO", "MIO"},
    "arithmetic-complexity-theories": {"BND", "OUTC", "LIN", "POLY"},
}

Case = Mapping[str, Any]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the suite's networks and queries, generated once."""
    folder = tmp_path_factory.mktemp("suite")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # The suite writes below the folder where it is; its own dependencies warn.
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        generator = pytest.importorskip(
            "vnntest.core.generator", reason="vnnlib-satisfactory is not installed: '.[dev]' has it"
        )
        generator.generate_all_tests(suite="full")
    return folder / ".vnnlib-satisfactory"


@pytest.fixture(scope="module")
def cases(suite: Path) -> Sequence[Case]:
    """What the suite's manifest says of every query."""
    entries: list[Case] = json.loads((suite / "manifest.json").read_text())
    return entries


def reply(suite: Path, case: Case) -> str:
    """Answer one query, in the words of the suite."""
    folder = suite / "tests" / case["category"]
    (name, file), *others = [(n, folder / f) for n, f in case["networks"].items()]
    query = NamedQuery(folder / case["vnnlib"], name, tuple(others))
    session = Session(Deadline.after(LIMIT_S))
    try:
        report = answer(file, query, wishes=Wishes(checker=audit_here), session=session)
    except (ContradictionError, EmptyBoxError):
        return "UNSAT"
    return WORDS.get(report.verdict, report.verdict.value)


def test_all_of_vnnlib_satisfactory_is_answered_right(suite: Path, cases: Sequence[Case]) -> None:
    assert len(cases) == CASES
    found = {case["name"]: reply(suite, case) for case in cases}
    known = {case["name"]: case["expected"].upper() for case in cases}
    assert found == known


def test_the_suite_skips_nothing_for_what_we_say_to_support(cases: Sequence[Case]) -> None:
    operators = set(CAPABILITIES["onnx-operators"][1])
    assert {case["primary_op_type"] for case in cases} - {None} <= operators
    for capability, theories in THEORIES.items():
        assert theories <= set(CAPABILITIES[capability][1])
