"""Lagrangian decomposition and D-LP: sound, never above the linear program, close to it at last."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.engines.known import KnownSet, tangents_domain
from absolver.analyzer.fixpoint.store import FactStore
from absolver.analyzer.programs.duals import Duals, evaluate
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.refine.ascents import AscentReducer
from absolver.analyzer.refine.evidence import Evidence
from absolver.analyzer.refine.lagrangian import RESULT, LayeredDual, ascend
from absolver.domains import load
from absolver.dsl.operators import OPERATORS
from tests.analyzer.refine.problems import known_set, problem_of, runs
from tests.networks import DTYPE, operator_network, relu_network, residual_network

CROWN = load("crown")


def dual_of(known: KnownSet, *, copies: bool) -> LayeredDual:
    """Every output as a row."""
    rows = torch.eye(known.specification.rows.shape[2], dtype=DTYPE)
    return LayeredDual(known.graph, known.region, known.boxes, rows, copies)


def linear_minima(known: KnownSet) -> list[float]:
    """The least value of every output in the linear relaxation."""
    relaxation, found = Relaxation(known.encoding, tangents_domain()), []
    for goal in known.goals():
        relaxation.pose(goal.forms)
        solved = relaxation.solve(60.0)
        assert solved is not None
        found.append(solved.value - 100.0)
    return found


@pytest.mark.soundness
@settings(max_examples=12)
@given(
    kind=st.sampled_from(("relu", "leaky_relu", "abs", "sigmoid", "residual")),
    seed=st.integers(0, 9999),
    copies=st.booleans(),
    size=st.sampled_from((0.0, 0.1, 10.0)),
)
def test_any_multipliers_are_sound(kind: str, seed: int, copies: bool, size: float) -> None:
    graph = residual_network(seed) if kind == "residual" else None
    known = known_set(graph or operator_network(OPERATORS[kind](), seed), seed, 0.3)
    dual = dual_of(known, copies=copies)
    generator = torch.Generator().manual_seed(seed)
    moved = {
        key: rho + size * torch.randn(rho.shape, generator=generator, dtype=DTYPE)
        for key, rho in dual.start(CROWN).items()
    }
    outputs = runs(known, seed)[known.graph.output.name].flatten(1)
    assert (dual.bound(moved) <= outputs.amin(0) + 1e-9).all()


@pytest.mark.precision
@settings(max_examples=10)
@given(seed=st.integers(0, 9999), copies=st.booleans())
def test_at_the_start_the_bound_is_that_of_crown(seed: int, copies: bool) -> None:
    known = known_set(relu_network((3, 8, 6, 2), seed), seed)
    dual = dual_of(known, copies=copies)
    rows = known.root.rows[0]
    # The root's rows are the better one of interval and CROWN.
    assert (dual.bound(dual.start(CROWN)) <= rows + 1e-9).all()
    slopes = dual.slopes(dual.start(CROWN))
    goal = next(known.goals())
    own = {name: tuple(s[0].flatten().numpy() for s in sides) for name, sides in slopes.items()}
    value = evaluate(goal.ground, {}, Duals(own, {}, torch.ones(1).double().numpy())).value
    assert value == pytest.approx(float(dual.bound(dual.start(CROWN))[0]) + 100.0, abs=1e-8)


@pytest.mark.precision
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("copies", [False, True])
def test_an_ascent_ends_near_the_linear_optimum_and_never_above(seed: int, copies: bool) -> None:
    known = known_set(relu_network((3, 8, 6, 2), seed), seed)
    dual = dual_of(known, copies=copies)
    best, bounds = ascend(dual, dual.start(CROWN), 300)
    for bound, least in zip(bounds.tolist(), linear_minima(known), strict=True):
        assert least - 0.01 * (1 + abs(least)) <= bound <= least + 1e-7
    decomposed = {key: rho for key, rho in best.items() if key[1] != RESULT}
    assert (dual_of(known, copies=False).bound(decomposed) >= bounds - 1e-9).all()


@pytest.mark.soundness
@settings(max_examples=8)
@given(
    kind=st.sampled_from(("relu", "leaky_relu", "sigmoid")),
    seed=st.integers(0, 9999),
    copies=st.booleans(),
)
def test_facts_hold_for_every_run_and_never_loosen(kind: str, seed: int, copies: bool) -> None:
    known = known_set(operator_network(OPERATORS[kind](), seed), seed)
    evidence = Evidence(known)
    found = AscentReducer(evidence, copies=copies).reduce(problem_of(known), FactStore())
    assert found.exhausted and found.rows is not None
    values = runs(known, seed)
    for name, bounds in evidence.boxes.items():
        assert (values[name] >= bounds.lower - 1e-9).all()
        assert (values[name] <= bounds.upper + 1e-9).all()
        assert (bounds.lower >= known.boxes[name].lower - 1e-9).all()
        assert (bounds.upper <= known.boxes[name].upper + 1e-9).all()
    outputs = values[known.graph.output.name].flatten(1)
    assert (found.rows[0] <= outputs.amin(0) + 1e-9).all()
