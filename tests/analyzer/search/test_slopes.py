"""What a search hands to certificates as slopes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from absolver.analyzer.graph.graph import Nonlinear
from absolver.analyzer.search.ascent import Dual
from absolver.analyzer.search.relaxed import inexact_columns
from absolver.analyzer.search.slopes import slopes_at
from tests.analyzer.search.problems import SEARCHED, box, dual_problem
from tests.networks import relu_network


@pytest.mark.regression
@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_where_an_operator_is_exact_its_slope_is_named_as_well(seed: int) -> None:
    """The checker's box may be wider by a rounding, and then slope 0 would cost the whole value."""
    graph = relu_network((2, 6, 6, 2), seed).joined
    region = box(1, graph, seed, 0.05)
    problem = dual_problem(graph, region, [((1.0, 0.0), 0.0)])
    columns = inexact_columns(graph, problem.boxes)
    dual = Dual(graph, SEARCHED, problem, columns)
    found = slopes_at(dual, dual.start())
    for node in graph.nodes:
        if isinstance(node, Nonlinear):
            bounds = problem.boxes[node.inputs[0]]
            (slope,) = found[node.name][0]
            if not isinstance(slope, Tensor):
                assert slope == "adaptive"
                continue
            active = (bounds.lower >= 0).flatten()
            assert bool((slope[0, 0][active] == 1).all())
            assert bool((slope[0, 0][(bounds.upper <= 0).flatten()] == 0).all())
            assert not torch.isnan(slope).any()
