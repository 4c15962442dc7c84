"""Hidden bounds by linear programs (LP-Full) hold, and no slopes that ascent finds are better."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.certify.rehearsal import Rows, rehearse
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.engines.engine import Control
from absolver.analyzer.engines.hidden import linear_bounds
from absolver.analyzer.engines.known import KnownSet
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.programs.duals import evaluate
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.search.ascent import Dual, Problem, ascend
from absolver.analyzer.search.ascent import Rows as DualRows
from absolver.analyzer.search.proof import Root
from absolver.analyzer.search.strategy import Task
from absolver.dsl.operators import OPERATORS
from tests.analyzer.search.problems import LINES, MEMORY_BYTES, SEARCHED, box, specify
from tests.networks import operator_network, relu_network


def known(graph: Graph, seed: int) -> KnownSet:
    """A set of a network, with the bounds that one pass of CROWN finds."""
    region = box(1, graph, seed, 0.8)
    outputs = int(np.prod(graph.output.shape))
    whole = specify(region, [[([1.0] + [0.0] * (outputs - 1), 0.0)]])
    found = rehearse(graph, LINES, region, whole.rows, memory_bytes=MEMORY_BYTES, rows=Rows.ALL)
    root = Root(LINES, found.boxes, found.masks, found.rows)
    # Nothing is asked of the problem behind the task.
    nobody = cast(Any, None)
    task = Task(nobody, whole, LINES, None, nobody, Execution(), float32=False)
    return KnownSet(task, 0, graph, whole, root)


def never() -> Control:
    """A control without a clock."""
    return Control(Deadline())


@pytest.mark.soundness
@settings(max_examples=12)
@given(
    kind=st.sampled_from(("relu", "leaky_relu", "abs", "max", "sigmoid")), seed=st.integers(0, 9999)
)
def test_bounds_by_linear_programs_hold_and_are_no_wider(kind: str, seed: int) -> None:
    one = known(operator_network(OPERATORS[kind](), seed).joined, seed)
    tight = linear_bounds(one, never())
    x = one.region.sample(300, torch.Generator().manual_seed(seed))[0]
    values = one.graph.trace(x)
    for name, bounds in tight.boxes.items():
        assert bool((values[name] >= bounds.lower - 1e-9).all())
        assert bool((values[name] <= bounds.upper + 1e-9).all())
        wide = one.boxes[name]
        assert bool((bounds.lower >= wide.lower - 1e-9).all())
        assert bool((bounds.upper <= wide.upper + 1e-9).all())


@pytest.mark.precision
@pytest.mark.parametrize("seed", range(10))
def test_lp_full_is_the_optimum_of_slopes_that_are_not_shared(seed: int) -> None:
    """At fixed hidden bounds, to 1e-3 (Salman et al. 2019)."""
    graph = relu_network((3, 8, 6, 2), seed).joined
    one = linear_bounds(known(graph, seed), never())
    (goal,) = one.goals()
    relaxation = Relaxation(one.encoding, SEARCHED)
    relaxation.pose(goal.forms)
    solved = relaxation.solve(60.0)
    assert solved is not None
    proved = evaluate(goal.ground, {}, relaxation.duals(solved).rounded()).value
    rows = DualRows(
        torch.from_numpy(goal.forms.coefficients).view(1, 1, 1, -1),
        torch.from_numpy(goal.forms.bound).view(1, 1, 1),
        torch.ones(1, 1, 1, dtype=torch.bool),
    )
    dual = Dual(graph, SEARCHED, Problem(one.region, one.boxes, rows))
    _, bound, _ = ascend(dual, dual.start(), steps=400)
    assert float(bound) <= solved.value + 1e-6
    assert proved == pytest.approx(solved.value, abs=1e-5)
    assert float(bound) >= solved.value - 1e-3 * (1 + abs(solved.value))
