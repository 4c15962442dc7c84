"""Norms of maps are never too small, and balls around a run hold every other one."""

from math import inf

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from absolver import domains
from absolver.analyzer.graph.linear.convolution import Convolution, TransposedConvolution
from absolver.analyzer.graph.linear.dense import Dense, MatrixProduct
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.graph.linear.movement import Embed, Select, Slice
from absolver.analyzer.graph.linear.scaling import Division, Negation, Scaling
from absolver.analyzer.propagate.engine import Given, propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.propagate.operator_norms import operator_norm, row_norms, spectral_norm
from absolver.analyzer.regions.ball import Ball
from absolver.analyzer.regions.ball_in_box import BallInBox
from absolver.analyzer.regions.box import Box
from absolver.dsl.operators import OPERATORS
from tests.analyzer.propagate.exact import EXACT_OPERATORS, Hard, hard_cases
from tests.analyzer.propagate.test_rigorous import ROWS, outside, runs_outside
from tests.analyzer.propagate.test_soundness import escapes
from tests.networks import DTYPE, NetworkBuilder, instance, relu_network, residual_network

NORMS = (1.0, 2.0, inf)
NAMES = ("lipschitz", "lipschitz_inf", "lipschitz & interval", "crown & lipschitz")
DOMAINS = {name: domains.load(name) for name in NAMES}


def convolution(seed: int, **form: object) -> Convolution:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 2, 3, 3, generator=random, dtype=DTYPE)
    known = {
        "stride": (1, 1),
        "padding": ((1, 1), (1, 1)),
        "dilation": (1, 1),
        "groups": 1,
        "input_shape": (1, 2, 6, 5),
    }
    return Convolution(weight=weight, **(known | form))  # type: ignore[arg-type]


def transposed(seed: int) -> TransposedConvolution:
    weight = torch.randn(4, 3, 3, 2, generator=torch.Generator().manual_seed(seed), dtype=DTYPE)
    return TransposedConvolution(
        weight=weight,
        stride=(2, 1),
        padding=((1, 0), (0, 1)),
        dilation=(1, 1),
        groups=2,
        output_padding=(1, 0),
        input_shape=(1, 4, 3, 4),
    )


def maps(seed: int) -> dict[str, LinearMap]:
    random = torch.Generator().manual_seed(seed)
    return {
        "dense": Dense(torch.randn(5, 7, generator=random, dtype=DTYPE), (1, 7)),
        "single": Dense(torch.randn(5, 7, generator=random), (3, 7)),
        "rank one": Dense(torch.ones(6, 9, dtype=DTYPE), (1, 9)),
        "nothing": Dense(torch.zeros(6, 9, dtype=DTYPE), (1, 9)),
        "tiny": Dense(torch.randn(4, 4, generator=random, dtype=DTYPE) * 1e-200, (1, 4)),
        "huge": Dense(torch.randn(4, 4, generator=random, dtype=DTYPE) * 1e200, (1, 4)),
        "product": MatrixProduct(
            torch.randn(3, 2, 4, generator=random, dtype=DTYPE), (3, 4, 5), on_left=True
        ),
        "convolution": convolution(seed),
        "stride": convolution(seed, stride=(2, 1), padding=((0, 1), (2, 0))),
        "cut": convolution(seed, padding=((-1, 0), (0, 0)), input_shape=(1, 2, 8, 5)),
        "groups": convolution(seed, groups=2, input_shape=(1, 4, 5, 6)),
        "dilation": convolution(seed, dilation=(2, 1), input_shape=(2, 2, 7, 5)),
        "transposed": transposed(seed),
        "scaling": Scaling(torch.randn(1, 4, generator=random, dtype=DTYPE), (1, 4)),
        "division": Division(torch.randn(1, 4, generator=random, dtype=DTYPE), (1, 4)),
        "negation": Negation((1, 4)),
        "select": Select(torch.tensor([0, 0, 2, 0]), (1, 3), (1, 4)),
    }


def matrix(linear: LinearMap) -> Tensor:
    count = torch.arange(torch.Size(linear.output_shape).numel())
    return linear.to("cpu", DTYPE).rows(count).flatten(1).to(DTYPE)


@pytest.mark.soundness
@pytest.mark.parametrize("kind", maps(0))
@pytest.mark.parametrize("norm", NORMS)
def test_no_operator_norm_is_too_small(kind: str, norm: float) -> None:
    for seed in range(3):
        linear = maps(seed)[kind]
        exact = float(torch.linalg.matrix_norm(matrix(linear), ord=norm))
        found = operator_norm(linear, norm)
        assert found >= exact * (1 - 1e-12)
        # These are exact, but for rounding; at 2 a few squarings leave a root of the rank.
        assert found <= exact * (1 + 1e-2) + 1e-300, "written out, a matrix is known this well"


@pytest.mark.soundness
@pytest.mark.parametrize("kind", ["convolution", "stride", "cut", "groups", "dilation"])
def test_frequencies_alone_bound_a_convolution(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from absolver.analyzer.propagate import operator_norms

    monkeypatch.setattr(operator_norms, "_LARGEST_MATRIX", 0)
    for seed in range(10, 13):
        linear = maps(seed)[kind]
        exact = float(torch.linalg.matrix_norm(matrix(linear), ord=2))
        found = operator_norm(linear, 2.0)
        assert exact * (1 - 1e-12) <= found <= 2 * exact


@pytest.mark.soundness
@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_no_matrix_near_the_given_one_has_a_larger_spectral_norm(
    seed: int, rows: int, columns: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    a, other = torch.randn(2, 2, rows, columns, generator=random, dtype=torch.complex128)
    a = a * 2.0 ** float(torch.randint(-60, 60, (), generator=random))
    distance = float(torch.linalg.matrix_norm(a)[0]) * 0.1
    near = a + other / torch.linalg.matrix_norm(other, keepdim=True) * distance
    bound = spectral_norm(a, distance)
    assert (bound >= torch.linalg.matrix_norm(a, ord=2) * (1 - 1e-12)).all()
    assert (bound >= torch.linalg.matrix_norm(near, ord=2) * (1 - 1e-12)).all()


def test_the_norm_of_small_integers_is_at_least_its_rational_value() -> None:
    """[[3, 4], [0, 5]] has the singular values sqrt(45) and sqrt(5)."""
    found = spectral_norm(torch.tensor([[3.0, 4.0], [0.0, 5.0]], dtype=DTYPE)).item()
    assert found >= 6.708203932499369 and found**2 == pytest.approx(45, rel=1e-2)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["dense", "single", "convolution", "stride", "groups"])
def test_rows_are_no_longer_than_their_norms(kind: str, norm: float) -> None:
    linear = maps(1)[kind]
    found = row_norms(linear, norm)
    assert found is not None
    each = found.expand(linear.output_shape).flatten()
    assert (each >= torch.linalg.vector_norm(matrix(linear), ord=norm, dim=1) * (1 - 1e-12)).all()


# Bounds.


def prove(case: Hard, name: str, dtype: torch.dtype, rounding: Rounding):  # noqa: ANN201
    graph, box = case.graph.to("cpu", dtype), case.box.to("cpu", dtype)
    return propagate(graph, DOMAINS[name], box, ROWS.to(dtype).unsqueeze(0), rounding=rounding)


@pytest.mark.soundness
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("operator", EXACT_OPERATORS)
@settings(max_examples=4)
@given(data=st.data())
def test_no_exact_value_is_outside_of_a_ball(name: str, operator: str, data: st.DataObject) -> None:
    case = data.draw(hard_cases(operator))
    dtypes = (torch.float32, torch.float64)
    assert not any(outside(case, [prove(case, name, dtype, Rounding()) for dtype in dtypes]))


@pytest.mark.soundness
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=6)
@given(case=hard_cases())
def test_no_float32_execution_is_outside_of_a_ball(name: str, case: Hard) -> None:
    assert not any(runs_outside(case, [prove(case, name, torch.float32, Rounding("float32"))]))


def ball(norm: int, radius: float, size: tuple[int, ...]) -> Ball:
    center = torch.randn(2, *size, generator=torch.Generator().manual_seed(0), dtype=DTYPE)
    return Ball(center, torch.full((2,), radius, dtype=DTYPE), norm)


@pytest.mark.soundness
@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_no_run_from_a_ball_escapes(name: str, cut: bool, norm: int) -> None:
    graph = residual_network(4)
    region = ball(norm, 0.3, graph.input.shape)
    if cut:
        region = BallInBox(region, Box(region.center - 0.05, region.center + 0.1))
    rows = torch.cat([torch.eye(3, dtype=DTYPE), -torch.eye(3, dtype=DTYPE)]).unsqueeze(0)
    found = propagate(graph, DOMAINS[name], region, rows)
    points = region.sample(500, torch.Generator().manual_seed(1))
    for element in range(2):
        outputs = graph(points[element]).flatten(1) @ rows[0].T
        assert (outputs >= found.rows[element] - 1e-9).all()


@pytest.mark.precision
def test_one_layer_over_a_ball_is_exact() -> None:
    """|w|_2 times the radius is how far w · x goes, and a row is composed with the layer."""
    builder = NetworkBuilder((1, 4), torch.Generator().manual_seed(3))
    builder.dense("x", 3)
    graph, region = builder.graph(), ball(2, 0.5, (1, 4))
    rows = torch.tensor([[[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]]], dtype=DTYPE)
    found = propagate(graph, DOMAINS["lipschitz"], region, rows).rows
    best = propagate(graph, domains.load("crown"), region, rows).rows
    assert torch.allclose(found, best, rtol=0, atol=1e-12)


@pytest.mark.precision
def test_a_concatenation_has_the_norm_of_its_parts() -> None:
    """Both halves move by the radius r at most: together by sqrt(2) r, not by 2 r."""
    builder = NetworkBuilder((1, 2), torch.Generator())
    halves: dict[str, LinearMap] = {}
    for number in range(2):
        part = builder.operator(instance("abs"), builder.affine({"x": Negation((1, 2))}, None))
        place = Slice((0, 2 * number), (1, 2 * number + 2), (1, 1), (1, 4))
        halves[part] = Embed(place)
    builder.affine(halves, None)
    region = Ball(torch.zeros(1, 1, 2, dtype=DTYPE), torch.ones(1, dtype=DTYPE), 2)
    row = torch.full((1, 1, 4), 0.5, dtype=DTYPE)
    found = propagate(builder.graph(), DOMAINS["lipschitz"], region, row).rows.item()
    assert found == pytest.approx(-(2**0.5))


@pytest.mark.precision
def test_a_product_with_boxes_is_at_least_as_good_as_each() -> None:
    """Balls and boxes shrink each other in every node, so that both gain."""
    better = 0
    for seed in range(6):
        graph = relu_network((6, 20, 20, 3), seed)
        region = ball(2, 0.2, graph.input.shape)
        rows = torch.eye(3, dtype=DTYPE).unsqueeze(0)
        both, alone, boxes = (
            propagate(graph, domains.load(name), region, rows).rows
            for name in ("lipschitz & interval", "lipschitz", "interval")
        )
        best = torch.maximum(alone, boxes)
        assert (both >= best - 1e-12).all()
        better += int((both > best + 1e-6).sum())
    assert better >= 6


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_a_single_point_has_the_runs_own_value(operator: str) -> None:
    from tests.networks import operator_network

    graph = operator_network(instance(operator), 2)
    point = torch.full((1, *graph.input.shape), 0.3, dtype=DTYPE)
    rows = torch.cat([torch.eye(2, dtype=DTYPE), -torch.eye(2, dtype=DTYPE)]).unsqueeze(0)
    found = propagate(graph, DOMAINS["lipschitz"], Box(point, point), rows)
    assert escapes(graph, Box(point, point), rows, found, 0) <= 1e-9
    value = graph(point).flatten()
    if bool(value.isfinite().all()):
        assert np.allclose(found.rows[0, :2], value, atol=1e-6)


@pytest.mark.precision
@pytest.mark.parametrize("name", ["lipschitz & interval", "crown & zonotope & lipschitz_inf"])
def test_one_meet_after_each_node_is_the_fixpoint_of_a_forward_exchange(name: str) -> None:
    """With all that a pass has found, another one finds nothing more."""
    graph = relu_network((4, 12, 12, 12, 2), 3)
    region = ball(2, 0.4, graph.input.shape)
    rows = torch.cat([torch.eye(2, dtype=DTYPE), -torch.eye(2, dtype=DTYPE)]).unsqueeze(0)
    first = propagate(graph, domains.load(name), region, rows)
    again = propagate(graph, domains.load(name), region, rows, given=Given(first.hidden))
    assert torch.allclose(first.rows, again.rows, rtol=0, atol=1e-9)
    for node, bounds in first.hidden.items():
        for side, other in zip(bounds, again.hidden[node], strict=True):
            assert torch.allclose(side, other, rtol=0, atol=1e-9)
