"""No concrete run escapes the bounds of any domain, for any operator."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from absolver import domains
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.propagate.engine import Given, Propagation, propagate
from absolver.analyzer.propagate.propagator import Multiple
from absolver.analyzer.regions.box import Box
from absolver.dsl.domain import Domain
from absolver.dsl.operators import OPERATORS
from tests.networks import DTYPE, NetworkBuilder, instance, operator_network, residual_network

DOMAINS = {name: domains.load(name) for name in (*domains.names(), "crown & interval & zonotope")}


def points_of(graph: Graph, box: Box, rows: Tensor, seed: int) -> Tensor:
    """Corners, random points, and points on the way to the corner that minimises a row."""
    generator = torch.Generator().manual_seed(seed)
    points = [box.sample(60, generator), box.lower.unsqueeze(1), box.upper.unsqueeze(1)]
    start = ((box.lower + box.upper) / 2).requires_grad_()
    outputs = graph(start).flatten(1)
    for row in rows[0]:
        (slope,) = torch.autograd.grad((outputs @ row).sum(), start, retain_graph=True)
        corner = torch.where(slope > 0, box.lower, box.upper)
        # Points on the way to the corner cross the kinks in between.
        for share in (0.3, 0.7, 1.0):
            points.append((start + share * (corner - start)).detach().unsqueeze(1))
    return torch.cat(points, dim=1)


def escapes(graph: Graph, box: Box, rows: Tensor, found: Propagation, seed: int) -> float:
    """The largest distance by which a concrete run passes a bound, at most 0 if none does.

    It is relative to the largest magnitude among the bounds: sums cancel, and plain mode promises
    no more than float64 rounding of what is added up.
    """
    worst, size = -torch.inf, 1.0
    for element, points in enumerate(points_of(graph, box, rows, seed)):
        trace = graph.trace(points)
        checks = [(found.rows[element], trace[graph.output.name].flatten(1) @ rows[0].T)]
        for name, bounds in found.hidden.items():
            checks.append((bounds.lower[element], trace[name]))
            checks.append((-bounds.upper[element], -trace[name]))
        for lower, values in checks:
            # A run that itself overflows or has no value says nothing.
            excess = torch.where(torch.isfinite(values), lower - values, -torch.inf)
            worst = max(worst, float(excess.amax()))
            size = max(size, float(torch.where(torch.isfinite(lower), lower.abs(), 0).amax()))
    return worst / size


def boxes(size: int, scale: float, seed: int, shape: tuple[int, ...]) -> Box:
    """Boxes of which some sides are points."""
    generator = torch.Generator().manual_seed(seed)
    center = torch.randn(size, *shape, generator=generator, dtype=DTYPE)
    radius = scale * torch.rand(size, *shape, generator=generator, dtype=DTYPE)
    radius = torch.where(radius < 0.2 * scale, 0, radius)
    return Box(center - radius, center + radius)


@pytest.mark.soundness
@pytest.mark.parametrize("operator", sorted(OPERATORS))
@pytest.mark.parametrize("name", sorted(DOMAINS))
@settings(max_examples=8)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.0, 1e-6, 0.05, 0.5, 3.0]),
)
def test_no_run_escapes(name: str, operator: str, seed: int, scale: float) -> None:
    graph = operator_network(instance(operator), seed)
    box = boxes(3, scale, seed, graph.input.shape)
    rows = torch.cat([torch.eye(2, dtype=DTYPE), -torch.eye(2, dtype=DTYPE)]).unsqueeze(0)
    found = propagate(graph, DOMAINS[name], box, rows)
    assert not torch.isnan(found.rows).any()
    # 1e-9: float64 rounding of some dozen operations; sound mode will have no tolerance.
    assert escapes(graph, box, rows, found, seed) <= 1e-9


@pytest.mark.soundness
@pytest.mark.parametrize("name", sorted(DOMAINS))
@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.01, 0.2]))
def test_no_run_of_a_residual_network_escapes(name: str, seed: int, scale: float) -> None:
    graph = residual_network(seed)
    box = boxes(2, scale, seed, graph.input.shape)
    rows = torch.cat([torch.eye(3, dtype=DTYPE), -torch.eye(3, dtype=DTYPE)]).unsqueeze(0)
    found = propagate(graph, DOMAINS[name], box, rows)
    assert escapes(graph, box, rows, found, seed) <= 1e-9


@pytest.mark.soundness
@pytest.mark.parametrize("memory_bytes", [1 << 12, 1 << 16])
def test_zonotopes_that_run_out_of_memory_stay_sound(memory_bytes: int) -> None:
    graph = residual_network(3)
    box = boxes(2, 0.2, 3, graph.input.shape)
    rows = torch.eye(3, dtype=DTYPE).unsqueeze(0)
    found = propagate(graph, DOMAINS["zonotope"], box, rows, memory_bytes=memory_bytes)
    assert escapes(graph, box, rows, found, 3) <= 1e-9
    full = propagate(graph, DOMAINS["zonotope"], box, rows)
    assert (found.rows < full.rows).any(), "the budget was never reached: a vacuous test"


@pytest.mark.soundness
@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), weight=st.sampled_from([0.0, 0.1, 1.0, 10.0]))
def test_multiples_of_a_split_bound_the_runs_on_its_side(seed: int, weight: float) -> None:
    """weight * neuron <= 0 is added to each row; runs where the neuron is positive do not count."""
    graph = residual_network(seed)
    box = boxes(2, 0.3, seed, graph.input.shape)
    rows = torch.eye(3, dtype=DTYPE).unsqueeze(0)
    node = graph.by_name[graph.nodes[2].inputs[0]]
    coefficients = torch.zeros(2, 3, *node.shape, dtype=DTYPE)
    coefficients[..., 1, 3, 3] = weight
    split = Multiple(node.name, coefficients, torch.zeros(2, 3, dtype=DTYPE))
    found = propagate(graph, DOMAINS["crown"], box, rows, given=Given(multiples=[split]))
    for element, points in enumerate(points_of(graph, box, rows, seed)):
        trace = graph.trace(points)
        allowed = trace[node.name][:, 0, 1, 3, 3] <= 0
        outputs = trace[graph.output.name].flatten(1)[allowed]
        assert (outputs >= found.rows[element] - 1e-9).all()


def test_multiples_of_a_split_tighten_bounds() -> None:
    """-y = x - relu(x) over [-1, 1] is 0 where x >= 0; lines alone allow -1."""
    builder = NetworkBuilder((1, 1), torch.Generator())
    one = Dense(torch.ones(1, 1, dtype=DTYPE), (1, 1))
    z = builder.affine({"x": one}, None)
    builder.affine(
        {builder.operator(instance("relu"), z): one, "x": Dense(-one.weight, (1, 1))}, None
    )
    box = Box(torch.full((1, 1, 1), -1.0, dtype=DTYPE), torch.ones(1, 1, 1, dtype=DTYPE))
    rows = -torch.ones(1, 1, 1, dtype=DTYPE)
    plain = propagate(builder.graph(), DOMAINS["crown"], box, rows).rows
    above = Multiple(z, torch.full((1, 1, 1, 1), -0.5, dtype=DTYPE), torch.zeros(1, 1, dtype=DTYPE))
    split = propagate(
        builder.graph(), DOMAINS["crown"], box, rows, given=Given(multiples=[above])
    ).rows
    assert plain.item() == pytest.approx(-1.0) and split.item() == pytest.approx(-0.5)


@pytest.mark.regression
@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_overflow_of_the_dtype_is_no_lower_bound(name: str) -> None:
    """1e30 * (1e30 * x) is 1e60 over the reals; float32 says inf, which would prove anything."""
    builder = NetworkBuilder((1, 1), torch.Generator())
    huge = Dense(torch.tensor([[1e30]]), (1, 1))
    inner = builder.operator(instance("relu"), builder.affine({"x": huge}, None))
    builder.affine({inner: huge}, None)
    box = Box(torch.ones(1, 1, 1), torch.full((1, 1, 1), 2.0))
    found = propagate(builder.graph(), DOMAINS[name], box, torch.ones(1, 1, 1))
    assert found.rows.item() == -torch.inf


@pytest.mark.soundness
@pytest.mark.parametrize("slope", ["1e30", "0 - 1e30", "l / (u - u)", "0 - 7", "chord * 3"])
@pytest.mark.parametrize("carrier", ["values", "inputs", "neurons", "symbols"])
def test_no_slope_is_unsound(slope: str, carrier: str, tmp_path) -> None:
    domain = _with_slopes(carrier, slope, tmp_path)
    for operator in ("relu", "sigmoid", "exp", "sin"):
        graph = operator_network(instance(operator), 5)
        box = boxes(3, 0.5, 5, graph.input.shape)
        rows = torch.eye(2, dtype=DTYPE).unsqueeze(0)
        found = propagate(graph, domain, box, rows)
        assert escapes(graph, box, rows, found, 5) <= 1e-9


def _with_slopes(carrier: str, slope: str, folder) -> Domain:
    if carrier == "symbols":
        text = (
            f"domain wild\n  x = affine over symbols\n  relu, sigmoid, exp, sin: both slope {slope}"
        )
    elif carrier == "values":
        text = "domain wild\n  lower <= x <= upper over values"
    else:
        text = (
            f"domain wild\n  lower <= x <= upper over {carrier}\n"
            f"  relu, sigmoid, exp, sin: upper slope {slope}\n"
            f"                           lower slope {slope}"
        )
    path = folder / "wild.dom"
    path.write_text(text + "\n")
    return domains.load(str(path))
