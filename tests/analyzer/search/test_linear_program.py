"""Leaves without inexact operators are decided, by bounds or by points that runs confirm."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.search.ascent import Dual, Problem, Split
from absolver.analyzer.search.lagrangian import Point
from absolver.analyzer.search.linear_program import optimise
from absolver.dsl.operators.record import Interval
from tests.analyzer.search.problems import SEARCHED, box, dual_problem
from tests.networks import DTYPE, relu_network

SEEDS = st.integers(0, 10_000)
FORMS = [((1.0, -1.0), 0.0), ((0.5, 1.0), 0.25)]


def leaf(seed: int, *, contradiction: bool) -> tuple[Dual, Problem, Point]:
    """A network over a box of which each neuron's sign is given: that at some point of the box."""
    graph = relu_network((2, 4, 3, 2), seed).joined
    region = box(1, graph, seed, 1.0)
    generator = torch.Generator().manual_seed(seed)
    problem = dual_problem(graph, region, FORMS)
    at = graph.trace(region.sample(1, generator)[:, 0])
    if contradiction:
        at = {name: -value for name, value in at.items()}
    splits, boxes = {}, {}
    for name, bounds in problem.boxes.items():
        zero = torch.zeros_like(bounds.lower)
        below = (bounds.lower < 0) & (bounds.upper > 0) & (at[name] <= 0)
        above = (bounds.lower < 0) & (bounds.upper > 0) & (at[name] > 0)
        splits[name] = Split(below.to(DTYPE) - above.to(DTYPE), zero)
        boxes[name] = Interval(
            torch.where(above, zero, bounds.lower), torch.where(below, zero, bounds.upper)
        )
    cut = Problem(region, boxes, problem.rows, splits)
    dual = Dual(graph, SEARCHED, cut)
    return dual, cut, dual.start()


@pytest.mark.soundness
@settings(max_examples=30)
@given(seed=SEEDS, contradiction=st.booleans())
def test_a_leaf_is_refuted_or_has_a_point_that_meets_the_clause(
    seed: int, contradiction: bool
) -> None:
    dual, cut, start = leaf(seed, contradiction=contradiction)
    found = optimise(dual, start)
    bound = float(found.bound)
    x = found.x[:, 0]
    lower, upper = cut.region.bounding_box()
    assert bool(((lower <= x) & (x <= upper)).all())
    # Near 0 neither says anything.
    if bound > 1e-7:
        points = cut.region.sample(2000, torch.Generator().manual_seed(seed))[0]
        met = torch.ones(len(points), dtype=torch.bool)
        values = dual._graph.trace(points)
        for name, split in cut.splits.items():
            met &= (split.sign * values[name] <= 0).flatten(1).all(1)
        y = values[dual._graph.output.name].flatten(1)
        forms = torch.tensor([f for f, _ in FORMS], dtype=DTYPE)
        limits = torch.tensor([b for _, b in FORMS], dtype=DTYPE)
        assert not bool((met & (y @ forms.T <= limits).all(1)).any())
    else:
        values = dual._graph.trace(x)
        y = values[dual._graph.output.name].flatten(1)
        worst = max(float((y @ torch.tensor(f, dtype=DTYPE)).squeeze() - b) for f, b in FORMS)
        for name, split in cut.splits.items():
            worst = max(worst, float((split.sign * values[name]).max()))
        assert worst <= 1e-6


def test_splits_that_contradict_each_other_alone_refute_any_clause() -> None:
    graph = relu_network((1, 2, 2), 0).joined
    region = box(1, graph, 0, 1.0)
    problem = dual_problem(graph, region, FORMS)
    ((name, bounds),) = problem.boxes.items()
    sign = torch.ones_like(bounds.lower)
    # No value of a box is below what is smaller than all of them.
    splits = {name: Split(sign, bounds.lower - 1.0)}
    dual = Dual(graph, SEARCHED, Problem(region, problem.boxes, problem.rows, splits))
    assert float(optimise(dual, dual.start()).bound) > 0
