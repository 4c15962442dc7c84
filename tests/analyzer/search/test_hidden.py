"""Hidden bounds whose slopes are searched hold, are tighter, and are what a certificate says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.certify.rehearsal import Rows, rehearse
from absolver.analyzer.search.hidden import Effort, search_hidden
from tests.analyzer.search.problems import MEMORY_BYTES, NETWORKS, SEARCHED, box, specify
from tests.networks import relu_network

SEEDS = st.integers(0, 10_000)
EFFORT = Effort(SEARCHED, 60.0, MEMORY_BYTES)


@pytest.mark.soundness
@settings(max_examples=20)
@given(kind=st.sampled_from(sorted(NETWORKS)), seed=SEEDS, sets=st.integers(1, 3))
def test_hidden_values_of_all_points_are_within_the_bounds(kind: str, seed: int, sets: int) -> None:
    graph = NETWORKS[kind](seed).joined
    region = box(sets, graph, seed, 0.5)
    form = [1.0] + [0.0] * (graph(region.center).flatten(1).shape[1] - 1)
    root = search_hidden(graph, specify(region, [[(form, 0.0)]]), EFFORT)
    points = region.sample(300, torch.Generator().manual_seed(seed))
    for number in range(sets):
        values = graph.trace(points[number])
        for name, bounds in root.boxes.items():
            room = 1e-9 * (1 + bounds.upper[number].abs() + bounds.lower[number].abs())
            assert bool((values[name] >= bounds.lower[number] - room).all())
            assert bool((values[name] <= bounds.upper[number] + room).all())


@pytest.mark.precision
@settings(max_examples=20)
@given(seed=SEEDS)
def test_no_bound_is_looser_than_with_the_slopes_of_the_start(seed: int) -> None:
    # Behind one searched tensor other boxes give other slopes, which may be worse.
    graph = relu_network((3, 6, 5, 2), seed)
    region = box(2, graph, seed, 0.5)
    whole = specify(region, [[((1.0, 0.0), 0.0)]])
    root = search_hidden(graph, whole, EFFORT)
    start = rehearse(
        *(graph, SEARCHED, region, whole.rows), memory_bytes=MEMORY_BYTES, rows=Rows.ALL
    )
    for name, bounds in root.boxes.items():
        # Slopes are rounded to binary16.
        room = 2e-3 * (start.boxes[name].upper - start.boxes[name].lower)
        assert bool((bounds.lower >= start.boxes[name].lower - room).all())
        assert bool((bounds.upper <= start.boxes[name].upper + room).all())


def test_without_time_bounds_are_those_of_the_start() -> None:
    graph = NETWORKS["relu"](0)
    region = box(1, graph, 0, 0.5)
    whole = specify(region, [[((1.0, 0.0), 0.0)]])
    root = search_hidden(graph, whole, Effort(SEARCHED, 0.0, MEMORY_BYTES))
    start = rehearse(
        *(graph, SEARCHED, region, whole.rows), memory_bytes=MEMORY_BYTES, rows=Rows.ALL
    )
    assert not root.own
    for name, bounds in root.boxes.items():
        assert torch.equal(bounds.lower, start.boxes[name].lower)
        assert torch.equal(bounds.upper, start.boxes[name].upper)
