"""The semidefinite engines by name: verdicts that are right, and said to be unchecked."""

from pathlib import Path

import pytest

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.report import Verdict
from absolver.analyzer.verify import Session, verify
from tests.analyzer.engines.instances import instance

SAMPLE = (0, 10, 17, 18, 22)
EXPECTED = {"sdp": 2, "sdpverify": 4, "lmi": 4}
"""How many of the sample each engine verifies at least."""


def decided(engine: str, number: int, folder: Path) -> tuple[Verdict, str]:
    network, query = instance(number).write(folder)
    session = Session(deadline=Deadline.after(20))
    report = verify(network, query, execution=Execution(engine=engine), session=session)
    return report.verdict, report.unchecked


@pytest.mark.soundness
@pytest.mark.filterwarnings("ignore")  # cvxpy's about its own dependencies
@pytest.mark.parametrize("engine", EXPECTED)
def test_verdicts_are_right_and_what_is_verified_is_said_to_be_unchecked(
    engine: str, tmp_path: Path
) -> None:
    if engine != "sdp":
        pytest.importorskip("cvxpy", reason="conic programs need the extra `convex`")
    verified = 0
    for number in SAMPLE:
        verdict, unchecked = decided(engine, number, tmp_path)
        unsafe = instance(number).unsafe
        assert verdict is not Verdict.VERIFIED or not unsafe, number
        assert verdict is not Verdict.FALSIFIED or unsafe, number
        if verdict is Verdict.VERIFIED:
            verified += 1
            assert "eigenvalues" in unchecked
    assert verified >= EXPECTED[engine]
