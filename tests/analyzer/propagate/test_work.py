"""What back-substitution is spared: what is decided, only moved, or too much work."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.graph.linear.movement import Slice
from absolver.analyzer.propagate.batches import batches
from absolver.analyzer.propagate.engine import Propagation, propagate
from absolver.analyzer.propagate.neurons import NeuronsPropagator
from absolver.analyzer.propagate.operands import bounded_tensors, undecided
from absolver.analyzer.regions.box import Box
from absolver.domains import load
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Interval
from tests.analyzer.propagate.test_soundness import boxes
from tests.networks import NetworkBuilder, relu_network, residual_network

SEEDS = st.integers(0, 10_000)


def run(graph: Graph, domain: str, box: Box, most_work: int | None = None) -> Propagation:
    size = torch.Size(graph.output.shape).numel()
    rows = torch.eye(size, dtype=box.dtype).unsqueeze(0)
    return propagate(graph, load(domain), box, rows, most_work=most_work)


def maxima_of_parts() -> tuple[Graph, str, list[str]]:
    builder = NetworkBuilder((1, 3), torch.Generator().manual_seed(1))
    dense = builder.dense("x", 6)
    parts = [builder.affine({dense: Slice((0, i), (1, 6), (1, 3), (1, 6))}, None) for i in range(2)]
    builder.dense(builder.operator(OPERATORS["max"](), *parts), 2)
    return builder.graph(), dense, parts


def test_operands_that_move_data_have_the_moved_bounds_of_the_tensor_behind_them() -> None:
    graph, dense, parts = maxima_of_parts()
    found = run(graph, "crown", boxes(2, 0.5, 3, graph.input.shape))
    whole = found.hidden[dense]
    for index, name in enumerate(parts):
        assert torch.equal(found.hidden[name].lower, whole.lower[..., index::3])
        assert torch.equal(found.hidden[name].upper, whole.upper[..., index::3])


def test_on_a_point_no_tighter_bound_is_wanted() -> None:
    graph, dense, _ = maxima_of_parts()
    users = bounded_tensors(graph)[dense]
    lower = torch.tensor([[0.0, 0, 0, 1, 0, 0]])
    upper = torch.tensor([[2.0, 2, 2, 1, 2, 2]])
    # Elements 2 and 5 feed nothing, and element 3 is a point.
    wanted = undecided(users, Interval(lower, upper))
    assert wanted.tolist() == [[True, True, False, False, True, False]]


@settings(max_examples=10)
@given(seed=SEEDS)
def test_without_work_hidden_bounds_are_intervals(seed: int) -> None:
    graph = residual_network(seed)
    box = boxes(3, 0.2, seed, graph.input.shape)
    none, interval = run(graph, "crown", box, most_work=0), run(graph, "crown_ibp", box)
    assert torch.equal(none.rows, interval.rows)
    for name, bounds in interval.hidden.items():
        assert torch.equal(none.hidden[name].lower, bounds.lower)
        assert torch.equal(none.hidden[name].upper, bounds.upper)


@settings(max_examples=10)
@given(seed=SEEDS, most=st.integers(0, 400))
def test_what_is_left_out_of_an_element_does_not_depend_on_its_mates(seed: int, most: int) -> None:
    graph = relu_network((3, 8, 8, 8, 2), seed)
    box = boxes(4, 0.2, seed, graph.input.shape)
    together = run(graph, "crown & interval", box, most).rows
    alone = [
        run(graph, "crown & interval", box.select(torch.tensor([i])), most).rows for i in range(4)
    ]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-9, atol=1e-9)


@given(seed=SEEDS, most=st.integers(1, 12))
def test_every_wanted_neuron_is_in_one_batch(seed: int, most: int) -> None:
    wanted = torch.rand(4, 9, generator=torch.Generator().manual_seed(seed)) < 0.5
    count = torch.zeros(4, 9, dtype=torch.int)
    for elements, neurons, real in batches(wanted, most):
        assert neurons.numel() <= most or len(neurons) == 1
        for element, own, is_real in zip(range(4)[elements], neurons, real, strict=True):
            count[element, own[is_real]] += 1
    assert torch.equal(count, wanted.int())


def test_a_factor_that_bounds_a_whole_tensor_comes_before_back_substitution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    bounds = NeuronsPropagator.bounds

    def counted(self: NeuronsPropagator, node: object, wanted: Tensor) -> Interval:
        asked.append(int(wanted.sum()))
        return bounds(self, node, wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(NeuronsPropagator, "bounds", counted)
    graph = relu_network((3, 16, 16, 16, 2), 0)
    box = boxes(2, 0.3, 0, graph.input.shape)
    run(graph, "crown & interval", box)
    alone = sum(asked)
    asked.clear()
    run(graph, "crown & symbolic_interval & interval", box)
    assert sum(asked) < alone
