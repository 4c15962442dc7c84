"""Multipliers of half-spaces that cut boxes."""

import pytest
import torch

from absolver.analyzer.multipliers import optimal_multipliers
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope


def cut_by(half_space: list[float], bound: float, *, reach: float = 1.0) -> Polytope:
    """Return the square of that reach around 0, cut by a half-space."""
    end = torch.full((1, 2), reach, dtype=torch.float64)
    matrix = torch.tensor([[half_space]], dtype=torch.float64)
    return Polytope(Box(-end, end), matrix, torch.tensor([[bound]], dtype=torch.float64))


@pytest.mark.regression
@pytest.mark.parametrize("scale", [2.0**-100, 1.0, 2.0**100])
def test_half_spaces_of_every_scale_have_multipliers(scale: float) -> None:
    """Above 1e15 the solver refused them, and the run ended with a traceback."""
    polytope = cut_by([scale, scale], -scale)
    rows = torch.tensor([[[-1.0, -1.0]]], dtype=torch.float64)
    found = optimal_multipliers(polytope, rows)
    assert polytope.minimum_with(rows, found).item() == pytest.approx(1.0)


@pytest.mark.regression
def test_subnormal_half_spaces_may_have_multipliers_or_not() -> None:
    """Their unit overflowed, and the run ended with a traceback."""
    polytope = cut_by([1e-320, 1e-320], -1e-320)
    rows = torch.tensor([[[-1.0, -1.0]]], dtype=torch.float64)
    found = optimal_multipliers(polytope, rows)
    assert -2.0 - 1e-9 <= polytope.minimum_with(rows, found).item() <= 1.0


@pytest.mark.regression
def test_boxes_beyond_the_solvers_infinity_have_multipliers() -> None:
    polytope = cut_by([1.0, 1.0], -1.0, reach=1e25)
    rows = torch.tensor([[[-1.0, -1.0]]], dtype=torch.float64)
    found = optimal_multipliers(polytope, rows)
    assert polytope.minimum_with(rows, found).item() == pytest.approx(1.0)


@pytest.mark.regression
@pytest.mark.parametrize("size", [1e60, 3e38])
def test_a_half_space_that_overflows_in_a_dtype_says_nothing_there(size: float) -> None:
    """Infinite coefficients made bounds that are no numbers."""
    rows = torch.tensor([[[1.0, 1.0]]])
    for polytope in (cut_by([size, size], -size), cut_by([1.0, 1.0], size)):
        single = polytope.to("cpu", torch.float32)
        assert single.minimum(rows).item() == pytest.approx(-2.0)
        torch.testing.assert_close(single.bounding_box()[0], torch.full((1, 2), -1.0))
