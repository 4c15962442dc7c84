"""Faces of composed ReLUs: they hold, and sorting finds the deepest one that a point misses."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.engines.known import tangents_domain
from absolver.analyzer.fixpoint.store import FactStore
from absolver.analyzer.programs.composed import Composed, ComposedFace, composed_layers
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.refine.active_sets import ActiveSetReducer, Climb
from absolver.analyzer.refine.evidence import Evidence
from absolver.analyzer.refine.lagrangian import LayeredDual, ascend
from absolver.analyzer.refine.outputs import CutReducer, OutputReducer
from absolver.domains import load
from tests.analyzer.refine.problems import exact_minimum, known_set, problem_of, runs
from tests.networks import relu_network, residual_network


def layers(seed: int) -> tuple[Composed, ...]:
    known = known_set(relu_network((3, 5, 4, 2), seed), seed)
    return tuple(composed_layers(known.graph, known.region, known.boxes))


@pytest.mark.soundness
@settings(max_examples=20)
@given(seed=st.integers(0, 9999), residual=st.booleans())
def test_any_normal_gives_an_inequality_that_holds(seed: int, residual: bool) -> None:
    graph = residual_network(seed) if residual else relu_network((3, 5, 4, 2), seed)
    known = known_set(graph, seed, 0.1 if residual else 0.8)
    values = runs(known, seed)
    generator = torch.Generator().manual_seed(seed)
    for layer in composed_layers(known.graph, known.region, known.boxes):
        for number in range(len(layer.elements)):
            size = layer.weight.shape[1]
            normal = torch.randn(size, generator=generator, dtype=torch.float64)
            scale = float(torch.rand(1, generator=generator))
            face = ComposedFace(layer, number, scale, normal)
            total = sum((values[name] * row).flatten(1).sum(1) for name, row in face.rows.items())
            assert (total <= face.constant(known.boxes) + 1e-9).all()


@pytest.mark.precision
@settings(max_examples=20)
@given(seed=st.integers(0, 9999))
def test_no_face_of_the_hull_is_missed_by_more(seed: int) -> None:
    """All sets I and inputs h with `l(I) >= 0 > l(I + h)` (Tjandraatmadja et al., theorem 1)."""
    generator = torch.Generator().manual_seed(seed)
    for layer in layers(seed):
        share = torch.rand(layer.weight.shape[1], generator=generator, dtype=torch.float64)
        x = layer.box.lower + share * (layer.box.upper - layer.box.lower)
        y = torch.rand(len(layer.elements), generator=generator, dtype=torch.float64)
        normal, missed = layer.deepest(x, y)
        constant = layer.constants(normal, torch.ones_like(y))
        assert torch.allclose(y - normal @ x - constant, missed, atol=1e-9)
        for number in range(len(layer.elements)):
            deepest = max(_missed(layer, number, x, float(y[number])))
            assert float(missed[number]) == pytest.approx(deepest, abs=1e-9)


def _missed(layer: Composed, number: int, x: torch.Tensor, y: float) -> list[float]:
    weight, bias = layer.weight[number].numpy(), float(layer.bias[number])
    lower, upper = (side.numpy() for side in layer.box)
    low, high = np.where(weight >= 0, (lower, upper), (upper, lower))
    every, found = range(len(weight)), []

    def level(chosen: tuple[int, ...]) -> float:
        ends = np.where(np.isin(every, chosen), low, high)
        return float(weight @ ends) + bias

    for size in range(len(weight) + 1):
        for chosen in combinations(every, size):
            for h in set(every) - set(chosen):
                if level(chosen) >= 0 > level((*chosen, h)):
                    own = sum(float(weight[i] * (x[i] - low[i])) for i in chosen)
                    own += level(chosen) * float(x[h] - low[h]) / float(high[h] - low[h])
                    found.append(y - own)
    return found


@pytest.mark.precision
@settings(max_examples=8)
@given(seed=st.integers(0, 9999))
def test_cuts_lie_between_triangles_and_the_exact_minimum(seed: int) -> None:
    known = known_set(relu_network((3, 6, 5, 2), seed), seed)
    problem = problem_of(known)
    plain, cut = (
        kind(Evidence(known)).reduce(problem, FactStore()).rows
        for kind in (OutputReducer, CutReducer)
    )
    assert plain is not None and cut is not None
    for row in range(2):
        exact = exact_minimum(known, known.graph.output.name, row, 1)
        assert float(plain[0, row]) - 1e-6 <= float(cut[0, row]) <= exact + 1e-6


@pytest.mark.precision
def test_faces_gain_where_a_layer_is_wide() -> None:
    gained = 0
    for seed in range(6):
        known = known_set(relu_network((4, 8, 8, 2), seed), seed)
        relaxation = Relaxation(known.encoding, tangents_domain())
        goal = next(known.goals())
        relaxation.pose(goal.forms)
        solved = relaxation.solve(60.0)
        rows = CutReducer(Evidence(known)).reduce(problem_of(known), FactStore()).rows
        assert solved is not None and rows is not None
        gained += float(rows[0, 0]) > solved.value - 100.0 + 1e-4
    assert gained >= 3


@pytest.mark.precision
@pytest.mark.parametrize("seed", range(3))
def test_active_sets_lie_between_the_ascent_without_faces_and_the_program_with_all(
    seed: int,
) -> None:
    known = known_set(relu_network((4, 8, 8, 2), seed), seed)
    dual = LayeredDual(known.graph, known.region, known.boxes, torch.eye(2, dtype=torch.float64))
    plain = ascend(dual, dual.start(load("crown")), 40)[1]
    found = Climb(dual).go()
    assert (found >= plain).all()
    rows = CutReducer(Evidence(known)).reduce(problem_of(known), FactStore()).rows
    assert rows is not None
    for row in range(2):
        exact = exact_minimum(known, known.graph.output.name, row, 1)
        assert float(found[row]) <= exact + 1e-7
        # The program stops where no face is missed by more than its tolerance.
        assert float(found[row]) <= float(rows[0, row]) + 1e-3 * (1 + abs(exact))


@pytest.mark.precision
def test_active_sets_are_above_the_linear_optimum_where_faces_gain() -> None:
    gained = 0
    for seed in range(3):
        known = known_set(relu_network((4, 8, 8, 2), seed), seed)
        plain = OutputReducer(Evidence(known)).reduce(problem_of(known), FactStore()).rows
        found = ActiveSetReducer(Evidence(known)).reduce(problem_of(known), FactStore()).rows
        assert plain is not None and found is not None
        gained += int((found > plain + 1e-4).sum())
    assert gained >= 2
