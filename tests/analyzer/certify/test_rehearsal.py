"""The rehearsal: what the checker will find, and which rows it will need for that."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from absolver.analyzer.certify.operands import bounded_tensors
from absolver.analyzer.certify.rehearsal import Rehearsal, Rows, lines_of, rehearse
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.graph.linear.movement import Select, Slice
from absolver.analyzer.graph.linear.reduction import Broadcast
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.regions.box import Box
from absolver.domains import load
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Interval
from tests.networks import NetworkBuilder, operator_network, relu_network, residual_network

MEMORY = 1 << 28


def box_around(graph: Graph, seed: int, batch: int = 2, radius: float = 0.2) -> Box:
    random = torch.Generator().manual_seed(seed)
    center = torch.randn(batch, *graph.input.shape, generator=random, dtype=torch.float64)
    return Box(center - radius, center + radius)


def forms(graph: Graph, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    size = torch.Size(graph.output.shape).numel()
    return torch.randn(1, 3, size, generator=random, dtype=torch.float64)


def rehearsed(graph: Graph, region: Box, domain: str, rows: Rows) -> Rehearsal:
    lines = (*lines_of(load(domain)), None)[0]
    return rehearse(graph, lines, region, forms(graph), memory_bytes=MEMORY, rows=rows)


def networks(seed: int) -> list[Graph]:
    smooth = [
        operator_network(OPERATORS[name](), seed) for name in ("tanh", "mul", "max", "sigmoid")
    ]
    return [relu_network((3, 6, 6, 2), seed), residual_network(seed), *smooth]


@pytest.mark.soundness
@given(seed=st.integers(0, 2**16), rows=st.sampled_from(Rows))
def test_no_run_escapes_the_boxes_or_the_rows(seed: int, rows: Rows) -> None:
    graph = networks(seed)[seed % 6]
    region = box_around(graph, seed)
    found = rehearsed(graph, region, "crown", rows)
    points = region.sample(20, torch.Generator().manual_seed(seed))
    for element, own in enumerate(points):
        values = graph.trace(own)
        for name, box in found.boxes.items():
            assert (values[name] >= box.lower[element] - 1e-9).all()
            assert (values[name] <= box.upper[element] + 1e-9).all()
        least = (values[graph.output.name].flatten(1) @ forms(graph)[0].T).amin(0)
        assert (found.rows[element] <= least + 1e-9).all()


@pytest.mark.precision
@pytest.mark.parametrize("seed", range(6))
def test_with_all_rows_nothing_of_crown_and_interval_is_lost(seed: int) -> None:
    graph = networks(seed)[seed]
    region = box_around(graph, seed)
    found = rehearsed(graph, region, "crown", Rows.ALL)
    solved = propagate(graph, load("crown & interval"), region, forms(graph))
    # A row that gains less than a millionth of a box is left out.
    assert (found.rows >= solved.rows - 1e-5 * (1 + solved.rows.abs())).all()


@pytest.mark.precision
@pytest.mark.parametrize("seed", range(6))
def test_without_rows_it_is_crown_over_interval_bounds(seed: int) -> None:
    graph = networks(seed)[seed]
    region = box_around(graph, seed)
    found = rehearsed(graph, region, "crown", Rows.NONE)
    solved = propagate(graph, load("crown_ibp & interval"), region, forms(graph))
    assert torch.allclose(found.rows, solved.rows, rtol=1e-9, atol=1e-9)
    assert not found.masks


def test_a_layer_that_is_exact_in_one_step_needs_no_row() -> None:
    graph = relu_network((3, 8, 8, 2), 0)
    found = rehearsed(graph, box_around(graph, 0, radius=0.5), "crown", Rows.ENOUGH)
    first, second = (name for name in found.boxes)
    assert first not in found.masks and second in found.masks


def test_a_neuron_that_its_interval_decides_needs_no_row() -> None:
    graph = relu_network((3, 8, 8, 8, 2), 1)
    found = rehearsed(graph, box_around(graph, 1, radius=0.3), "crown", Rows.ENOUGH)
    lower, upper = found.boxes[next(reversed(found.boxes))]
    masks = found.masks[next(reversed(found.boxes))]
    # One side at most where that side decides the neuron.
    decided = (lower >= 0) | (upper <= 0)
    both = (masks.lower & masks.upper).view_as(lower)
    assert not (decided & both).any()


def test_the_same_rows_are_asked_for_alone_or_in_a_batch() -> None:
    graph = relu_network((3, 8, 8, 8, 2), 2)
    region = box_around(graph, 2, batch=3, radius=0.3)
    whole = rehearsed(graph, region, "crown", Rows.ENOUGH)
    for element in range(3):
        alone = rehearsed(graph, region.select(torch.tensor([element])), "crown", Rows.ENOUGH)
        for name, masks in alone.masks.items():
            assert torch.equal(masks.lower[0], whole.masks[name].lower[element])
            assert torch.equal(masks.upper[0], whole.masks[name].upper[element])


def test_a_bounded_tensor_lies_behind_everything_that_only_moves_data() -> None:
    builder = NetworkBuilder((1, 4), torch.Generator().manual_seed(0))
    dense = builder.dense("x", 4)
    turned = builder.affine({dense: Select(torch.tensor([3, -1, 0]), (1, 4), (1, 3))}, None)
    wide = builder.affine({turned: Broadcast((1, 3), (2, 3))}, None)
    result = builder.operator(OPERATORS["relu"](), wide)
    builder.dense(result, 1)
    graph = builder.graph()
    ((name, (use,)),) = bounded_tensors(graph).items()
    assert name == dense
    assert use.index[0] is not None
    assert use.index[0].tolist() == [3, -1, 0] * 2
    box = Interval(torch.tensor([[1.0, -1, -1, -1]]), torch.tensor([[2.0, 1, 1, 1]]))
    # Element 0 is stable, 1 and 2 feed nothing, 3 is open.
    assert use.undecided(box).tolist() == [[False, False, False, True]]


def test_a_maximum_that_one_operand_wins_is_decided() -> None:
    builder = NetworkBuilder((1, 2), torch.Generator().manual_seed(0))
    dense = builder.dense("x", 4)
    halves = [
        builder.affine({dense: Slice((0, i), (1, 4), (1, 2), (1, 4))}, None) for i in range(2)
    ]
    builder.dense(builder.operator(OPERATORS["max"](), *halves), 1)
    (use,) = bounded_tensors(builder.graph())[dense]
    box = Interval(torch.tensor([[0.0, 5, 0, 0]]), torch.tensor([[1.0, 6, 2, 2]]))
    assert use.undecided(box).tolist() == [[False, False, True, True]]
