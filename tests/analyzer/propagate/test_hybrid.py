"""Zonotopes with a box beside their symbols: no fresh symbols, bounds that hold."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver import domains
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.propagate.execution import Rounding
from tests.analyzer.propagate.exact import EXACT_OPERATORS, hard_cases
from tests.analyzer.propagate.test_rigorous import ROWS, outside, runs_outside
from tests.analyzer.propagate.test_soundness import boxes
from tests.dsl.rules import checked
from tests.networks import DTYPE, relu_network

HYBRID, ZONOTOPE = domains.load("hybrid_zonotope"), domains.load("zonotope")


@pytest.mark.soundness
@pytest.mark.parametrize("operator", EXACT_OPERATORS)
@settings(max_examples=4)
@given(data=st.data())
def test_no_exact_value_is_outside_of_symbols_and_boxes(operator: str, data: st.DataObject) -> None:
    case = data.draw(hard_cases(operator))
    for dtype in (torch.float32, torch.float64):
        graph, box = case.graph.to("cpu", dtype), case.box.to("cpu", dtype)
        rows = ROWS.to(dtype).unsqueeze(0)
        found = propagate(graph, HYBRID, box, rows, rounding=Rounding())
        assert not any(outside(case, [found]))


@pytest.mark.soundness
@settings(max_examples=8)
@given(case=hard_cases())
def test_no_float32_execution_is_outside_of_symbols_and_boxes(case: object) -> None:
    found = propagate(
        *(case.graph, HYBRID, case.box, ROWS.unsqueeze(0)),  # type: ignore[attr-defined]
        rounding=Rounding("float32"),
    )
    assert not any(runs_outside(case, [found]))  # type: ignore[arg-type]


@pytest.mark.precision
def test_errors_of_one_layer_are_as_wide_in_a_box_and_lose_what_outputs_share() -> None:
    """An output sees the sizes of all errors; a difference of outputs sees them twice."""
    graph = relu_network((3, 12, 2), 5)
    box = boxes(3, 1.0, 5, graph.input.shape)
    rows = torch.tensor([[[1.0, 0.0], [0.0, -1.0], [1.0, -1.0]]], dtype=DTYPE)
    hybrid, zonotope = (propagate(graph, d, box, rows).rows for d in (HYBRID, ZONOTOPE))
    assert torch.allclose(hybrid[:, :2], zonotope[:, :2])
    assert (hybrid[:, 2] <= zonotope[:, 2] + 1e-9).all()
    assert (hybrid[:, 2] < zonotope[:, 2] - 1e-3).any()


def test_the_box_is_inherited_and_taken_back_by_another_carrier() -> None:
    assert checked("x = affine over symbols + box").element == "over symbols + box"
    assert domains.load("hybrid_zonotope").box and not ZONOTOPE.box
