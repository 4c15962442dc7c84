"""Claims about all input sets: minima against oracles, boxes, points, and rounding."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import Tensor

from absolver.analyzer.regions.ball import Ball
from absolver.analyzer.regions.ball_in_box import BallInBox
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.errors import EmptyBoxError, EmptyRegionError
from absolver.analyzer.regions.image import AffineImage, zonotope
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.simplex import Simplex
from absolver.analyzer.regions.sparse import FewPixels, few_words

BATCH, ROWS, SIZE = 2, 4, 6
# Sums of six terms of size about one: a thousand units of rounding.
TOLERANCE = 1e-12
seeds = st.integers(0, 2**32 - 1)
Contains = Callable[[int, Tensor], bool]
Oracle = Callable[[int, Tensor], float]


@dataclass(frozen=True)
class Case:
    """A region, a test of membership up to `TOLERANCE`, and the true minimum of a form."""

    region: Region
    contains: Contains
    oracle: Oracle


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g, dtype=torch.float64)


def uniform(g: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=g, dtype=torch.float64)


def in_box(box: Box, i: int, x: Tensor) -> bool:
    low, high = box.lower[i].flatten(), box.upper[i].flatten()
    return bool(((low - TOLERANCE <= x) & (x <= high + TOLERANCE)).all())


def linear_program(
    row: Tensor, box: Box, i: int, matrix: Tensor | None = None, bound: Tensor | None = None
) -> float:
    limits = pairs(box.lower[i].flatten(), box.upper[i].flatten())
    result = linprog(row.numpy(), A_ub=array(matrix), b_ub=array(bound), bounds=limits)
    assert result.status == 0
    return float(result.fun)


def feasible(matrix: Tensor, bound: Tensor, limits: list[tuple[float, float]]) -> bool:
    # The solver allows itself 1e-7, so callers widen the bounds by 1e-6.
    zero = np.zeros(len(limits))
    return bool(linprog(zero, A_ub=array(matrix), b_ub=array(bound), bounds=limits).status == 0)


def array(x: Tensor | None) -> np.ndarray | None:
    return None if x is None else x.numpy()


def pairs(lower: Tensor, upper: Tensor) -> list[tuple[float, float]]:
    return list(zip(lower.tolist(), upper.tolist(), strict=True))


def a_box(g: torch.Generator) -> Case:
    lower = normal(g, BATCH, SIZE)
    # Some coordinates have no width.
    upper = lower + uniform(g, BATCH, SIZE) * (uniform(g, BATCH, SIZE) < 0.8)
    box = Box(lower, upper)

    def oracle(i: int, row: Tensor) -> float:
        corners = product(*zip(lower[i].tolist(), upper[i].tolist(), strict=True))
        return min(sum(a * x for a, x in zip(row.tolist(), c, strict=True)) for c in corners)

    return Case(box, lambda i, x: in_box(box, i, x), oracle)


def a_ball(norm: int) -> Callable[[torch.Generator], Case]:
    def build(g: torch.Generator) -> Case:
        center, radius = normal(g, BATCH, SIZE), uniform(g, BATCH)
        region = Ball(center, radius, norm)

        def oracle(i: int, row: Tensor) -> float:
            if norm == 1:
                corners = [center[i] + s * radius[i] * e for s in (-1, 1) for e in torch.eye(SIZE)]
                return min(float(row @ x) for x in corners)
            return float(row @ center[i] - radius[i] * row.norm())

        def contains(i: int, x: Tensor) -> bool:
            return bool((x - center[i]).norm(p=norm) <= radius[i] + TOLERANCE)

        return Case(region, contains, oracle)

    return build


def a_ball_in_box(norm: int) -> Callable[[torch.Generator], Case]:
    def build(g: torch.Generator) -> Case:
        center = uniform(g, BATCH, SIZE).round(decimals=1)
        # From balls that the box hardly cuts to balls that hold the box.
        radius = uniform(g, BATCH) * float(uniform(g, 1) * 3)
        box = Box(torch.zeros(BATCH, SIZE).double(), torch.ones(BATCH, SIZE).double())
        region = BallInBox(Ball(center, radius, norm), box)

        def contains(i: int, x: Tensor) -> bool:
            near = (x - center[i]).norm(p=norm) <= radius[i] + TOLERANCE
            return bool(near) and in_box(box, i, x)

        def oracle(i: int, row: Tensor) -> float:
            if norm == 2:
                return minimum_over_cut_ball(row, center[i], float(radius[i]))
            # x = center + p - q with p, q >= 0 and sum of p + q <= radius.
            limits = Box(torch.zeros(1, 2 * SIZE).double(), torch.cat((1 - center, center), 1)[[i]])
            total, both = torch.ones(1, 2 * SIZE), torch.cat((row, -row))
            return float(row @ center[i]) + linear_program(both, limits, 0, total, radius[[i]])

        return Case(region, contains, oracle)

    return build


def minimum_over_cut_ball(row: Tensor, center: Tensor, radius: float) -> float:
    """Minimise by scipy's SLSQP, a primal method: its value is attained, so never too small."""
    start = center.numpy()
    result = minimize(
        lambda x: float(row.numpy() @ x),
        start,
        jac=lambda x: row.numpy(),
        bounds=[(0, 1)] * SIZE,
        constraints={
            "type": "ineq",
            "fun": lambda x: radius**2 - ((x - start) ** 2).sum(),
            "jac": lambda x: -2 * (x - start),
        },
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return float(row.numpy() @ result.x)


def few_pixels(g: torch.Generator) -> Case:
    center = uniform(g, BATCH, 2, 3)
    budget = int(uniform(g, 1) * 4)
    base, limits = Box(center, center), Box(torch.zeros_like(center), torch.ones_like(center))
    region = FewPixels(base, limits, budget, 0)

    def contains(i: int, x: Tensor) -> bool:
        changed = ((x.view(2, 3) - center[i]).abs() > TOLERANCE).any(0)
        return in_box(limits, i, x) and int(changed.sum()) <= budget

    def oracle(i: int, row: Tensor) -> float:
        values = []
        for pixels in combinations(range(3), budget):
            x = center[i].clone()
            x[:, list(pixels)] = (row.view(2, 3)[:, list(pixels)] < 0).double()
            values.append(float(row @ x.flatten()))
        return min(values)

    return Case(region, contains, oracle)


def substitutions(g: torch.Generator) -> Case:
    base, words = normal(g, BATCH, 3, 2), normal(g, BATCH, 3, 2, 2)
    present = uniform(g, BATCH, 3, 2) < 0.7
    budget = int(uniform(g, 1) * 4)

    def sentences(i: int) -> list[Tensor]:
        result = []
        for choice in product(range(-1, 2), repeat=3):
            changed = [p for p, w in enumerate(choice) if w >= 0]
            if len(changed) > budget or not all(present[i, p, choice[p]] for p in changed):
                continue
            x = base[i].clone()
            for p in changed:
                x[p] = words[i, p, choice[p]]
            result.append(x.flatten())
        return result

    return Case(
        few_words(base, words, present, budget, (1, SIZE)),
        lambda i, x: any(torch.allclose(x, s, rtol=0, atol=TOLERANCE) for s in sentences(i)),
        lambda i, row: min(float(row @ s) for s in sentences(i)),
    )


def an_image(g: torch.Generator) -> Case:
    source = Box(-uniform(g, BATCH, 3), uniform(g, BATCH, 3))
    matrix, offset = normal(g, BATCH, 3, SIZE), normal(g, BATCH, SIZE)
    radius = 0.1 * uniform(g, BATCH, SIZE)
    region = AffineImage(source, matrix, offset, radius)

    def oracle(i: int, row: Tensor) -> float:
        corners = product(*zip(source.lower[i].tolist(), source.upper[i].tolist(), strict=True))
        images = [offset[i] + torch.tensor(t).double() @ matrix[i] for t in corners]
        return min(float(row @ x) for x in images) - float(row.abs() @ radius[i])

    def contains(i: int, x: Tensor) -> bool:
        # Feasibility of |x - offset - t · matrix| <= radius.
        columns = matrix[i].T
        both = torch.cat((columns, -columns))
        change = x - offset[i]
        limit = torch.cat((change + radius[i], radius[i] - change)) + 1e-6
        return feasible(both, limit, pairs(source.lower[i], source.upper[i]))

    return Case(region, contains, oracle)


def a_zonotope(g: torch.Generator) -> Case:
    center, generators = normal(g, BATCH, SIZE), normal(g, BATCH, 4, SIZE)
    region = zonotope(center, generators)

    def contains(i: int, x: Tensor) -> bool:
        both = torch.cat((generators[i].T, -generators[i].T))
        limit = torch.cat((x - center[i], center[i] - x)) + 1e-6
        return feasible(both, limit, [(-1.0, 1.0)] * 4)

    def oracle(i: int, row: Tensor) -> float:
        return float(row @ center[i] - (generators[i] @ row).abs().sum())

    return Case(region, contains, oracle)


def a_cut_box(g: torch.Generator) -> Case:
    lower = normal(g, BATCH, SIZE)
    box = Box(lower, lower + uniform(g, BATCH, SIZE))
    matrix = normal(g, BATCH, 1, SIZE)
    inside = lower + uniform(g, BATCH, SIZE) * (box.upper - lower)
    bound = (matrix @ inside.unsqueeze(2)).squeeze(2)

    def contains(i: int, x: Tensor) -> bool:
        return in_box(box, i, x) and bool((matrix[i] @ x <= bound[i] + TOLERANCE).all())

    return Case(
        Polytope(box, matrix, bound),
        contains,
        lambda i, row: linear_program(row, box, i, matrix[i], bound[i]),
    )


def a_simplex(g: torch.Generator) -> Case:
    lower = normal(g, BATCH, SIZE)
    box = Box(lower, lower + uniform(g, BATCH, SIZE))
    sums = (lower + uniform(g, BATCH, SIZE) * (box.upper - lower)).sum(1)
    least, most = sums - 0.3 * uniform(g, BATCH).round(), sums
    both = torch.stack((torch.ones(SIZE), -torch.ones(SIZE))).double()

    def contains(i: int, x: Tensor) -> bool:
        return in_box(box, i, x) and bool(least[i] - 1e-9 <= x.sum() <= most[i] + 1e-9)

    def oracle(i: int, row: Tensor) -> float:
        return linear_program(row, box, i, both, torch.stack((most[i], -least[i])))

    return Case(Simplex(box, least, most), contains, oracle)


CASES = {
    "box": a_box,
    "ball 1": a_ball(1),
    "ball 2": a_ball(2),
    "ball 1 in box": a_ball_in_box(1),
    "ball 2 in box": a_ball_in_box(2),
    "few pixels": few_pixels,
    "few words": substitutions,
    "affine image": an_image,
    "zonotope": a_zonotope,
    "polytope": a_cut_box,
    "simplex": a_simplex,
}
every_region = pytest.mark.parametrize("build", CASES.values(), ids=CASES)


def some_rows(case: Case, g: torch.Generator) -> Tensor:
    """Rows with zeros and ties among their entries, and one of zeros alone."""
    rows = normal(g, BATCH, ROWS, SIZE)
    rows[:, 1] = rows[:, 1].sign()
    rows[:, 2] *= uniform(g, BATCH, SIZE) < 0.5
    rows[:, 3] = 0
    return rows.view(BATCH, ROWS, *case.region.shape)


@every_region
@pytest.mark.soundness
@pytest.mark.precision
@settings(max_examples=20, deadline=None)
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
@settings(max_examples=15, deadline=None)
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
@settings(max_examples=10, deadline=None)
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
@settings(max_examples=10, deadline=None)
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
@settings(max_examples=10, deadline=None)
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
@settings(max_examples=15, deadline=None)
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
@settings(max_examples=5, deadline=None)
@given(seed=seeds)
def test_gradient_of_the_minimum_is_a_minimising_point(name: str, seed: int) -> None:
    g = generator(seed)
    case = CASES[name](g)
    rows = normal(g, BATCH, ROWS, *case.region.shape).requires_grad_()
    least = case.region.minimum(rows)
    (points,) = torch.autograd.grad(least.sum(), rows)
    # The minimum is homogeneous in the row, so by Euler's theorem it is gradient · row.
    assert torch.allclose((rows * points).flatten(2).sum(2), least, rtol=1e-6, atol=1e-6)


@settings(max_examples=25, deadline=None)
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
@settings(max_examples=30, deadline=None)
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
