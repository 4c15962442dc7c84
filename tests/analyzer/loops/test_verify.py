"""Runs of recurrent networks: verified by an invariant, falsified by a run, or neither."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from absolver.analyzer.certifier import Wishes
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.frontends.onnx import load_onnx
from absolver.analyzer.loops.errors import RecurrenceError, UnsupportedRunsError
from absolver.analyzer.loops.verify import RunsQuery, verify_runs
from absolver.analyzer.report import Grade, Report, Semantics, Verdict
from absolver.analyzer.session import Session
from tests.checking import audit_here
from tests.recurrent import PAIR, Ends, write_runs, write_step

UNIT = [("-1", "1")] * 2
CONTRACTION = [[0.5, 0.125], [0.0, 0.5]]
EYE = np.eye(2)


def answer(network: Path, query: Path, *, seconds: float = 60.0) -> Report:
    wishes = Wishes(checker=audit_here)
    session = Session(Deadline.after(seconds))
    return verify_runs(network, RunsQuery(query, (PAIR,)), wishes=wishes, session=session)


def asked(folder: Path, state: object, unsafe: str, *, start: Ends = UNIT) -> tuple[Path, Path]:
    network = write_step(folder / "step.onnx", np.array(state), EYE)
    return network, write_runs(folder / "runs.vnnlib", start, UNIT, unsafe, outputs=2)


def test_a_contraction_is_verified_up_to_its_fixpoint(tmp_path: Path) -> None:
    # The runs fill |h_0| < 2 and |h_1| < 2.5.
    report = answer(*asked(tmp_path, CONTRACTION, "(or (>= Y_0 2.01) (<= Y_1 -2.51))"))
    assert report.verdict is Verdict.VERIFIED and report.checked
    assert report.semantics is Semantics.FLOAT32
    assert any(note.startswith("invariant (") for note in report.notes)
    assert {margin.clause for margin in report.margins} == {0, 1}


def test_what_runs_come_near_is_falsified_by_one(tmp_path: Path) -> None:
    network, query = asked(tmp_path, CONTRACTION, "(<= Y_1 -2.4375)")
    report = answer(network, query)
    assert report.verdict is Verdict.FALSIFIED and not report.checked
    witness = report.counterexample
    assert witness is not None and witness.grades == (Grade.RUNTIME,)
    runtime = load_onnx(network).runtime
    state, steps = witness.inputs["h"], witness.inputs["x"]
    assert state.shape == (1, 2) and steps.shape[1:] == (1, 2)
    for given in (state, *steps):
        assert (np.abs(given) <= 1).all()
    for given in steps:
        (state,) = runtime.tensors(np.concatenate([state, given], axis=None))
    assert np.array_equal(state, witness.outputs["h_next"])
    assert Fraction(float(state[0, 1])) <= Fraction(-39, 16)


@pytest.mark.parametrize(("contraction", "unsafe"), [(0.92, 0.75), (0.96, 1.25)])
def test_what_turns_is_verified_by_more_facets(
    tmp_path: Path, contraction: float, unsafe: float
) -> None:
    """No box is kept: turned by half a radian it sticks out of itself by a third."""
    turn = np.array([[np.cos(0.5), np.sin(0.5)], [-np.sin(0.5), np.cos(0.5)]])
    network = write_step(tmp_path / "step.onnx", contraction * turn, EYE / 50)
    start, property_ = [("-0.1", "0.1")] * 2, f"(or (>= Y_0 {unsafe}) (<= Y_1 -{unsafe}))"
    query = write_runs(tmp_path / "runs.vnnlib", start, UNIT, property_, outputs=2)
    report = answer(network, query)
    assert report.verdict is Verdict.VERIFIED and report.checked
    assert "more facets" in report.notes[-1]


def test_an_unstable_system_has_no_invariant(tmp_path: Path) -> None:
    report = answer(*asked(tmp_path, [[1.25, 0], [0, 0.5]], "(>= Y_0 1e20)"), seconds=20)
    assert report.verdict is Verdict.UNKNOWN
    assert "no bounded invariant by boxes: the bounds of X_0 grow" in report.reason


def test_time_ends_the_search_for_an_invariant(tmp_path: Path) -> None:
    report = answer(*asked(tmp_path, [[1.25, 0.0], [0.0, 0.5]], "(>= Y_0 1e20)"), seconds=0.05)
    assert report.verdict is Verdict.TIMEOUT and "the time was over in: " in report.reason


@pytest.mark.parametrize("function", ["Relu", "Tanh"])
def test_small_recurrent_networks_are_verified(tmp_path: Path, function: str) -> None:
    generator = np.random.default_rng(3)
    state = generator.normal(size=(6, 6))
    state *= 0.7 / np.abs(np.linalg.eigvals(state)).max()
    inputs, readout = 0.3 * generator.normal(size=(2, 6)), generator.normal(size=(6, 1))
    network = write_step(
        tmp_path / "step.onnx", state, inputs, bias=0.1, function=function, readout=readout
    )
    unsafe = "(or (>= Y_0 6) (<= Y_0 -6))"
    query = write_runs(tmp_path / "runs.vnnlib", [(0, 0)] * 6, UNIT, unsafe, outputs=7)
    report = answer(network, query)
    assert report.verdict is Verdict.VERIFIED and report.checked


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        ("h_next", "write OUTPUT=INPUT"),
        ("y=h", "no output 'y'"),
        ("h_next=z", "no input 'z'; its inputs are h, x"),
    ],
)
def test_states_that_the_network_lacks_are_named(tmp_path: Path, pair: str, reason: str) -> None:
    network, query = asked(tmp_path, CONTRACTION, "(>= Y_0 3)")
    with pytest.raises(RecurrenceError, match=reason):
        verify_runs(network, RunsQuery(query, (pair,)))


@pytest.mark.parametrize(
    ("unsafe", "reason"),
    [
        ("(or (and (>= X_0 0) (>= Y_0 3)) (>= Y_1 3))", "needs one box of inputs"),
        ("(and (>= Y_0 3) (>= X_0 X_1))", "not compare inputs"),
        ("(>= Y_0 X_0)", "compared linearly"),
    ],
)
def test_properties_that_mean_nothing_for_runs_are_refused(
    tmp_path: Path, unsafe: str, reason: str
) -> None:
    with pytest.raises(UnsupportedRunsError, match=reason):
        answer(*asked(tmp_path, CONTRACTION, unsafe))
