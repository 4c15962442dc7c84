"""Claims about all input sets: minima against oracles, boxes, points, and rounding."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from hypothesis import given, settings

from tests.analyzer.regions.cases import (
    BATCH,
    CASES,
    ROWS,
    SIZE,
    TOLERANCE,
    Case,
    generator,
    normal,
    seeds,
    some_rows,
)

every_region = pytest.mark.parametrize("build", CASES.values(), ids=CASES)


@every_region
@pytest.mark.soundness
@pytest.mark.precision
@settings(max_examples=20)
@given(seed=seeds)
def test_minimum_is_the_minimum(build: Callable[[torch.Generator], Case], seed: int) -> None:
    g = generator(seed)
    case = build(g)
    rows = some_rows(case, g)
    found = case.region.minimum(rows)
    for i, r in product(range(BATCH), range(ROWS - 1)):
        # 1e-6: what the primal oracle for the 2-norm leaves; the others are exact to 1e-9.
        expected = case.oracle(i, rows[i, r].flatten())
        assert found[i, r].item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert (found[:, 3].abs() <= TOLERANCE).all()


@every_region
@pytest.mark.soundness
@settings(max_examples=15)
@given(seed=seeds)
def test_samples_and_projections_lie_inside_and_above_the_minimum(
    build: Callable[[torch.Generator], Case], seed: int
) -> None:
    g = generator(seed)
    case = build(g)
    region = case.region
    points = region.sample(6, generator(seed + 1))
    assert points.shape == (BATCH, 6, *region.shape)
    outside = region.project(3 * normal(g, BATCH, *region.shape))
    rows = some_rows(case, g)
    least = region.minimum(rows)
    lower, upper = region.bounding_box()
    for i in range(BATCH):
        for x in (*points[i], outside[i]):
            assert case.contains(i, x.flatten())
            assert (rows[i].flatten(1) @ x.flatten() >= least[i] - 1e-5).all()
            assert ((lower[i] - 1e-9 <= x) & (x <= upper[i] + 1e-9)).all()


@every_region
@pytest.mark.precision
@settings(max_examples=10)
@given(seed=seeds)
def test_bounding_box_is_the_smallest(build: Callable[[torch.Generator], Case], seed: int) -> None:
    case = build(generator(seed))
    rows = torch.eye(SIZE, dtype=torch.float64).expand(BATCH, SIZE, SIZE)
    rows = rows.reshape(BATCH, SIZE, *case.region.shape)
    lower, upper = case.region.bounding_box()
    smallest = case.region.minimum(rows), -case.region.minimum(-rows)
    for found, expected in zip((lower, upper), smallest, strict=True):
        assert torch.allclose(found.flatten(1), expected, rtol=1e-9, atol=1e-9)
    assert (lower.flatten(1) <= smallest[0] + TOLERANCE).all()
    assert (upper.flatten(1) >= smallest[1] - TOLERANCE).all()


@every_region
@settings(max_examples=10)
@given(seed=seeds)
def test_minimum_around_a_centre_is_the_minimum_moved(
    build: Callable[[torch.Generator], Case], seed: int
) -> None:
    g = generator(seed)
    case = build(g)
    rows = some_rows(case, g)
    lower, upper = case.region.bounding_box()
    center = (lower + upper) / 2
    moved = case.region.minimum_around(rows, center)
    expected = case.region.minimum(rows) - (rows * center.unsqueeze(1)).flatten(2).sum(2)
    assert torch.allclose(moved, expected, rtol=1e-9, atol=1e-9)


@every_region
@settings(max_examples=10)
@given(seed=seeds)
def test_an_element_alone_gets_what_it_gets_in_a_batch(
    build: Callable[[torch.Generator], Case], seed: int
) -> None:
    g = generator(seed)
    case = build(g)
    rows = some_rows(case, g)
    together = case.region.minimum(rows)
    for i in range(BATCH):
        index = torch.tensor([i])
        alone = case.region.select(index).minimum(rows[index])
        assert torch.allclose(alone[0], together[i], rtol=1e-12, atol=TOLERANCE)


@every_region
@pytest.mark.soundness
@settings(max_examples=15)
@given(seed=seeds)
def test_conversion_to_float32_only_enlarges(
    build: Callable[[torch.Generator], Case], seed: int
) -> None:
    g = generator(seed)
    case = build(g)
    rows = some_rows(case, g)
    narrow = case.region.to("cpu", torch.float32)
    assert narrow.dtype == torch.float32
    # Bounds of the converted set, computed in float64 so that only the conversion is tested.
    enlarged = narrow.to("cpu", torch.float64).minimum(rows)
    exact = case.region.minimum(rows)
    assert (enlarged <= exact + TOLERANCE).all()
    assert torch.allclose(enlarged, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if name != "polytope"])
@settings(max_examples=5)
@given(seed=seeds)
def test_gradient_of_the_minimum_is_a_minimising_point(name: str, seed: int) -> None:
    g = generator(seed)
    case = CASES[name](g)
    rows = normal(g, BATCH, ROWS, *case.region.shape).requires_grad_()
    least = case.region.minimum(rows)
    (points,) = torch.autograd.grad(least.sum(), rows)
    # The minimum is homogeneous in the row, so by Euler's theorem it is gradient · row.
    assert torch.allclose((rows * points).flatten(2).sum(2), least, rtol=1e-6, atol=1e-6)
