"""Claims about single kinds of input sets, at their edges."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings

from absolver.analyzer.regions.ball import Ball
from absolver.analyzer.regions.ball_in_box import BallInBox
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.errors import EmptyBoxError, EmptyRegionError
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.simplex import Simplex
from tests.analyzer.regions.cases import (
    BATCH,
    ROWS,
    SIZE,
    TOLERANCE,
    generator,
    linear_program,
    normal,
    seeds,
    uniform,
)


@settings(max_examples=25)
@given(seed=seeds)
@pytest.mark.soundness
def test_any_multipliers_are_sound(seed: int) -> None:
    g = generator(seed)
    lower = normal(g, BATCH, SIZE)
    box = Box(lower, lower + uniform(g, BATCH, SIZE))
    matrix, rows = normal(g, BATCH, 3, SIZE), normal(g, BATCH, ROWS, SIZE)
    inside = lower + uniform(g, BATCH, SIZE) * (box.upper - lower)
    polytope = Polytope(box, matrix, (matrix @ inside.unsqueeze(2)).squeeze(2))
    values = (rows @ inside.unsqueeze(2)).squeeze(2)
    arbitrary = polytope.minimum_with(rows, 3 * normal(g, BATCH, ROWS, 3))
    assert (arbitrary <= values + TOLERANCE).all()
    found = polytope.minimum(rows)
    assert (found <= values + TOLERANCE).all()
    assert (found >= box.minimum(rows) - TOLERANCE).all()
    for i, r in product(range(BATCH), range(ROWS)):
        exact = linear_program(rows[i, r], box, i, matrix[i], polytope.bound[i])
        assert found[i, r] <= exact + 1e-9


@pytest.mark.parametrize("size", [1e-30, 1e30])
@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.regression
def test_rows_of_extreme_size_keep_their_minimum(norm: int, size: float) -> None:
    ball = Ball(torch.full((1, 4), 0.5), torch.full((1,), 0.5), norm)
    box = Box(torch.zeros(1, 4), torch.ones(1, 4))
    row = torch.full((1, 1, 4), size)
    expected = 4 * size * 0.5 - 0.5 * size * (2 if norm == 2 else 1)
    for region in (ball, BallInBox(ball, box)):
        assert region.minimum(row).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.regression
def test_a_ball_of_radius_zero_is_its_centre() -> None:
    center = torch.tensor([[0.1, 0.7]])
    box = Box(torch.zeros(1, 2), torch.ones(1, 2))
    row = torch.tensor([[[3.0, -2.0]]])
    for norm in (1, 2):
        ball = Ball(center, torch.zeros(1), norm)
        for region in (ball, BallInBox(ball, box)):
            assert region.minimum(row).item() == pytest.approx(0.3 - 1.4, rel=1e-6)
            assert torch.equal(region.bounding_box()[0], center)
            assert torch.equal(region.project(torch.ones(1, 2)), center)


@pytest.mark.soundness
@settings(max_examples=30)
@given(seed=seeds)
def test_centre_and_radius_cover_the_box_exactly(seed: int) -> None:
    g = generator(seed)
    lower = normal(g, 1, 20).float() * 10 ** float(3 * normal(g, 1))
    box = Box(lower, torch.maximum(lower, lower + normal(g, 1, 20).float()))
    # Sums of two float32 numbers are exact in float64 unless their exponents differ by 29.
    center, radius = box.center.double(), box.radius.double()
    assert (center - radius <= box.lower).all()
    assert (center + radius >= box.upper).all()


def test_an_empty_box_is_an_error_with_its_coordinate() -> None:
    with pytest.raises(EmptyBoxError, match=r"box 0 is empty at coordinate 1: lower = 2.0 > "):
        Box(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 1.0]]))
    with pytest.raises(EmptyBoxError, match="no finite bounds"):
        Box(torch.tensor([[0.0]]), torch.tensor([[torch.inf]]))


def test_sets_without_points_are_errors() -> None:
    box = Box(torch.zeros(1, 2), torch.ones(1, 2))
    with pytest.raises(EmptyRegionError, match="outside of the data range"):
        BallInBox(Ball(torch.full((1, 2), 2.0), torch.ones(1), 2), box)
    with pytest.raises(EmptyRegionError, match="not negative"):
        Ball(torch.zeros(1, 2), -torch.ones(1), 2)
    with pytest.raises(EmptyRegionError, match="no point of the box"):
        Simplex(box, torch.tensor([3.0]), torch.tensor([3.0]))
