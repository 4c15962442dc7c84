"""The fact store's keys, and the iteration of reducers."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver import domains
from absolver.analyzer.fixpoint.iteration import reduce_to_fixpoint
from absolver.analyzer.fixpoint.reducers import DomainReducer, InverseReducer, Problem
from absolver.analyzer.fixpoint.store import (
    Assumptions,
    FactStore,
    HalfSpaces,
    InputSet,
    Split,
)
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.regions.box import Box
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Interval
from tests.networks import DTYPE, NetworkBuilder, relu_network

FORWARD = DomainReducer(domains.load("interval"))
BACKWARD = DomainReducer(domains.load("crown"))
INVERSE = InverseReducer()


def problem_of(graph: Graph, box: Box, rows: torch.Tensor, bound: torch.Tensor) -> Problem:
    unsafe = HalfSpaces(rows, bound)
    assumptions = Assumptions(graph, "real", InputSet("the box"), outputs=frozenset({unsafe}))
    return Problem(graph, box, unsafe, assumptions)


def point(value: float) -> Interval:
    return Interval(torch.full((1, 1), value), torch.full((1, 1), value))


GRAPH = relu_network((2, 3, 2), 0)
SPLIT = Split("relu2", 0, 0.0, above=True)
WHOLE = InputSet("whole")
HALF = InputSet("half", within=WHOLE)
OUTPUT = HalfSpaces(torch.ones(1, 1, 2), torch.zeros(1, 1))


@pytest.mark.parametrize(
    ("fact", "current", "usable"),
    [
        (Assumptions(GRAPH, "real", WHOLE), Assumptions(GRAPH, "real", WHOLE), True),
        (Assumptions(GRAPH, "real", WHOLE), Assumptions(GRAPH, "real", HALF), True),
        (Assumptions(GRAPH, "real", HALF), Assumptions(GRAPH, "real", WHOLE), False),
        (Assumptions(GRAPH, "real", InputSet("half")), Assumptions(GRAPH, "real", HALF), False),
        (Assumptions(GRAPH, "real", WHOLE), Assumptions(GRAPH, "float32", WHOLE), False),
        (
            Assumptions(GRAPH, "real", WHOLE),
            Assumptions(relu_network((2, 3, 2), 0), "real", WHOLE),
            False,
        ),
        (
            Assumptions(GRAPH, "real", WHOLE, splits=frozenset({SPLIT})),
            Assumptions(GRAPH, "real", WHOLE),
            False,
        ),
        (
            Assumptions(GRAPH, "real", WHOLE),
            Assumptions(GRAPH, "real", WHOLE, splits=frozenset({SPLIT})),
            True,
        ),
        (
            Assumptions(GRAPH, "real", WHOLE, splits=frozenset({SPLIT})),
            Assumptions(
                GRAPH, "real", WHOLE, splits=frozenset({Split("relu2", 0, 0.0, above=False)})
            ),
            False,
        ),
        (
            Assumptions(GRAPH, "real", WHOLE, outputs=frozenset({OUTPUT})),
            Assumptions(GRAPH, "real", WHOLE),
            False,
        ),
    ],
)
def test_a_fact_is_used_only_where_its_assumptions_hold(
    fact: Assumptions, current: Assumptions, usable: bool
) -> None:
    store = FactStore()
    store.add(fact, "relu2", point(1.0))
    assert ("relu2" in store.known(current)) == usable


def test_a_fact_never_loosens() -> None:
    store, key = FactStore(), Assumptions(GRAPH, "real", WHOLE)
    store.add(key, "n", Interval(torch.tensor([[0.0]]), torch.tensor([[1.0]])))
    gain = store.add(key, "n", Interval(torch.tensor([[-5.0]]), torch.tensor([[0.5]])))
    assert store.known(key)["n"] == Interval(torch.tensor([[0.0]]), torch.tensor([[0.5]]))
    assert gain == 0.5


def random_problem(seed: int) -> Problem:
    graph = relu_network((3, 6, 6, 2), seed)
    generator = torch.Generator().manual_seed(seed)
    center = torch.randn(4, 1, 3, generator=generator, dtype=DTYPE)
    box = Box(center - 0.4, center + 0.4)
    rows = torch.randn(4, 2, 2, generator=generator, dtype=DTYPE)
    reached = (rows @ graph(center).flatten(1).unsqueeze(2)).squeeze(2)
    bound = reached + 0.5 * torch.randn(4, 2, generator=generator, dtype=DTYPE)
    return problem_of(graph, box, rows, bound)


@pytest.mark.soundness
@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    order=st.sampled_from(list(itertools.permutations([FORWARD, BACKWARD, INVERSE]))),
)
def test_no_order_of_reducers_loses_an_unsafe_run(seed: int, order) -> None:
    problem = random_problem(seed)
    store = FactStore()
    found = reduce_to_fixpoint(problem, order, store, most_rounds=4)
    known = store.known(problem.assumptions)
    generator = torch.Generator().manual_seed(seed)
    points = problem.region.sample(3000, generator)
    for element in range(4):
        trace = problem.graph.trace(points[element])
        outputs = trace[problem.graph.output.name].flatten(1)
        values = outputs @ problem.unsafe.rows[element].T
        unsafe = (values <= problem.unsafe.bound[element]).all(1)
        assert not (found.refuted[element] and unsafe.any())
        for name, bounds in known.items():
            inside = trace[name][unsafe]
            assert (inside >= bounds.lower[element] - 1e-9).all()
            assert (inside <= bounds.upper[element] + 1e-9).all()


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_bounds_only_shrink_from_round_to_round(seed: int) -> None:
    problem, store = random_problem(seed), FactStore()
    before: dict[str, Interval] = {}
    for _ in range(4):
        reduce_to_fixpoint(problem, [FORWARD, INVERSE, BACKWARD], store, most_rounds=1)
        now = store.known(problem.assumptions)
        for name, old in before.items():
            assert (now[name].lower >= old.lower).all() and (now[name].upper <= old.upper).all()
        before = now


def test_iterating_decides_what_one_pass_does_not() -> None:
    """y0 = relu(a) + relu(b) <= 0.5 shrinks the inputs, over which y1 is seen to be out of reach.

    With a = x0 + x1 and b = x0 - x1 in [-2, 2] no single pass connects the two outputs; after
    y0 <= 0.5 has come back through the relus, |x1| + x0 <= 0.5 bounds x0, and then y1 = x0 - 2.
    """
    builder = NetworkBuilder((1, 2), torch.Generator())
    matrix = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=DTYPE)
    hidden = builder.affine({"x": Dense(matrix, (1, 2))}, None)
    relu = builder.operator(OPERATORS["relu"](), hidden)
    first = Dense(torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=DTYPE), (1, 2))
    second = Dense(torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=DTYPE), (1, 2))
    builder.affine({relu: first, "x": second}, None)
    graph = builder.graph()
    box = Box(torch.full((1, 1, 2), -1.0, dtype=DTYPE), torch.ones(1, 1, 2, dtype=DTYPE))
    rows = torch.tensor([[[1.0, 0.0], [0.0, -1.0]]], dtype=DTYPE)
    bound = torch.tensor([[0.5, -0.75]], dtype=DTYPE)  # y0 <= 0.5 and y1 >= 0.75
    problem = problem_of(graph, box, rows, bound)

    for reducer in (FORWARD, BACKWARD):
        once = reduce_to_fixpoint(problem, [reducer], FactStore(), most_rounds=1)
        assert not once.refuted.any()
    iterated = reduce_to_fixpoint(problem, [FORWARD, INVERSE, BACKWARD], FactStore())
    assert iterated.refuted.all() and iterated.reason == "decided"


def test_the_iteration_ends_though_nothing_is_decided() -> None:
    problem = random_problem(1)
    unreachable = problem_of(
        problem.graph, problem.region, problem.unsafe.rows, problem.unsafe.bound + 1e6
    )
    found = reduce_to_fixpoint(unreachable, [FORWARD, INVERSE, BACKWARD], FactStore())
    assert not found.refuted.any()
    assert found.reason == "no reducer gains any more"
