"""Domains that go backward: sound for what they assume, never looser, and exit 3 without proofs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from absolver import domains
from absolver.analyzer import verify
from absolver.analyzer.backward import NO_RULE_BACKWARD, reduced, refuted_backward
from absolver.analyzer.cli.analyze import main
from absolver.analyzer.fixpoint.reducers import Problem
from absolver.analyzer.fixpoint.store import Assumptions, FactStore, HalfSpaces, InputSet
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.graph.linear.scaling import Scaling
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.regions.box import Box
from absolver.dsl.errors import CarrierError, UnknownDomainError
from tests.analyzer.search.problems import NETWORKS, box, specify
from tests.networks import DTYPE, NetworkBuilder

MEMORY_BYTES = 1 << 28
KINDS = st.sampled_from(["relu", "leaky_relu", "convolution", "mixed", "sigmoid"])
NAMES = st.sampled_from(["interval", "crown", "crown & interval", "zonotope & interval"])
ROUNDINGS = st.sampled_from([None, Rounding()])


def posed(kind: str, seed: int) -> Problem:
    """Constraints on the outputs of a network over boxes, which some points meet."""
    graph = NETWORKS[kind](seed).joined
    region = box(3, graph, seed)
    generator = torch.Generator().manual_seed(seed)
    outputs = graph(region.sample(200, generator)[0]).flatten(1)
    rows = torch.randn(3, 2, outputs.shape[1], generator=generator, dtype=outputs.dtype)
    # For the first set a bound that some points meet; for the others any.
    bound = (rows[0] @ outputs.T).quantile(0.3, 1).expand(3, 2).clone()
    unsafe = HalfSpaces(rows, bound)
    known = Assumptions(graph, "real", InputSet("boxes"), outputs=frozenset({unsafe}))
    return Problem(graph, region, unsafe, known)


@pytest.mark.soundness
@settings(max_examples=20)
@given(kind=KINDS, name=NAMES, seed=st.integers(0, 5000), rounding=ROUNDINGS)
@example(kind="convolution", name="crown", seed=3308, rounding=None)
def test_bounds_contain_all_runs_that_meet_the_constraints(
    kind: str, name: str, seed: int, rounding: Rounding | None
) -> None:
    problem, store = posed(kind, seed), FactStore()
    strict = torch.zeros_like(problem.unsafe.bound, dtype=torch.bool)
    found = reduced(
        *(problem, domains.load(f"backward({name})"), store, strict),
        memory_bytes=MEMORY_BYTES,
        rounding=rounding,
    )
    points = problem.region.sample(1000, torch.Generator().manual_seed(seed + 1))
    for element in range(3):
        trace = problem.graph.trace(points[element])
        values = trace[problem.graph.output.name].flatten(1) @ problem.unsafe.rows[element].T
        met = (values <= problem.unsafe.bound[element]).all(1)
        # What is only just met, as by a ReLU's flat part, rounding decides.
        clearly = (values <= problem.unsafe.bound[element] - 1e-12).all(1)
        assert not (found.refuted[element] and clearly.any())
        for node, bounds in store.known(problem.assumptions).items():
            run = trace[node][met]
            slack = 1e-9 * (1 + run.abs())
            assert (run >= bounds.lower[element] - slack).all()
            assert (run <= bounds.upper[element] + slack).all()


@pytest.mark.precision
@settings(max_examples=15)
@given(kind=KINDS, name=NAMES, seed=st.integers(0, 5000))
def test_bounds_are_never_looser_than_those_of_one_pass(kind: str, name: str, seed: int) -> None:
    problem, store = posed(kind, seed), FactStore()
    strict = torch.zeros_like(problem.unsafe.bound, dtype=torch.bool)
    once = propagate(problem.graph, domains.load(name), problem.region, problem.unsafe.rows)
    found = reduced(
        *(problem, domains.load(f"backward({name})"), store, strict), memory_bytes=MEMORY_BYTES
    )
    known = store.known(problem.assumptions)
    for node, bounds in once.hidden.items():
        assert (known[node].lower >= bounds.lower).all()
        assert (known[node].upper <= bounds.upper).all()
    assert (found.rows >= once.rows).all()


def test_what_is_assumed_refutes_what_no_pass_forward_does() -> None:
    # Both outputs are x: one cannot be below -1/2 and the other above 1/2.
    builder = NetworkBuilder((1,), torch.Generator().manual_seed(0))
    builder.affine({"x": Dense(torch.ones(2, 1, dtype=DTYPE), (1,))}, None)
    graph, one = builder.graph(), torch.ones(1, 1, dtype=DTYPE)
    whole = specify(Box(-one, one), [[((1.0, 0.0), -0.5), ((0.0, -1.0), -0.5)]])
    forward = propagate(graph, domains.load("crown"), whole.region, whole.rows)
    assert not bool(whole.refuted(forward.rows).any())
    for rounding in (None, Rounding()):
        setting = (graph, domains.load("backward(crown)"), whole, whole.clause >= 0)
        found = refuted_backward(*setting, memory_bytes=MEMORY_BYTES, rounding=rounding)
        assert bool(found.all())
    # Over executions nothing is proved backward.
    executed = Rounding("float32")
    assert not bool(refuted_backward(*setting, memory_bytes=MEMORY_BYTES, rounding=executed).any())


@pytest.mark.regression
@pytest.mark.soundness
@pytest.mark.parametrize("written", ["elementwise", "dense"])
@pytest.mark.parametrize(("weight", "size"), [(4e-161, 1e200), (1e-170, 1e200), (1e160, 1e-160)])
def test_weights_whose_squares_leave_the_range_of_floats_refute_nothing(
    written: str, weight: float, size: float
) -> None:
    builder = NetworkBuilder((1,), torch.Generator().manual_seed(0))
    factor = torch.full((1,), weight, dtype=DTYPE)
    linear = Scaling(factor, (1,)) if written == "elementwise" else Dense(factor.view(1, 1), (1,))
    builder.affine({"x": linear}, None)
    end = torch.full((1, 1), size, dtype=DTYPE)
    # The largest x meets it.
    whole = specify(Box(-end, end), [[((-1.0,), -weight * size * 0.99999)]])
    for rounding in (None, Rounding()):
        setting = (builder.graph(), domains.load("backward(interval)"), whole, whole.clause >= 0)
        found = refuted_backward(*setting, memory_bytes=MEMORY_BYTES, rounding=rounding)
        assert not bool(found.any())


@pytest.mark.parametrize(("seconds", "code"), [(10.0, 0), (0.0, 3)])
def test_what_no_certificate_follows_is_verified_but_unchecked(
    seconds: float,
    code: int,
    write_network: Callable[..., Path],
    write_property: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = write_network((np.ones((2, 1)), np.zeros(2)))
    query = write_property((("-1", "1"),), "(and (<= Y_0 -0.5) (>= Y_1 0.5))", outputs=2)
    monkeypatch.setattr(verify, "_FOLLOW_SECONDS", seconds)
    assert main([str(network), str(query), "--domain", "backward(crown)"]) == code
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "verified"
    assert (NO_RULE_BACKWARD in second) == (code == 3)


def test_backward_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.dom").write_text("domain mine\n  backward(crown & interval)\n", encoding="utf-8")
    assert domains.load("mine.dom").backward
    assert [factor.name for factor in domains.load("mine.dom").factors] == ["crown", "interval"]
    Path("other.dom").write_text("domain other\n  extends mine\n", encoding="utf-8")
    with pytest.raises(CarrierError, match="nothing is built on"):
        domains.load("other.dom")
    for expression in ("mine.dom & interval", "backward(mine.dom)", "crown & backward(crown)"):
        with pytest.raises(UnknownDomainError, match="alone"):
            domains.load(expression)
