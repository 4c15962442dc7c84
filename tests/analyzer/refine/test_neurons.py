"""Bounds of neurons by linear and by mixed-integer programs: they hold, and are as good as told."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.engines.engine import Control
from absolver.analyzer.engines.hidden import linear_bounds
from absolver.analyzer.engines.prover import Guide, Path, Step, cut_of
from absolver.analyzer.fixpoint.reducers import Reducer
from absolver.analyzer.fixpoint.store import FactStore
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.programs.duals import evaluate
from absolver.analyzer.programs.highs_mixed import minimise
from absolver.analyzer.refine.evidence import Evidence
from absolver.analyzer.refine.linear import LinearReducer
from absolver.analyzer.refine.mixed import MixedReducer
from absolver.dsl.operators import OPERATORS
from tests.analyzer.refine.problems import exact_minimum, known_set, problem_of, runs
from tests.networks import operator_network, relu_network, residual_network

KINDS = ("relu", "leaky_relu", "abs", "max", "sigmoid", "residual")


def network(kind: str, seed: int) -> Graph:
    return (
        residual_network(seed) if kind == "residual" else operator_network(OPERATORS[kind](), seed)
    )


def reducer(name: str, evidence: Evidence) -> Reducer:
    return (
        LinearReducer(evidence) if name == "lp" else MixedReducer(evidence, minimise, each_s=20.0)
    )


@pytest.mark.soundness
@settings(max_examples=8)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 9999), name=st.sampled_from(("lp", "milp")))
def test_bounds_hold_for_every_run_and_never_loosen(kind: str, seed: int, name: str) -> None:
    known = known_set(network(kind, seed), seed, 0.1 if kind == "residual" else 0.8)
    evidence, store, problem = Evidence(known), FactStore(), problem_of(known)
    reducer(name, evidence).reduce(problem, store, 1.0)
    values = runs(known, seed)
    for place, bounds in evidence.boxes.items():
        assert (values[place] >= bounds.lower - 1e-9).all()
        assert (values[place] <= bounds.upper + 1e-9).all()
        assert (bounds.lower >= known.boxes[place].lower - 1e-9).all()
        assert (bounds.upper <= known.boxes[place].upper + 1e-9).all()
    for place, bounds in store.known(problem.assumptions).items():
        assert (bounds.lower >= evidence.boxes[place].lower).all()


@pytest.mark.regression
def test_a_gap_keeps_the_box_that_it_was_found_on() -> None:
    """It was a view of boxes that later splits moved, and split where nothing was open."""
    known = known_set(network("residual", 2344), 2344, 0.1)
    evidence = Evidence(known)
    MixedReducer(evidence, minimise, each_s=20.0).reduce(problem_of(known), FactStore(), 1.0)
    for place in evidence.boxes:
        assert (evidence.boxes[place].lower <= evidence.boxes[place].upper).all()


@pytest.mark.precision
@pytest.mark.parametrize("seed", range(4))
def test_the_linear_reducer_finds_what_the_engine_lp_finds(seed: int) -> None:
    known = known_set(relu_network((3, 8, 6, 2), seed), seed)
    evidence = Evidence(known)
    found = LinearReducer(evidence, each_s=20.0).reduce(problem_of(known), FactStore())
    assert found.exhausted
    for name, bounds in linear_bounds(known, Control(Deadline())).boxes.items():
        own = evidence.boxes[name]
        assert (own.lower >= bounds.lower - 1e-5).all()
        assert (own.upper <= bounds.upper + 1e-5).all()


@pytest.mark.precision
@pytest.mark.parametrize("seed", range(4))
def test_the_mixed_reducer_finds_the_exact_range(seed: int) -> None:
    """To a hundredth of what was open: less is not worth a proof."""
    known = known_set(relu_network((2, 5, 4, 2), seed), seed)
    evidence = Evidence(known)
    MixedReducer(evidence, minimise, each_s=60.0).reduce(problem_of(known), FactStore())
    name = known.graph.nodes[3].name
    assert name in known.boxes
    for element in range(4):
        low, up = evidence.interval((name, element))
        first = [float(side.flatten()[element]) for side in known.boxes[name]]
        room = 0.011 * (first[1] - first[0]) + 1e-5
        if first[0] < 0 < first[1]:
            assert low >= exact_minimum(known, name, element, 1) - room
            assert -up >= exact_minimum(known, name, element, -1) - room


@pytest.mark.soundness
@settings(max_examples=10)
@given(seed=st.integers(0, 9999))
def test_every_leaf_of_a_lemma_is_refuted_where_the_lemmas_before_it_hold(seed: int) -> None:
    """As the prover and the checker do it, over the whole network, with no clause's help."""
    known = known_set(relu_network((2, 5, 4, 2), seed), seed)
    evidence = Evidence(known)
    MixedReducer(evidence, minimise, each_s=5.0).reduce(problem_of(known), FactStore(), 3.0)
    (goal, *_) = known.goals()

    def check(guide: Guide, path: Path) -> None:
        if guide.split is not None:
            place, threshold = guide.split
            for sign, side in ((1, guide.below), (-1, guide.above)):
                assert side is not None
                check(side, (*path, Step(place, sign, threshold)))
        elif guide.duals is not None:
            assert evaluate(goal.ground, cut_of(path), guide.duals.rounded()).positive

    check(evidence.guide(goal), ())
