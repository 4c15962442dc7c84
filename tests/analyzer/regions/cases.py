"""One case of every input set: with a test of membership and the true minimum of a form."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import torch
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import Tensor

from absolver.analyzer.regions.ball import Ball
from absolver.analyzer.regions.ball_in_box import BallInBox
from absolver.analyzer.regions.box import Box
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


def some_rows(case: Case, g: torch.Generator) -> Tensor:
    """Rows with zeros and ties among their entries, and one of zeros alone."""
    rows = normal(g, BATCH, ROWS, SIZE)
    rows[:, 1] = rows[:, 1].sign()
    rows[:, 2] *= uniform(g, BATCH, SIZE) < 0.5
    rows[:, 3] = 0
    return rows.view(BATCH, ROWS, *case.region.shape)
