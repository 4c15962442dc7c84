"""Equalities and orderings between domains that theory predicts (metamorphic tests)."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from absolver import domains
from absolver.analyzer.graph.graph import Affine, Graph, Nonlinear
from absolver.analyzer.graph.linear.convolution import Convolution
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.graph.linear.scaling import Scaling
from absolver.analyzer.propagate.engine import Given, Propagation, propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.regions.box import Box
from absolver.dsl.operators import OPERATORS
from tests.analyzer.propagate.test_soundness import DOMAINS, boxes
from tests.networks import DTYPE, NetworkBuilder, relu_network, residual_network

SEEDS = st.integers(0, 10_000)
BOTH_SIDES = torch.cat([torch.eye(3, dtype=DTYPE), -torch.eye(3, dtype=DTYPE)]).unsqueeze(0)

# One radius for all neurons of a layer is no help for a layer that scales each by itself.
WITHOUT_NORMS = sorted(name for name, domain in DOMAINS.items() if domain.norm is None)


def run(graph: Graph, domain: str, box: Box, **options) -> Propagation:
    return propagate(graph, DOMAINS[domain], box, BOTH_SIDES, **options)


def close(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(DOMAINS))
@settings(max_examples=10)
@given(seed=SEEDS)
def test_an_element_of_a_batch_gets_the_bound_that_it_gets_alone(name: str, seed: int) -> None:
    graph = residual_network(seed)
    box = boxes(4, 0.2, seed, graph.input.shape)
    together = run(graph, name, box).rows
    alone = [run(graph, name, Box(box.lower[i : i + 1], box.upper[i : i + 1])) for i in range(4)]
    assert close(together, torch.cat([found.rows for found in alone]))


@pytest.mark.parametrize("name", sorted(DOMAINS))
@settings(max_examples=10)
@given(seed=SEEDS)
def test_the_bounds_over_a_point_are_the_value_there(name: str, seed: int) -> None:
    graph = residual_network(seed)
    box = boxes(2, 0.0, seed, graph.input.shape)
    value = graph(box.lower).flatten(1)
    assert close(run(graph, name, box).rows, torch.cat([value, -value], dim=1))


@pytest.mark.precision
@settings(max_examples=20)
@given(seed=SEEDS)
def test_deepz_is_as_tight_as_fast_lin_over_the_same_hidden_bounds(seed: int) -> None:
    graph = relu_network((4, 8, 8, 3), seed)
    box = boxes(2, 0.3, seed, graph.input.shape)
    hidden = run(graph, "fast_lin", box).hidden
    assert close(
        run(graph, "zonotope", box, given=Given(hidden)).rows, run(graph, "fast_lin", box).rows
    )


@pytest.mark.precision
@settings(max_examples=20)
@given(seed=SEEDS)
def test_deepz_is_fast_lin_where_no_neuron_is_stable_by_intervals_alone(seed: int) -> None:
    """On dense ReLU networks the two compute the same hidden bounds as well (ERAN's README)."""
    graph = relu_network((4, 8, 8, 3), seed)
    box = boxes(2, 0.05, seed, graph.input.shape)
    zonotope, fast_lin = run(graph, "zonotope", box), run(graph, "fast_lin", box)
    for name, bounds in fast_lin.hidden.items():
        assert close(zonotope.hidden[name].lower, bounds.lower)
        assert close(zonotope.hidden[name].upper, bounds.upper)


@pytest.mark.precision
@settings(max_examples=20)
@given(seed=SEEDS)
def test_deeppoly_is_crown_on_relu(seed: int) -> None:
    graph = residual_network(seed)
    box = boxes(2, 0.2, seed, graph.input.shape)
    assert close(run(graph, "deeppoly", box).rows, run(graph, "crown", box).rows)


@pytest.mark.precision
@settings(max_examples=20)
@given(seed=SEEDS)
def test_forward_and_backward_agree_with_one_hidden_layer(seed: int) -> None:
    graph = relu_network((5, 9, 3), seed)
    box = boxes(2, 0.4, seed, graph.input.shape)
    assert close(run(graph, "symbolic_interval", box).rows, run(graph, "fast_lin", box).rows)


@pytest.mark.precision
@settings(max_examples=20)
@given(seed=SEEDS, first=st.sampled_from(["interval", "zonotope", "fast_lin", "crown"]))
def test_a_product_is_at_least_as_tight_as_each_factor_over_its_hidden_bounds(
    seed: int, first: str
) -> None:
    graph = residual_network(seed)
    box = boxes(2, 0.2, seed, graph.input.shape)
    product = domains.load(f"{first} & interval")
    both = propagate(graph, product, box, BOTH_SIDES)
    assert (both.rows >= run(graph, "interval", box).rows - 1e-9).all()
    again = run(graph, first, box, given=Given(both.hidden))
    assert (both.rows >= again.rows - 1e-9).all()


@settings(max_examples=10)
@given(seed=SEEDS)
def test_a_single_affine_layer_is_bounded_exactly(seed: int) -> None:
    graph = relu_network((6, 3), seed)
    box = boxes(2, 0.5, seed, graph.input.shape)
    weight = graph.output.maps[0].weight
    corner = torch.where(weight > 0, box.lower, box.upper)
    exact = (weight * corner).sum(2) + graph.output.bias
    for name in DOMAINS:
        assert close(run(graph, name, box).rows[:, :3], exact)


@settings(max_examples=10)
@given(seed=SEEDS)
def test_scaling_a_relu_by_a_positive_number_and_back_changes_nothing(seed: int) -> None:
    graph = relu_network((4, 6, 6, 3), seed)
    factor = torch.linspace(0.25, 4.0, 6, dtype=DTYPE)
    nodes, renamed = [], {}
    for node in graph.nodes:
        if hasattr(node, "inputs"):
            node = replace(node, inputs=tuple(renamed.get(i, i) for i in node.inputs))
        if not isinstance(node, Nonlinear):
            nodes.append(node)
            continue
        (source,) = node.inputs
        up = _scaled(f"{node.name}_up", source, factor, node.shape)
        relu = replace(node, inputs=(up.name,))
        down = _scaled(f"{node.name}_down", node.name, 1 / factor, node.shape)
        renamed[node.name] = down.name
        nodes += [up, relu, down]
    scaled = replace(graph, nodes=tuple(nodes))
    box = boxes(2, 0.3, seed, graph.input.shape)
    for name in WITHOUT_NORMS:
        assert close(run(scaled, name, box).rows, run(graph, name, box).rows)


def _scaled(name: str, source: str, factor: Tensor, shape: tuple[int, ...]) -> Affine:
    scaling = Scaling(factor, shape)
    return Affine(name=name, shape=shape, origin=name, inputs=(source,), maps=(scaling,), bias=None)


@settings(max_examples=3)
@given(seed=SEEDS)
def test_windows_and_written_out_rows_give_the_same_bounds(seed: int) -> None:
    """A memory budget so small that every row is a chunk of its own changes nothing either."""
    graph = residual_network(seed)
    box = boxes(3, 0.2, seed, graph.input.shape)
    usual = run(graph, "crown", box)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("absolver.analyzer.propagate.windows._LARGEST_SHARE", 0.0)
        assert close(run(graph, "crown", box).rows, usual.rows)
    assert close(run(graph, "crown", box, memory_bytes=1).rows, usual.rows)


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_float32_bounds_are_close_to_float64_ones(name: str) -> None:
    graph = residual_network(1)
    box = boxes(3, 0.2, 1, graph.input.shape)
    wide = run(graph, name, box).rows
    narrow = propagate(
        graph.to("cpu", torch.float32),
        DOMAINS[name],
        box.to("cpu", torch.float32),
        BOTH_SIDES.float(),
    ).rows
    assert narrow.dtype == torch.float32
    assert torch.allclose(narrow.double(), wide, rtol=1e-3, atol=1e-4)


def test_bounds_are_differentiable_in_the_weights() -> None:
    """Operator norms count as constants: what is left is the gradient of the concrete run."""
    graph = relu_network((3, 5, 3), 2)
    weight = graph.nodes[1].maps[0].weight.requires_grad_()
    box = boxes(2, 0.2, 2, graph.input.shape)
    for name in DOMAINS:
        (slope,) = torch.autograd.grad(run(graph, name, box).rows.sum(), weight)
        assert torch.isfinite(slope).all() and (slope != 0).any()


@pytest.mark.regression
def test_no_bound_is_computed_in_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch allows TF32 for convolutions by default; the user's setting survives the call."""
    seen = []

    def watched(self, x: Tensor) -> Tensor:
        seen.append(torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)
        return apply(self, x)

    apply = Convolution.apply
    monkeypatch.setattr(Convolution, "apply", watched)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    graph = residual_network(0)
    run(graph, "crown", boxes(1, 0.1, 0, graph.input.shape))
    assert seen and not any(seen)
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.precision
@settings(max_examples=20)
@given(seed=SEEDS)
def test_intervals_do_not_forget_how_the_last_layers_tie_the_outputs(seed: int) -> None:
    builder = NetworkBuilder((1, 4), torch.Generator().manual_seed(seed))
    hidden = builder.operator(OPERATORS["relu"](), builder.dense("x", 8))
    first, second = builder.random(2, 8)
    weight = torch.stack([first, first + second])
    builder.affine({hidden: Dense(weight, (1, 8))}, builder.random(2))
    graph = builder.graph()
    box = boxes(2, 0.3, seed, graph.input.shape)
    rows = torch.tensor([[[-1.0, 1.0]]], dtype=DTYPE)
    inner, bias = graph.nodes[1], graph.output.bias
    assert isinstance(inner, Affine) and bias is not None and inner.bias is not None
    radius = inner.maps[0].apply_abs(box.upper - box.lower) / 2
    center = inner.maps[0].apply(box.upper + box.lower) / 2 + inner.bias
    lower, upper = (center - radius).clamp(min=0)[:, 0], (center + radius).clamp(min=0)[:, 0]
    exact = lower @ second.clamp(min=0) + upper @ second.clamp(max=0) + bias[1] - bias[0]
    for rounding in (None, Rounding()):
        found = propagate(graph, DOMAINS["interval"], box, rows, rounding=rounding)
        assert close(found.rows[:, 0], exact)
