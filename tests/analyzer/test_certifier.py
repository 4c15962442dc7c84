"""What is submitted to the checker, and what follows from its answers; the checker is a fake."""

import hashlib
from collections.abc import Callable, Collection
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from absolver.analyzer import case
from absolver.analyzer import verify as verification
from absolver.analyzer.certifier import SemanticsError
from absolver.analyzer.checker import Statement
from absolver.analyzer.deadline import Deadline, DeadlineExpired
from absolver.analyzer.decide import Decision, Execution
from absolver.analyzer.problem import Ball
from absolver.analyzer.report import Audit, Grade, Report, Semantics, Verdict
from absolver.analyzer.verify import Wishes, verify
from absolver.certificates.format import read_records

Write = Callable[..., Path]
# A search goes on for as long as it may.
UNDECIDED = (Verdict.UNKNOWN, Verdict.TIMEOUT)
REAL, FLOAT32 = Semantics.REAL, Semantics.FLOAT32
ABSOLUTE = (([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
UNIT = [("-1", "1")]
# 2^24 x + x - 2^24 x is x over the reals; in float32 it is 2 at x = 1.5.
ABSORBING = (([[1.0]] * 3, [0.0] * 3), ([[2.0**24, 1.0, -(2.0**24)]], [0.0]))
TYPED = """(vnnlib-version <2.0>)
(declare-network f (declare-input X {type} [1,1]) (declare-output Y {type} [1,1]))
(assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.0)))
(assert (>= Y[0,0] 2.5))
"""


class FakeChecker:
    """Accepts claims over some semantics, or witnesses of some grades; remembers what it saw."""

    def __init__(self, *accepted: str, answer: str = "invalid") -> None:
        self.accepted: Collection[str] = accepted
        self.answer = answer
        self.claims: list[str] = []
        self.seen: list[Statement] = []
        self.files: list[Path] = []

    def __call__(self, statement: Statement, certificate: Path, deadline: Deadline) -> Audit:
        with certificate.open("rb") as stream:
            claim, first, *_ = read_records(stream)
        self.check_hashes(claim, statement)
        said = first["grades"] if first["record"] == "witness" else [claim["semantics"]]
        self.claims.append(" ".join(said))
        self.seen.append(statement)
        self.files.append(certificate)
        if set(said) <= set(self.accepted):
            return Audit("valid", "", "fast", 0.25)
        return Audit(self.answer, f"not {self.claims[-1]}", "fast", 0.25)

    def check_hashes(self, claim: dict[str, Any], statement: Statement) -> None:
        for key, path in (("network", statement.network), ("property", statement.query)):
            assert claim[key] == hashlib.sha256(path.read_bytes()).hexdigest()


def answer(checker: FakeChecker, network: Path, query: object, **wishes: object) -> Report:
    return verify(network, query, wishes=Wishes(checker=checker, **wishes))


@pytest.fixture
def holds(write_network: Write, write_property: Write) -> tuple[Path, Path]:
    return write_network(*ABSOLUTE), write_property(UNIT, "(>= Y_0 2.5)")


@pytest.fixture
def fails(write_network: Write, write_property: Write) -> tuple[Path, Path]:
    return write_network(*ABSOLUTE), write_property(UNIT, "(>= Y_0 0.75)")


@pytest.fixture
def fails_in_float32(write_network: Write, write_property: Write) -> tuple[Path, Path]:
    return write_network(*ABSORBING), write_property([("1", "1.75")], "(>= Y_0 1.9)")


@pytest.mark.parametrize(
    ("asked", "accepted", "claims", "verdict", "about"),
    [
        (None, [FLOAT32, REAL], ["float32"], Verdict.VERIFIED, FLOAT32),
        (None, [REAL], ["float32", "real"], Verdict.VERIFIED, REAL),
        (None, [], ["float32", "real"], Verdict.VERIFIED, REAL),
        (REAL, [FLOAT32, REAL], ["real"], Verdict.VERIFIED, REAL),
        (REAL, [], ["real"], Verdict.VERIFIED, REAL),
        (FLOAT32, [FLOAT32, REAL], ["float32"], Verdict.VERIFIED, FLOAT32),
        (FLOAT32, [REAL], ["float32"], Verdict.UNKNOWN, FLOAT32),
    ],
)
def test_claims_are_submitted_strongest_first_until_one_is_accepted(
    asked: Semantics | None,
    accepted: list[Semantics],
    claims: list[str],
    verdict: Verdict,
    about: Semantics,
    holds: tuple[Path, Path],
) -> None:
    checker = FakeChecker(*accepted)
    report = answer(checker, *holds, semantics=asked)
    assert checker.claims == claims
    assert (report.verdict, report.semantics) == (verdict, about)
    assert report.checked == (claims[-1] in accepted)


def test_a_refused_claim_is_told_beside_the_accepted_one(holds: tuple[Path, Path]) -> None:
    report = answer(FakeChecker(REAL), *holds)
    assert "no proof over float32: audit answers invalid: not float32" in report.notes


def test_a_verdict_without_an_accepted_claim_says_why(holds: tuple[Path, Path]) -> None:
    report = answer(FakeChecker(answer="incomplete"), *holds)
    assert report.verdict is Verdict.VERIFIED and not report.checked
    reasons = "audit answers incomplete: not float32; audit answers incomplete: not real"
    assert report.unchecked == reasons


def test_float32_that_is_asked_for_and_not_proved_is_unknown_with_the_reason(
    holds: tuple[Path, Path],
) -> None:
    report = answer(FakeChecker(REAL), *holds, semantics=FLOAT32)
    assert "not proved of float32" in report.reason and "not float32" in report.reason


def test_a_checker_that_fails_is_not_asked_again(holds: tuple[Path, Path]) -> None:
    checker = FakeChecker(answer="")
    report = answer(checker, *holds)
    assert checker.claims == ["float32"] and report.unchecked == "not float32"


@pytest.mark.parametrize(("element_type", "claims"), [("float32", ["float32"]), ("real", ["real"])])
def test_the_types_of_a_query_decide(
    element_type: str, claims: list[str], holds: tuple[Path, Path]
) -> None:
    network, query = holds
    query.write_text(TYPED.format(type=element_type))
    checker = FakeChecker(REAL, FLOAT32)
    assert answer(checker, network, query).verdict is Verdict.VERIFIED
    assert checker.claims == claims
    other = REAL if element_type == "float32" else FLOAT32
    with pytest.raises(SemanticsError, match=f"--semantics {other} contradicts"):
        answer(checker, network, query, semantics=other)


def test_files_that_nobody_wishes_to_keep_are_gone(
    holds: tuple[Path, Path], fails: tuple[Path, Path], tmp_path: Path
) -> None:
    before = set(tmp_path.iterdir())
    for question in (holds, fails):
        checker = FakeChecker(REAL)
        answer(checker, *question)
        assert not any(path.parent.exists() for path in checker.files)
    assert set(tmp_path.iterdir()) == before


def test_a_kept_certificate_is_the_one_that_was_accepted(
    holds: tuple[Path, Path], tmp_path: Path
) -> None:
    place = tmp_path / "out.cert"
    report = answer(FakeChecker(REAL), *holds, certificate=place)
    assert report.certificate is not None and report.certificate.path == place
    content = place.read_bytes()
    assert report.certificate.sha256 == hashlib.sha256(content).hexdigest()
    assert report.certificate.size == len(content)
    assert report.certificate.query_record is None
    assert list(tmp_path.glob("*.partial")) == []


@pytest.mark.parametrize("record", [None, "asked.json"])
def test_a_neighbourhood_is_checked_by_its_record_which_is_kept_beside(
    record: str | None, write_network: Write, tmp_path: Path
) -> None:
    network = write_network(([[1.0, 0.0], [0.0, 0.5]], [0.0, 0.0]), (np.eye(2), [0.0, 0.0]))
    np.save(tmp_path / "x.npy", np.array([[1.0, 0.25]], np.float32))
    ball = Ball(center=tmp_path / "x.npy", epsilon=Fraction(1, 10))
    checker = FakeChecker(FLOAT32)
    wishes = {"query_record": tmp_path / record} if record else {}
    report = answer(checker, network, ball, certificate=tmp_path / "out.cert", **wishes)
    place = tmp_path / (record or "out.cert.query.json")
    assert report.checked and report.certificate is not None
    assert report.certificate.query_record == place
    assert [(s.query, s.recorded) for s in checker.seen] == [(place, True)]


@pytest.mark.parametrize(
    ("accepted", "claims", "grades"),
    [
        ((*Grade,), ["exact runtime all executions"], (*Grade,)),
        (
            (Grade.EXACT, Grade.RUNTIME),
            ["exact runtime all executions", "exact runtime"],
            (Grade.EXACT, Grade.RUNTIME),
        ),
        (
            (Grade.RUNTIME,),
            ["exact runtime all executions", "exact runtime", "runtime"],
            (Grade.RUNTIME,),
        ),
    ],
)
def test_a_counterexample_has_the_highest_grades_that_are_accepted(
    accepted: tuple[Grade, ...],
    claims: list[str],
    grades: tuple[Grade, ...],
    fails: tuple[Path, Path],
) -> None:
    checker = FakeChecker(*accepted)
    report = answer(checker, *fails)
    assert report.verdict is Verdict.FALSIFIED and report.checked
    assert report.counterexample is not None and report.counterexample.grades == grades
    assert checker.claims == claims
    assert report.semantics is (REAL if Grade.EXACT in grades else FLOAT32)


def test_a_counterexample_that_nobody_has_checked_is_still_a_run(fails: tuple[Path, Path]) -> None:
    report = answer(FakeChecker(), *fails)
    assert report.verdict is Verdict.FALSIFIED and not report.checked
    assert report.counterexample is not None
    assert report.counterexample.grades == (Grade.RUNTIME,)
    assert report.unchecked == "audit answers invalid: not runtime"


@pytest.mark.soundness
@pytest.mark.parametrize(
    ("asked", "verdict"),
    [(None, Verdict.FALSIFIED), (FLOAT32, Verdict.FALSIFIED), (REAL, Verdict.UNKNOWN)],
)
def test_where_only_the_runtime_violates_the_reals_are_neither_verified_nor_falsified(
    asked: Semantics | None, verdict: Verdict, fails_in_float32: tuple[Path, Path]
) -> None:
    report = answer(FakeChecker(REAL, Grade.RUNTIME), *fails_in_float32, semantics=asked)
    assert report.verdict is verdict
    assert report.counterexample is not None
    assert report.counterexample.grades == (Grade.RUNTIME,)
    if asked is REAL:
        expected = "a run of onnxruntime violates the property; over the reals a checked proof"
        assert report.reason.startswith(expected)


@pytest.mark.soundness
def test_a_point_beside_the_set_counts_only_if_it_is_accepted_as_exact(
    write_network: Write, write_property: Write
) -> None:
    question = write_network(([[1.0]], [0.0])), write_property([("0.1", "0.1")], "(>= Y_0 0.05)")
    accepted = answer(FakeChecker(Grade.EXACT), *question)
    assert accepted.verdict is Verdict.FALSIFIED and accepted.semantics is REAL
    assert accepted.counterexample is not None and accepted.counterexample.beside > 0
    refused = answer(FakeChecker(answer="incomplete"), *question)
    assert refused.verdict in UNDECIDED and refused.counterexample is None
    assert any("was not confirmed" in note for note in refused.notes)
    elsewhere = answer(FakeChecker(*Grade), *question, semantics=FLOAT32)
    assert elsewhere.verdict in UNDECIDED


def test_a_deadline_during_the_check_claims_nothing(
    holds: tuple[Path, Path],
) -> None:
    def late(statement: Statement, certificate: Path, deadline: Deadline) -> Audit:
        raise DeadlineExpired

    report = verify(*holds, wishes=Wishes(checker=late))
    assert report.verdict is Verdict.TIMEOUT and not report.checked
    assert report.reason == "the time was over in: certify"
    asked = verify(*holds, wishes=Wishes(checker=late, semantics=FLOAT32))
    assert asked.verdict is Verdict.TIMEOUT


def test_an_interruption_during_the_check_leaves_what_was_found(fails: tuple[Path, Path]) -> None:
    def interrupted(statement: Statement, certificate: Path, deadline: Deadline) -> Audit:
        raise KeyboardInterrupt

    with pytest.raises(verification.Interrupted) as caught:
        verify(*fails, wishes=Wishes(checker=interrupted))
    report = caught.value.report
    assert report.verdict is Verdict.FALSIFIED and not report.checked
    assert report.unchecked == "interrupted in: witness"


@pytest.mark.soundness
@pytest.mark.regression
def test_what_is_confirmed_in_float64_is_the_set_that_was_in_doubt(
    write_network: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One pass of intervals leaves the first box to the search, and refutes the second one.
    query = tmp_path / "boxes.vnnlib"
    boxes = (("-1", "1", "1.5"), ("0.5", "0.75", "1"))
    parts = (f"(and (>= X_0 {a}) (<= X_0 {b}) (>= Y_0 {y}))" for a, b, y in boxes)
    query.write_text(
        f"(declare-const X_0 Real)(declare-const Y_0 Real)(assert (or {' '.join(parts)}))"
    )
    asked: list[tuple[torch.dtype, float]] = []
    refute = case.refute

    def doubt(*arguments: object, prove: bool) -> Decision:
        found = refute(*arguments, prove=prove)
        if not prove:
            return found
        part = arguments[2]
        asked.append((part.rows.dtype, float(part.region.bounding_box()[0])))
        nothing = torch.zeros_like(found.refuted)
        return Decision(nothing, torch.ones_like(found.doubtful), nothing)

    monkeypatch.setattr(case, "refute", doubt)
    files = (write_network(*ABSOLUTE), query)
    execution, wishes = Execution(dtype="float32"), Wishes(checker=FakeChecker())
    report = verify(*files, domain="interval", execution=execution, wishes=wishes)
    assert asked == [(torch.float32, 0.5), (torch.float64, 0.5)]
    assert report.verdict is not Verdict.VERIFIED
