"""Verdicts: never wrong, never late, and nothing found is lost."""

import signal
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer import case
from absolver.analyzer import verify as verification
from absolver.analyzer.deadline import Deadline, DeadlineExpired
from absolver.analyzer.decide import Execution
from absolver.analyzer.frontends.onnx import load_onnx
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.regions.box import Box
from absolver.analyzer.report import Report, Verdict
from absolver.analyzer.rounding import rounding_allowance
from absolver.analyzer.search.strategy import Outcome
from absolver.analyzer.verify import Session, Wishes, verify
from absolver.domains import load
from tests.checking import audit_here

Write = Callable[..., Path]
DOMAINS = ("interval", "zonotope", "crown", "fast_lin", "symbolic_interval", None)
ABSOLUTE = (([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))


def verify_by_bounds(network: Path, query: Path, **options: object) -> Report:
    """`verify` by one pass: without attack and search, which would answer before or after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "search", lambda *_, **__: None)
        patch.setattr(verification, "decide_by_search", lambda *_: Outcome())
        return verify(network, query, wishes=Wishes(checker=audit_here), **options)


@pytest.mark.soundness
@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["absorb", "hidden"])
def test_networks_that_fool_float_verifiers_are_never_verified(
    name: str, dtype: str, domain: str | None, bench_folder: Path
) -> None:
    folder = bench_folder / "violations"
    execution = Execution(dtype=dtype)
    files = (folder / f"{name}.onnx", folder / f"{name}.vnnlib")
    assert verify_by_bounds(*files, domain=domain, execution=execution).verdict is Verdict.UNKNOWN


@pytest.mark.soundness
@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [24, 25, 40, 53, 54, 80])
def test_a_sum_that_absorbs_its_terms_is_never_verified_away(
    exponent: int, dtype: str, domain: str | None, write_network: Write, write_property: Write
) -> None:
    # 2^e x + x - 2^e x is x over the reals, and 0 in arithmetic that is too short.
    large = 2.0**exponent
    network = write_network(([[1.0]] * 3, [0.0] * 3), ([[large, 1.0, -large]], [0.0]))
    query = write_property([("1", "2")], "(>= Y_0 0.5)")
    report = verify_by_bounds(network, query, domain=domain, execution=Execution(dtype=dtype))
    assert report.verdict is Verdict.UNKNOWN


@pytest.mark.soundness
@settings(max_examples=40)
@given(
    weight=st.integers(1, 99),
    bias=st.integers(2, 20),
    low=st.integers(1, 9),
    wide=st.integers(1, 9),
)
def test_a_value_that_is_reached_is_never_excluded(
    weight: int,
    bias: int,
    low: int,
    wide: int,
    write_dense: Write,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # w relu(b - x) on [l, l + wide] reaches w max(b - l, 0), at x = l (the README of violations).
    folder = tmp_path_factory.mktemp("corner")
    layers = (([[-1.0]], [bias]), ([[weight]], [0.0]))
    network = write_dense(folder / "corner.onnx", *layers)
    top = weight * max(bias - low, 0)
    query = folder / "p.vnnlib"
    query.write_text(
        "(declare-const X_0 Real)(declare-const Y_0 Real)"
        f"(assert (>= X_0 {low}))(assert (<= X_0 {low + wide}))(assert (>= Y_0 {top}))"
    )
    for domain in ("interval", "zonotope", "crown"):
        assert verify_by_bounds(network, query, domain=domain).verdict is Verdict.UNKNOWN


@pytest.mark.soundness
@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    widths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    exponent=st.integers(-14, 14),
)
def test_a_float32_bound_less_its_allowance_is_below_what_is_reached(
    seed: int, widths: list[int], exponent: int, write_dense: Write, tmp_path_factory: object
) -> None:
    assert isinstance(tmp_path_factory, pytest.TempPathFactory)
    rng = np.random.default_rng(seed)
    sizes = [3, *widths, 2]
    scale = 2.0**exponent
    layers = [
        (rng.normal(size=(b, a)) * scale, rng.normal(size=b) * scale)
        for a, b in zip(sizes, sizes[1:], strict=False)
    ]
    path = write_dense(tmp_path_factory.mktemp("random") / "n.onnx", *layers)
    graph = load_onnx(path).graph
    rows = torch.tensor([[[1.0, -1.0], [0.0, 1.0]]])
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.75])] * 3)
    points = torch.cat([corners, torch.rand(200, 3) * 1.25 - 0.5]).unsqueeze(1).double()
    reached = (graph.to("cpu", torch.float64)(points).flatten(1) @ rows[0].double().T).amin(0)
    region = Box(torch.full((1, 1, 3), -0.5), torch.full((1, 1, 3), 0.75))
    for name in ("interval", "crown", "zonotope"):
        found = propagate(graph, load(name), region, rows)
        allowance = rounding_allowance(graph, region, found.hidden, rows)
        assert (found.rows[0].double() - allowance[0].double() <= reached).all()


def test_a_decimal_that_is_no_float_does_not_hide_a_violation(
    write_network: Write, write_property: Write
) -> None:
    network = write_network(([[1.0]], [0.0]))
    report = verify(network, write_property([("0.1", "0.1")], "(>= Y_0 0.05)"))
    assert report.verdict is Verdict.FALSIFIED
    assert report.counterexample is not None
    assert 0 < report.counterexample.beside < 1e-8


@pytest.mark.soundness
def test_a_violation_only_beside_the_set_is_none(
    write_network: Write, write_property: Write
) -> None:
    # The float32 next to 0.1 is above it; at 0.1 itself the output is below the bound.
    network = write_network(([[1.0]], [0.0]))
    query = write_property([("0.1", "0.1")], "(>= Y_0 0.1000000005)")
    report = verify(network, query, session=Session(Deadline.after(5.0)))
    assert report.verdict is not Verdict.FALSIFIED


@pytest.mark.soundness
@settings(max_examples=25)
@given(low=st.fractions(-3, 3), width=st.fractions(0, 2), bound=st.fractions(-1, 3))
def test_a_counterexample_lies_exactly_in_the_box_and_violates(
    low: Fraction,
    width: Fraction,
    bound: Fraction,
    write_dense: Write,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("exact")
    network = write_dense(folder / "n.onnx", *ABSOLUTE)
    decimals = [f"{float(x):.7f}" for x in (low, low + width, bound)]
    query = folder / "p.vnnlib"
    query.write_text(
        "(declare-const X_0 Real)(declare-const Y_0 Real)"
        f"(assert (>= X_0 {decimals[0]}))(assert (<= X_0 {decimals[1]}))"
        f"(assert (>= Y_0 {decimals[2]}))"
    )
    # What touches its bound exactly, no search ends.
    session = Session(Deadline.after(2.0))
    report = verify(network, query, wishes=Wishes(checker=audit_here), session=session)
    a, b, c = map(Fraction, decimals)
    truth = max(abs(a), abs(b)) >= c
    assert report.verdict is not (Verdict.VERIFIED if truth else Verdict.FALSIFIED)
    if report.verdict is Verdict.FALSIFIED:
        assert report.checked or session.deadline.remaining == 0
    if report.counterexample is not None and report.counterexample.beside == 0:
        x = Fraction(float(report.counterexample.flat_inputs[0]))
        y = Fraction(float(report.counterexample.flat_outputs[0]))
        assert a <= x <= b and y >= c


def test_a_deadline_ends_what_checks_nothing() -> None:
    with pytest.raises(DeadlineExpired), Deadline.after(0.05).enforced():
        while True:
            time.sleep(0.01)


def test_a_deadline_in_a_pass_is_a_timeout_that_names_it(
    write_network: Write, write_property: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expire(*_: object, **__: object) -> None:
        Deadline.after(0.0).check()

    monkeypatch.setattr(case, "refute", expire)
    report = verify(write_network(*ABSOLUTE), write_property([("-1", "1")], "(>= Y_0 2.5)"))
    assert report.verdict is Verdict.TIMEOUT and "propagate" in report.reason


def test_a_deadline_is_checked_where_no_signal_can_be_had() -> None:
    ended: list[str] = []

    def work() -> None:
        try:
            with Deadline.after(0.05).enforced():
                time.sleep(0.1)
                Deadline.after(0.0).check()
        except DeadlineExpired:
            ended.append("expired")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == ["expired"]


def test_a_deadline_leaves_no_timer_behind() -> None:
    with Deadline.after(60.0).enforced():
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_expected_sat_and_unsat_of_the_benchmark_set(bench_folder: Path) -> None:
    network = bench_folder / "test" / "onnx" / "test_sat.onnx"
    report = verify(network, bench_folder / "test" / "vnnlib" / "test_prop.vnnlib")
    assert report.verdict is Verdict.FALSIFIED
