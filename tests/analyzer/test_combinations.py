"""Sums of a clause's constraints follow from it, and refute what none of them does alone."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from absolver.analyzer.combinations import with_combinations
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.executions import proved_over_executions
from absolver.analyzer.problem import Safety, pose
from absolver.analyzer.propagate.engine import propagate
from absolver.domains import load

Write = Callable[..., Path]
numbers = st.integers(-6, 6)


@pytest.fixture(scope="module")
def network(write_dense: Write, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("combinations") / "net.onnx"
    return write_dense(path, ([[2.0], [1.0]], [0.0, 10.0]))


def problem(network: Path, unsafe: str) -> Safety:
    query = network.with_name("query.vnnlib")
    query.write_text(
        "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
        f"(assert (>= X_0 0.0))(assert (<= X_0 1.0)){unsafe}"
    )
    found = pose(network, query, Execution())
    assert isinstance(found, Safety)
    return found


@pytest.mark.soundness
@given(
    rows=st.lists(
        st.tuples(numbers, numbers, numbers).filter(lambda row: any(row[:2])),
        min_size=2,
        max_size=3,
        unique=True,
    ),
    outputs=st.lists(st.tuples(numbers, numbers), min_size=5, max_size=20),
)
def test_outputs_that_meet_a_clause_meet_what_is_added(
    network: Path, rows: list[tuple[int, int, int]], outputs: list[tuple[int, int]]
) -> None:
    terms = "".join(f"(<= (+ (* {a} Y_0) (* {b} Y_1)) {c})" for a, b, c in rows)
    case = problem(network, f"(assert (and {terms}))")
    part = case.specify(torch.float64)
    graph = case.graph(Execution(), torch.float64)
    forms = propagate(graph, load("crown"), part.region, part.rows, forms=True).forms
    assert forms is not None
    more = with_combinations(part, forms)
    before, after = set(part.constraints[0]), set(more.constraints[0])
    assert before <= after
    for y in outputs:
        values = [Fraction(number) for number in y]
        if all(constraint.holds(values) for constraint in before):
            assert all(constraint.holds(values) for constraint in after)


@pytest.mark.precision
@pytest.mark.regression
def test_constraints_that_exclude_each_other_are_refuted_together(network: Path) -> None:
    case = problem(network, "(assert (>= Y_0 1.5))(assert (<= Y_1 10.5))")
    execution = Execution()
    assert proved_over_executions(case, load("crown"), execution, Deadline())
    met = problem(network, "(assert (>= Y_0 1.0))(assert (<= Y_1 10.5))")
    assert not proved_over_executions(met, load("crown"), execution, Deadline())
