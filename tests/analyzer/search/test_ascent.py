"""Dual bounds hold for whatever multipliers, and have the gradients that are claimed."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.propagate.engine import Given, propagate
from absolver.analyzer.regions.ball import Ball
from absolver.analyzer.regions.ball_in_box import BallInBox
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.region import Region
from absolver.analyzer.search.ascent import Dual, Problem, Split, ascend
from absolver.analyzer.search.choice import Splittable
from absolver.analyzer.search.lagrangian import Lagrangian, Point
from absolver.domains import load
from tests.analyzer.search.problems import (
    LINES,
    NETWORKS,
    SEARCHED,
    box,
    dual_problem,
    inexact_columns,
)
from tests.networks import DTYPE, NetworkBuilder

SEEDS = st.integers(0, 10_000)
KINDS = st.sampled_from(sorted(NETWORKS))
EXAMPLES = 40


def posed(kind: str, seed: int, *, batch: int = 2) -> tuple[Graph, Problem]:
    """A network over boxes, and a conjunction of two constraints with splits of operands."""
    graph = NETWORKS[kind](seed)
    region = box(batch, graph, seed, width=0.6)
    generator = torch.Generator().manual_seed(seed)
    size = torch.Size(graph.output.shape).numel()
    forms = torch.randn(2, size, generator=generator, dtype=DTYPE).tolist()
    problem = dual_problem(graph, region, [(forms[0], 0.1), (forms[1], -0.2)])
    return graph, split_randomly(graph, problem, generator)


def split_randomly(graph: Graph, problem: Problem, generator: torch.Generator) -> Problem:
    """Split a third of the elements of every operand in the middle, and cut the boxes so."""
    splits, boxes = {}, dict(problem.boxes)
    for name in Splittable.of(graph, problem.boxes).names:
        lower, upper = problem.boxes[name]
        middle = lower / 2 + upper / 2
        sign = torch.randint(-4, 5, middle.shape, generator=generator)
        sign = torch.where(sign.abs() == 1, sign, 0).to(middle)
        splits[name] = Split(sign, middle)
        boxes[name] = type(problem.boxes[name])(
            torch.where(sign < 0, middle, lower), torch.where(sign > 0, middle, upper)
        )
    return Problem(problem.region, boxes, problem.rows, splits)


def random_point(dual: Dual, generator: torch.Generator) -> Point:
    """Parameters anywhere in their ranges, multipliers and combinations of any size."""

    def draw(like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=generator, dtype=like.dtype)

    start = dual.start()
    parameters = {
        key: lower + draw(lower) * (upper - lower) for key, (lower, upper) in dual.ranges.items()
    }
    multipliers = {n: 2 * draw(m) * (draw(m) > 0.5) for n, m in start.multipliers.items()}
    return Point(parameters, multipliers, 2 * draw(start.combination))


def truth(graph: Graph, problem: Problem, point: Point, x: Tensor) -> Tensor:
    """The combination's excess at points `[batch, count, *shape]`; inf outside of the splits."""
    found = []
    for i in range(len(x)):
        values = graph.trace(x[i])
        output = values[graph.output.name].flatten(1)
        excess = output @ problem.rows.forms[i, 0].T - problem.rows.bound[i, 0]
        total = excess @ point.combination[i, 0]
        for name, split in problem.splits.items():
            outside = split.sign[i] * (values[name] - split.threshold[i]) > 0
            total = torch.where(outside.flatten(1).any(1), torch.inf, total)
        found.append(total)
    return torch.stack(found)


@pytest.mark.soundness
@settings(max_examples=EXAMPLES)
@given(kind=KINDS, seed=SEEDS, chosen=st.booleans())
def test_a_dual_bound_is_below_all_points_that_meet_the_splits(
    kind: str, seed: int, chosen: bool
) -> None:
    graph, problem = posed(kind, seed)
    generator = torch.Generator().manual_seed(seed)
    dual = Dual(graph, SEARCHED, problem, inexact_columns(problem, graph) if chosen else None)
    x = problem.region.sample(400, generator)
    for point in (dual.start(), random_point(dual, generator)):
        bound = dual.evaluate(point).bound
        least = truth(graph, problem, point, x).amin(1, keepdim=True)
        assert (bound <= least + 1e-9 * (1 + least.abs())).all()


@pytest.mark.soundness
@settings(max_examples=EXAMPLES)
@given(kind=KINDS, seed=SEEDS)
def test_without_lines_a_lagrangian_is_below_its_value_at_any_point(kind: str, seed: int) -> None:
    """The bound is below `combination · excess + multipliers · violation` everywhere."""
    graph, problem = posed(kind, seed)
    # Whole boxes: points on the other sides of splits count as well.
    whole = dual_problem(graph, problem.region, [([0.0] * problem.rows.forms.shape[3], 0.0)])
    problem = Problem(problem.region, whole.boxes, problem.rows, problem.splits)
    generator = torch.Generator().manual_seed(seed)
    dual = Dual(graph, SEARCHED, problem)
    point = random_point(dual, generator)
    bound = dual.evaluate(point).bound
    for i, points in enumerate(problem.region.sample(200, generator)):
        values = graph.trace(points)
        excess = values[graph.output.name].flatten(1) @ problem.rows.forms[i, 0].T
        total = (excess - problem.rows.bound[i, 0]) @ point.combination[i, 0]
        for name, split in problem.splits.items():
            violation = split.sign[i] * (values[name] - split.threshold[i])
            total = total + (point.multipliers[name][i, 0] * violation).flatten(1).sum(1)
        assert bound[i, 0] <= total.min() + 1e-9 * (1 + total.abs().max())


@pytest.mark.precision
@settings(max_examples=EXAMPLES)
@given(kind=KINDS, seed=SEEDS, chosen=st.booleans())
def test_the_first_bound_is_that_of_propagation_with_the_same_hidden_bounds(
    kind: str, seed: int, chosen: bool
) -> None:
    graph = NETWORKS[kind](seed)
    region = box(2, graph, seed, width=0.6)
    size = torch.Size(graph.output.shape).numel()
    form = torch.randn(1, size, generator=torch.Generator().manual_seed(seed), dtype=DTYPE)
    problem = dual_problem(graph, region, [(form[0].tolist(), 0.3)])
    dual = Dual(graph, SEARCHED, problem, inexact_columns(problem, graph) if chosen else None)
    own = dual.evaluate(dual.start()).bound
    given_ = Given(problem.boxes)
    # The starts of searched slopes are what the domain without a search takes.
    wide = propagate(graph, SEARCHED, region, form.unsqueeze(0), given=given_).rows - 0.3
    assert torch.allclose(own, wide, rtol=1e-9, atol=1e-9)


@settings(max_examples=EXAMPLES)
@given(kind=KINDS, seed=SEEDS)
def test_gradients_are_those_of_the_bound(kind: str, seed: int) -> None:
    graph, problem = posed(kind, seed, batch=1)
    generator = torch.Generator().manual_seed(seed)
    dual = Dual(graph, SEARCHED, problem, inexact_columns(problem, graph))
    point = random_point(dual, generator)
    at = dual.evaluate(point, gradients=True)
    slopes = dual.slope_gradients(at)
    parameters = [(slopes[key], point.parameters[key]) for key in slopes]
    splits = [(dual.violation(name, at.values), m) for name, m in point.multipliers.items()]
    checked = 0
    for gradient, value in [*parameters, *splits, (at.excess, point.combination)]:
        if not value.numel():
            continue
        place = int(torch.randint(value.numel(), (), generator=generator))
        checked += agrees(dual, point, value, place, float(gradient.flatten()[place]))
    assert checked >= 1


def agrees(dual: Dual, point: Point, value: Tensor, place: int, gradient: float) -> bool:
    """Compare with differences; False where the bound bends, or the value is at an end."""
    flat, step = value.view(-1), 1e-6
    before = float(flat[place])

    def moved(by: float) -> float:
        flat[place] = before + by
        bound = float(dual.evaluate(point).bound.sum())
        flat[place] = before
        return bound

    here = moved(0.0)
    left, right = (here - moved(-step)) / step, (moved(step) - here) / step
    scale = 1 + abs(here) + abs(gradient)
    if abs(left - right) > 1e-4 * scale:
        return False
    assert abs(left - gradient) <= 1e-3 * scale
    return True


@settings(max_examples=EXAMPLES)
@given(kind=KINDS, seed=SEEDS)
@example(kind="leaky_relu", seed=1322)  # splits, and no neuron on which an operator is inexact
def test_an_ascent_never_ends_below_its_start_nor_above_what_is_true(kind: str, seed: int) -> None:
    graph, problem = posed(kind, seed)
    generator = torch.Generator().manual_seed(seed)
    dual = Dual(graph, SEARCHED, problem, inexact_columns(problem, graph))
    start = random_point(dual, generator)
    best, bounds, last = ascend(dual, start, steps=6)
    assert (bounds >= dual.evaluate(start).bound).all()
    assert isinstance(last, Lagrangian) and (bounds >= last.bound).all()
    assert torch.allclose(dual.evaluate(best).bound, bounds, rtol=1e-9, atol=1e-9)
    assert all((m >= 0).all() for m in (*best.multipliers.values(), best.combination))
    least = truth(graph, problem, best, problem.region.sample(200, generator)).amin(1, keepdim=True)
    assert (bounds <= least + 1e-9 * (1 + least.abs())).all()


@pytest.mark.regression
@pytest.mark.soundness
@settings(max_examples=EXAMPLES)
@given(kind=KINDS, seed=SEEDS)
def test_what_a_layer_shares_stays_one_value_in_an_ascent_that_is_sound(
    kind: str, seed: int
) -> None:
    graph, problem = posed(kind, seed)
    dual = Dual(graph, load("frown"), problem, inexact_columns(problem, graph))
    start = dual.start()
    best, bounds, _ = ascend(dual, start, steps=6)
    assert all(value.shape[2] == 1 for value in best.parameters.values())
    assert (bounds >= dual.evaluate(start).bound).all()
    x = problem.region.sample(400, torch.Generator().manual_seed(seed))
    least = truth(graph, problem, best, x).amin(1, keepdim=True)
    assert (bounds <= least + 1e-9 * (1 + least.abs())).all()


def cut_regions() -> dict[str, Region]:
    """Sets that are no boxes, in the plane."""

    def row(*values: float) -> Tensor:
        return torch.tensor([values], dtype=DTYPE)

    unit = Box(row(0, 0), row(1, 1))
    ball = Ball(row(0.5, 0.5), torch.tensor([0.6], dtype=DTYPE), 2)
    return {
        "polytope": Polytope(unit, row(-1, -1).unsqueeze(0), row(-1.2)),
        "two constraints": Polytope(
            unit, torch.stack([row(-1, -1), row(1, -2)], 1), row(-1.2, 0.3)
        ),
        "ball in box": BallInBox(ball, unit),
    }


@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.parametrize("name", sorted(cut_regions()))
@settings(max_examples=20)
@given(seed=SEEDS)
def test_a_dual_bound_over_a_cut_set_is_the_minimum_that_the_set_has(name: str, seed: int) -> None:
    """A constraint's multiplier can put the least point where the constraint is slack."""
    region = cut_regions()[name]
    builder = NetworkBuilder((2,), torch.Generator().manual_seed(0))
    builder.affine({"x": Dense(torch.eye(2, dtype=DTYPE), (2,))}, None)
    generator = torch.Generator().manual_seed(seed)
    form = torch.randint(-3, 4, (2,), generator=generator).to(DTYPE)
    problem = dual_problem(builder.graph(), region, [(form.tolist(), 0.0)])
    dual = Dual(builder.graph(), LINES, problem)
    bound = dual.evaluate(dual.start()).bound
    assert torch.allclose(bound, region.minimum(form.view(1, 1, 2)), atol=1e-9)
