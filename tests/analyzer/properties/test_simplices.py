"""What is refuted by the simplex of a softmax is met by no outputs; sums of constraints follow."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from absolver.analyzer.frontends.onnx_graph import graph_of_model
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.properties.property import Clause, InputBox, LinearConstraint, Property
from absolver.analyzer.properties.simplices import (
    IMPOSSIBLE,
    with_impossible,
    without_impossible,
)
from tests.analyzer.frontends.models import model

SHAPE = (2, 3)
AFTER = {
    "softmax": [],
    "moved": [helper.make_node("Transpose", ["s"], ["y"], perm=[1, 0])],
    "negated": [helper.make_node("Neg", ["s"], ["y"])],
    "added": [helper.make_node("Add", ["s", "x"], ["y"])],
}


def network(axis: int, after: str) -> Graph:
    rest = AFTER[after]
    nodes = [helper.make_node("Softmax", ["x"], ["s" if rest else "y"], axis=axis), *rest]
    return graph_of_model(model(nodes, {"x": SHAPE}, ["y"]))


def marked(graph: Graph, constraint: LinearConstraint) -> bool:
    box = InputBox((None,) * 6, (None,) * 6)
    prop = Property(6, 6, (box,), (Clause(0, (), (constraint,)),))
    found = with_impossible(prop, graph)
    assert without_impossible(found) == prop
    return IMPOSSIBLE in found.clauses[0].on_outputs


def constraint(coefficients: Sequence[int], bound: Fraction, strict: bool) -> LinearConstraint:
    terms = tuple((i, Fraction(c)) for i, c in enumerate(coefficients) if c)
    return LinearConstraint(terms, bound, strict)


@pytest.mark.soundness
@pytest.mark.precision
@given(
    coefficients=st.lists(st.integers(-2, 2), min_size=6, max_size=6),
    bound=st.integers(-8, 8).map(lambda n: Fraction(n, 2)),
    strict=st.booleans(),
    seed=st.integers(0, 100),
)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("after", AFTER)
def test_no_outputs_of_a_softmax_meet_what_is_marked(
    axis: int, after: str, coefficients: list[int], bound: Fraction, strict: bool, seed: int
) -> None:
    graph = network(axis, after).doubled
    asked = constraint(coefficients, bound, strict)
    random = torch.Generator().manual_seed(seed)
    size = torch.tensor([0.1, 1.0, 100.0]).repeat(20).view(-1, 1, 1)
    x = size * torch.randn(60, *SHAPE, generator=random)
    outputs = graph(x.double()).flatten(1).numpy()
    least = (outputs @ np.array(coefficients, float)).min()
    if marked(graph, asked):
        assert after in ("softmax", "moved")
        assert least >= float(bound) - 1e-9
    elif after == "softmax" and any(coefficients):
        table = np.array(coefficients).reshape(SHAPE)
        exact = Fraction(int(table.min(axis).sum()))
        assert exact < bound or (exact == bound and not strict)


def test_a_softmax_that_is_seen_in_part_is_not_taken_for_the_whole() -> None:
    graph = network(1, "softmax")
    half = Fraction(1, 2)
    assert marked(graph, constraint((-1, -1, -1, 0, 0, 0), Fraction(-3, 2), False))
    assert not marked(graph, constraint((1, 1, 0, 0, 0, 0), half, False))
    assert not marked(graph, constraint((1, 1, 1, -1, 0, 0), half, False))
