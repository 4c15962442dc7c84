"""Join, widening and narrowing: where they end, and that they always do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from absolver.analyzer.fixpoint.loops import (
    AbstractLoop,
    Divergence,
    PostFixpoint,
    ascend,
    narrowings,
)

Vector = NDArray[np.float64]


class Affine(AbstractLoop):
    """`x' = rate x + [0, step]` on intervals, as facets (-lower, upper)."""

    def __init__(self, rate: float, step: float, start: tuple[float, float]) -> None:
        self.rate, self.step = rate, step
        self.start = np.array([-start[0], start[1]])
        self.asked = 0

    def image(self, facets: Vector) -> Vector:
        self.asked += 1
        lower, upper = -facets[0], facets[1]
        ends = sorted((self.rate * lower, self.rate * upper))
        return np.array([-ends[0], ends[1] + self.step])

    def size(self, facets: Vector) -> Vector:
        return np.full(2, np.abs(facets).max())

    def widened(self, facets: Vector) -> Vector:
        return np.where(facets > 1e9, np.inf, np.maximum(2 * facets, 1.0))

    def scaled(self, facets: Vector, factor: float) -> Vector:
        middle = (facets[1] - facets[0]) / 2 * np.array([-1, 1])
        return middle + factor * (facets - middle)


RATES = st.floats(-0.999, 0.999)
STEPS = st.floats(0.0, 100.0)


@pytest.mark.soundness
@given(RATES, STEPS, st.floats(-10, 0), st.floats(0, 10))
def test_a_contraction_gets_a_set_that_keeps_itself(
    rate: float, step: float, low: float, high: float
) -> None:
    loop = Affine(rate, step, (low, high))
    found = ascend(loop)
    assert isinstance(found, PostFixpoint)
    for kept in narrowings(loop, found):
        assert (kept.facets >= loop.start).all()
        assert (loop.image(kept.facets) <= kept.facets - loop.slack(kept.facets)).all()
        assert (kept.facets <= found.facets).all()
        found = kept


@pytest.mark.precision
@pytest.mark.parametrize("rate", [0.0, 0.5, 0.9, 0.99, -0.5])
def test_narrowing_comes_near_the_least_fixpoint(rate: float) -> None:
    loop = Affine(rate, 1.0, (0.0, 0.0))
    found = ascend(loop)
    assert isinstance(found, PostFixpoint)
    *_, last = narrowings(loop, found)
    upper = 1 / (1 - rate) if rate >= 0 else 1 / (1 - rate**2)
    assert upper <= last.facets[1] <= 1.05 * upper


@pytest.mark.parametrize("rate", [1.0, 1.001, 2.0, -1.5, 8.0])
def test_what_grows_for_ever_diverges_after_finitely_many_rounds(rate: float) -> None:
    loop = Affine(rate, 1.0, (0.0, 1.0))
    found = ascend(loop)
    assert isinstance(found, Divergence) and found.growing.any()
    assert loop.asked < 1000


def test_a_bound_that_is_no_number_is_no_bound() -> None:
    loop = Affine(float("nan"), 1.0, (0.0, 1.0))
    assert isinstance(ascend(loop), Divergence)
