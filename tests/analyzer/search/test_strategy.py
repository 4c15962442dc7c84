"""Searches of what one pass has left open, from files to a verdict that the checker accepts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from absolver.analyzer.certifier import Wishes
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.report import Verdict
from absolver.analyzer.session import Session
from absolver.analyzer.verify import verify
from tests.checking import audit_here

Write = Callable[..., Path]
# |x| as a sum of two neurons: over a box around 0 intervals give twice its width.
ABSOLUTE = (([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))


@pytest.mark.regression
def test_sets_that_a_search_takes_are_those_that_were_left_open(
    write_network: Write, tmp_path: Path
) -> None:
    # One pass refutes the first and the third box; the others are split, in single precision.
    boxes = ((2, 3, 1), (-1, 1, 1.25), (-3, -2, 1), (-0.5, 0.5, 0.75))
    parts = (
        f"(and (>= X_0 {a}) (<= X_0 {b}) ({'<=' if c == 1 else '>='} Y_0 {c}))" for a, b, c in boxes
    )
    query = tmp_path / "boxes.vnnlib"
    query.write_text(
        f"(declare-const X_0 Real)(declare-const Y_0 Real)(assert (or {' '.join(parts)}))"
    )
    report = verify(
        *(write_network(*ABSOLUTE), query),
        domain="interval",
        wishes=Wishes(checker=audit_here),
        session=Session(Deadline.after(30)),
    )
    assert report.verdict is Verdict.VERIFIED and report.certificate is not None
    assert any("branches bounded" in note for note in report.notes)
