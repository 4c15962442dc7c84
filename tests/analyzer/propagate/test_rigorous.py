"""Proved bounds hold as numbers: no exact value, and no float32 execution, is outside of them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from absolver import domains
from absolver.analyzer.graph.graph import Affine, Graph, Nonlinear
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.graph.linear.movement import Reshape
from absolver.analyzer.graph.linear.reduction import Broadcast
from absolver.analyzer.propagate.engine import Given, Propagation, propagate
from absolver.analyzer.propagate.execution import NoExecutionModelError, Rounding
from absolver.analyzer.propagate.propagator import Multiple
from absolver.analyzer.regions.box import Box
from tests.analyzer.propagate.exact import (
    EXACT_OPERATORS,
    Hard,
    Oracle,
    escapes,
    exact,
    hard_cases,
)
from tests.analyzer.propagate.test_soundness import boxes
from tests.networks import (
    NetworkBuilder,
    instance,
    operator_network,
    relu_network,
    residual_network,
)

DTYPES = (torch.float32, torch.float64)
NAMES = ("interval", "crown", "crown_ibp", "zonotope", "symbolic_interval", "crown & zonotope")
DOMAINS = {name: domains.load(name) for name in NAMES}
ROWS = torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1], [1, -1]], dtype=torch.float64)


def prove(
    case: Hard, domain: str, dtype: torch.dtype, rounding: Rounding | None, **options: object
) -> Propagation:
    graph, box = case.graph.to("cpu", dtype), case.box.to("cpu", dtype)
    rows = ROWS.to(dtype).unsqueeze(0)
    return propagate(graph, DOMAINS[domain], box, rows, rounding=rounding, **options)


def outside(case: Hard, found: Sequence[Propagation]) -> list[list[str]]:
    """What escapes each result at corners and kinks of the boxes, over the rationals."""
    random = np.random.default_rng(case.seed)
    oracle = Oracle(case.graph)
    result: list[list[str]] = [[] for _ in found]
    for element in range(case.box.batch):
        for x in oracle.corners(case.box, element, random):
            values = oracle.trace(exact(x))
            for own, bounds in zip(result, found, strict=True):
                own += escapes(case.graph, bounds, element, values, ROWS)
    return result


def runs_outside(case: Hard, found: Sequence[Propagation]) -> list[list[str]]:
    """What escapes each result in float32 runs in any order from float32 points of the boxes."""
    random = np.random.default_rng(case.seed)
    oracle = Oracle(case.graph)
    result: list[list[str]] = [[] for _ in found]
    for element in range(case.box.batch):
        low, high = case.box.lower[element].float(), case.box.upper[element].float()
        for x in oracle.corners(case.box, element, random):
            run = oracle.run(x.float().clamp(low, high), random)
            values = {name: exact(value) for name, value in run.items()}
            for own, bounds in zip(result, found, strict=True):
                own += escapes(case.graph, bounds, element, values, ROWS)
    return result


@pytest.mark.soundness
@pytest.mark.parametrize("domain", NAMES)
@settings(max_examples=12)
@given(case=hard_cases())
def test_no_exact_value_is_outside(domain: str, case: Hard) -> None:
    found = [prove(case, domain, dtype, Rounding("real")) for dtype in DTYPES]
    assert outside(case, found) == [[], []]


@pytest.mark.soundness
@pytest.mark.parametrize("operator", EXACT_OPERATORS)
@settings(max_examples=6)
@given(data=st.data())
def test_no_exact_value_is_outside_whatever_the_operator(
    operator: str, data: st.DataObject
) -> None:
    case = data.draw(hard_cases(operator))
    names = ("crown", "zonotope", "symbolic_interval")
    found = [prove(case, n, dtype, Rounding("real")) for n in names for dtype in DTYPES]
    assert not any(outside(case, found))


@pytest.mark.soundness
@pytest.mark.parametrize("domain", NAMES)
@settings(max_examples=8)
@given(case=hard_cases())
def test_no_float32_execution_is_outside(domain: str, case: Hard) -> None:
    found = [prove(case, domain, dtype, Rounding("float32")) for dtype in DTYPES]
    assert runs_outside(case, found) == [[], []]
    # A run without any rounding is one of them.
    assert outside(case, found) == [[], []]


def test_bounds_over_the_reals_do_not_hold_for_executions() -> None:
    # 2^24 x + x - 2^24 x: the test above would be idle if its runs did not round.
    case = absorbing(1.0)
    found = prove(case, "crown", torch.float64, Rounding("real"))
    assert any(runs_outside(case, [found]))


@pytest.mark.soundness
@pytest.mark.parametrize("semantics", ["real", "float32"])
@settings(max_examples=3)
@given(seed=st.integers(0, 10_000))
def test_no_exact_value_of_a_residual_network_is_outside(semantics: str, seed: int) -> None:
    graph = residual_network(seed).to("cpu", torch.float32).to("cpu", torch.float64)
    box = boxes(1, 0.2, seed, graph.input.shape).to("cpu", torch.float32).to("cpu", torch.float64)
    rows = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    oracle = Oracle(graph)
    points = list(oracle.corners(box, 0, np.random.default_rng(seed)))[:4]
    values = [oracle.trace(exact(x)) for x in points]
    for name in ("crown", "zonotope", "symbolic_interval"):
        for dtype in DTYPES:
            found = propagate(
                graph.to("cpu", dtype),
                DOMAINS[name],
                box.to("cpu", dtype),
                rows.to(dtype).unsqueeze(0),
                rounding=Rounding(semantics),
            )
            assert not [e for v in values for e in escapes(graph, found, 0, v, rows)]


def small(weights: Sequence[object], biases: Sequence[object], box: tuple[list, list]) -> Hard:
    """A ReLU network written down, with a second output that is the first one's negation."""
    first = torch.tensor(weights[0], dtype=torch.float64)
    builder = NetworkBuilder((1, first.shape[1]), torch.Generator())
    source = "x"
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        w, b = torch.tensor(weight).double(), torch.tensor(bias).double()
        if i == len(weights) - 1:
            w, b = torch.cat([w, -w]), torch.cat([b, -b])
        source = builder.affine({source: Dense(w, builder.shape(source))}, b)
        if i < len(weights) - 1:
            source = builder.operator(instance("relu"), source)
    lower, upper = (torch.tensor(side).double().view(1, 1, -1) for side in box)
    return Hard(builder.graph(), Box(lower, upper), 0)


def absorbing(copies: float) -> Hard:
    """`2^24 h + copies h - 2^24 h` with h = relu(x), x in [1, 2]."""
    return small([[[1.0]] * 3, [[2.0**24, copies, -(2.0**24)]]], [[0.0] * 3, [0.0]], ([1.0], [2.0]))


@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("domain", NAMES)
def test_the_upper_bound_of_7_relu_of_2_minus_x_is_not_below_its_value(
    domain: str, dtype: torch.dtype
) -> None:
    case = small([[[-1.0]], [[7.0]]], [[2.0], [0.0]], ([1.0], [6.0]))
    found = prove(case, domain, dtype, Rounding("real"))
    assert -float(found.rows[0, 1]) >= 7.0


@pytest.mark.soundness
@pytest.mark.regression
@settings(max_examples=60)
@given(w=st.integers(1, 20), b=st.integers(-9, 9), low=st.integers(-9, 9), width=st.integers(0, 12))
def test_w_relu_of_b_minus_x_is_inside(w: int, b: int, low: int, width: int) -> None:
    case = small(
        [[[-1.0]], [[float(w)]]], [[float(b)], [0.0]], ([float(low)], [float(low + width)])
    )
    found = [prove(case, "crown", dtype, Rounding("real")) for dtype in DTYPES]
    assert outside(case, found) == [[], []]


@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("domain", NAMES)
@pytest.mark.parametrize("copies", [1.0, 6.0])
def test_what_a_large_sum_absorbs_is_not_lost(
    copies: float, domain: str, dtype: torch.dtype
) -> None:
    case = absorbing(copies)
    for semantics in ("real", "float32"):
        found = prove(case, domain, dtype, Rounding(semantics))
        # At x = 2 it is twice the copies; a float32 run rounds to even, and may give 4 for 2.
        assert -float(found.rows[0, 1]) >= 2 * copies
        assert runs_outside(case, [found]) == [[]] or semantics == "real"


@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("domain", NAMES)
def test_what_is_absorbed_behind_a_corner_that_no_attack_finds_is_not_lost(
    domain: str, dtype: torch.dtype
) -> None:
    # s = relu(sum of 30 inputs - 29), then 2^24 s + 6 s - 2^24 s: 6 at the one corner (1, ..., 1).
    weights = [[[1.0] * 30], [[1.0]] * 8, [[2.0**24] + [1.0] * 6 + [-(2.0**24)]]]
    case = small(weights, [[-29.0], [0.0] * 8, [0.0]], ([0.0] * 30, [1.0] * 30))
    found = prove(case, domain, dtype, Rounding("real"))
    assert -float(found.rows[0, 1]) >= 6.0


@pytest.mark.precision
@pytest.mark.parametrize("domain", NAMES)
@settings(max_examples=5)
@given(seed=st.integers(0, 10_000))
def test_proved_bounds_in_float64_are_as_tight_as_plain_ones_but_for_rounding(
    domain: str, seed: int
) -> None:
    graph = relu_network((4, 8, 8, 2), seed)
    box = boxes(2, 0.3, seed, graph.input.shape)
    plain = propagate(graph, DOMAINS[domain], box, ROWS.unsqueeze(0))
    proved = propagate(graph, DOMAINS[domain], box, ROWS.unsqueeze(0), rounding=Rounding("real"))
    # 1e-10: some 10^5 roundings of numbers around 1 in float64.
    assert (plain.rows - proved.rows).abs().max() <= 1e-10


@pytest.mark.soundness
@settings(max_examples=8)
@given(case=hard_cases())
def test_bounds_and_inequalities_that_are_given_leave_bounds_proved(case: Hard) -> None:
    graph = case.graph
    first = next(node for node in graph.nodes if isinstance(node, Nonlinear))
    before = graph.by_name[first.inputs[0]]
    interval = prove(case, "interval", torch.float64, Rounding("real"))
    # No sum of a layer's neurons is above that of their upper bounds, rounded up.
    for dtype in DTYPES:
        constants = []
        for upper in interval.hidden[before.name].upper:
            most = Fraction(sum(exact(upper).fractions()))
            float_above = torch.tensor([float(most)], dtype=dtype).nextafter(
                torch.tensor(torch.inf)
            )
            constants.append(-float_above)
        constant = torch.stack(constants).expand(-1, len(ROWS))
        like = torch.ones(2, len(ROWS), *before.shape, dtype=dtype)
        given_ = Given(multiples=[Multiple(before.name, like, constant)])
        found = prove(case, "crown", dtype, Rounding("real"), given=given_)
        assert outside(case, [found]) == [[]]


@pytest.mark.soundness
def test_a_run_that_may_overflow_has_no_bound() -> None:
    case = small([[[3e38, 3e38]], [[1e-38]]], [[0.0], [0.0]], ([0.5, 0.5], [1.0, 1.0]))
    found = prove(case, "crown", torch.float64, Rounding("float32"))
    assert (found.rows == -torch.inf).all()
    assert torch.isfinite(prove(case, "crown", torch.float64, Rounding("real")).rows).all()


@pytest.mark.soundness
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operator", ["exp", "log", "reciprocal", "sqrt", "tan", "sigmoid", "sin"])
def test_no_operator_makes_a_bound_of_nothing(operator: str, dtype: torch.dtype) -> None:
    for seed in range(4):
        graph = operator_network(instance(operator), seed)
        box = boxes(3, 2.0, seed, graph.input.shape)
        plain = propagate(graph, DOMAINS["crown"], box, ROWS.unsqueeze(0))
        proved = propagate(
            graph.to("cpu", dtype),
            DOMAINS["crown"],
            box.to("cpu", dtype),
            ROWS.to(dtype).unsqueeze(0),
            rounding=Rounding("real"),
        )
        assert not proved.rows.isnan().any()
        # Only float32 may lose what float64 bounds: its numbers end sooner.
        lost = plain.rows.isfinite() & ~proved.rows.isfinite() & (plain.rows.abs() < 1e30)
        assert not lost.any()


def test_an_operation_that_runtimes_compute_by_other_steps_has_no_execution() -> None:
    graph = relu_network((2, 2, 2), 0)
    nodes = tuple(_renamed(graph))
    softmax = Graph(nodes, graph.inputs, graph.outputs)
    box = boxes(1, 0.1, 0, graph.input.shape)
    with pytest.raises(NoExecutionModelError, match=r"Softmax 'x'.*float32"):
        propagate(softmax, DOMAINS["crown"], box, ROWS.unsqueeze(0), rounding=Rounding("float32"))


def _renamed(graph: Graph) -> Iterator[object]:
    for node in graph.nodes:
        yield replace(node, origin="Softmax 'x'") if isinstance(node, Nonlinear) else node


def test_gradients_are_not_recorded() -> None:
    graph = relu_network((2, 3, 2), 1)
    weight = next(m for n in graph.nodes if isinstance(n, Affine) for m in n.maps)
    assert isinstance(weight, Dense)
    weight.weight.requires_grad_()
    box = boxes(1, 0.1, 0, graph.input.shape)
    rows: Tensor = ROWS.unsqueeze(0)
    found = propagate(graph, DOMAINS["crown"], box, rows, rounding=Rounding("real"))
    assert not found.rows.requires_grad


@pytest.mark.precision
@pytest.mark.parametrize("domain", NAMES)
def test_coarser_formats_have_looser_bounds(domain: str) -> None:
    graph = relu_network((4, 8, 8, 2), 3)
    box = boxes(2, 0.1, 3, graph.input.shape)
    bounds = [
        propagate(graph, DOMAINS[domain], box, ROWS.unsqueeze(0), rounding=Rounding(s)).rows
        for s in ("real", "float32", "tf32", "bf16")
    ]
    for tight, loose in zip(bounds, bounds[1:], strict=False):
        assert (loose < tight).all()
        assert loose.isfinite().all()


@pytest.mark.precision
@pytest.mark.regression
def test_neurons_that_nobody_asks_for_take_no_bounds_from_others() -> None:
    # relu(x + b) of copies of one layer: stable copies are not asked for, and their bounds are
    # infinite until the interval's take their place.
    builder = NetworkBuilder((1, 2), torch.Generator().manual_seed(0))
    hidden = builder.dense("x", 2)
    shift = torch.tensor([[0.0, 100.0], [0.1, 100.0]]).double()
    copied = builder.affine({hidden: Broadcast((1, 2), (2, 2))}, shift)
    last = builder.operator(instance("relu"), copied)
    flat = builder.affine({last: Reshape((2, 2), (1, 4))}, None)
    builder.dense(flat, 2)
    box = Box(torch.full((1, 1, 2), -1.0).double(), torch.full((1, 1, 2), 1.0).double())
    found = propagate(
        builder.graph(), DOMAINS["crown"], box, ROWS.unsqueeze(0), rounding=Rounding("float32")
    )
    assert found.rows.isfinite().all()
