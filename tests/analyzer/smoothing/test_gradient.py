"""First order: the gradient of a label's probability, bounded from the samples that count it."""

from math import exp, inf, sqrt
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from absolver.analyzer.smoothing.errors import SmoothingSettingError
from absolver.analyzer.smoothing.gradient import (
    GradientSum,
    HalfMeans,
    deviation,
    gradient_bound,
)
from absolver.analyzer.smoothing.noise import ESTIMATION, Noise
from absolver.analyzer.smoothing.smoothed import NO_SLAB, Sampling, Smoothed
from absolver.analyzer.smoothing.store import CountStore

BOTH = ["gaussian_smoothing", "first_order_smoothing"]


class Slab:
    """Class 1 where the first element is within 0.3 of 0: a label with a small gradient there."""

    shape = None

    def scores(self, inputs: NDArray[np.float32]) -> NDArray[np.floating]:
        """Decide by the first element."""
        inside = 0.3 - np.abs(inputs.reshape(len(inputs), -1)[:, :1])
        return np.concatenate([-inside, inside], axis=1).astype(np.float64)


def center(position: float = 0.0) -> NDArray[np.float32]:
    return np.array([position, 0.5, 0.5], np.float32)


@pytest.mark.soundness
def test_first_order_certifies_more_where_the_gradient_is_small_and_never_too_much() -> None:
    smoothed = Smoothed(Slab(), BOTH, 0.25, Sampling(50, 20_000))
    answer = smoothed.certify(center())
    # Moved by r, the label has the probability of |z| <= 0.3 around r: 1/2 near r = 0.29.
    left = [
        stats.norm.cdf(0.3 - r, 0, 0.25) - stats.norm.cdf(-0.3 - r, 0, 0.25) for r in answer.radii
    ]
    assert left[0] > left[1] > 0.5
    assert answer.radii[1] > 1.3 * answer.radii[0]


def test_where_the_gradient_says_nothing_hits_alone_certify() -> None:
    smoothed = Smoothed(Slab(), BOTH, 0.25, Sampling(50, 4000))
    answer = smoothed.certify(center(1.0))
    assert answer.counts.label == 0
    assert smoothed.slab(answer.counts) == NO_SLAB
    assert 0 < answer.radii[1] < answer.radii[0]  # at half of alpha


@pytest.mark.soundness
def test_the_bound_covers_the_gradient_of_half_spaces_and_balls() -> None:
    """Half-spaces have the gradient phi, symmetric sets none; 40 runs at alpha = 1/5 each."""
    random = np.random.default_rng(0)
    for exact, inside in (
        (stats.norm.pdf(0.5), lambda z: z[:, 0] <= 0.5),
        (0.0, lambda z: (z**2).sum(1) <= 5),
    ):
        missed = 0
        for _ in range(40):
            z = random.standard_normal((2000, 5))
            total = GradientSum(2000)
            total.add(range(0, 700), inside(z[:700]), z[:700])
            total.add(range(700, 2000), inside(z[700:]), z[700:])
            missed += gradient_bound(total.means(), deviation(2000, 0.1)) < exact
        assert missed <= 8


@pytest.mark.precision
def test_the_bound_is_near_the_gradient_for_many_samples() -> None:
    z = np.random.default_rng(0).standard_normal((200_000, 3))
    total = GradientSum(len(z))
    total.add(range(len(z)), z[:, 0] <= 0.5, z)
    assert gradient_bound(total.means(), deviation(len(z), 0.001)) < stats.norm.pdf(0.5) + 0.03


@pytest.mark.soundness
@pytest.mark.parametrize("samples", [100, 1000, 10**6])
def test_deviations_have_the_level(samples: int) -> None:
    e = deviation(samples, 0.001)
    assert exp(-(samples // 2) * e * e * (0.5 - e / 5)) <= 0.001
    assert deviation(10, 0.001) == inf
    # Chernoff's bound holds: the moments that it is from, of f u with f = 1 for u > 0.
    s = np.linspace(-1, 1, 41)
    mean = 1 / sqrt(2 * np.pi)
    moments = stats.norm.cdf(s) * np.exp(s**2 / 2) + 0.5
    assert (moments * np.exp(-s * mean) <= np.exp(s**2 / 2 + 0.2 * np.abs(s) ** 3) + 1e-12).all()


def test_the_gradient_does_not_depend_on_the_batch() -> None:
    means = [
        Smoothed(Slab(), BOTH, 0.25, Sampling(50, 1000, batch=batch)).certify(center()).counts.means
        for batch in (64, 77, 1000)
    ]
    for each in means:
        assert each is not None and means[0] is not None
        assert each.dot == pytest.approx(means[0].dot, abs=1e-12)
        assert each.size == pytest.approx(means[0].size, abs=1e-12)


def test_deviations_are_the_noise_of_the_samples() -> None:
    noise, x = Noise("normal", 0.25), center()
    numbers = range(10, 200)
    z = noise.deviations(x, 3, ESTIMATION, numbers)
    assert np.abs(x + 0.25 * z - noise.samples(x, 3, ESTIMATION, numbers)).max() < 1e-6


def test_gradients_are_kept_with_counts(tmp_path: Path) -> None:
    counts = Smoothed(Slab(), BOTH, 0.25, Sampling(50, 500)).count(center(), 4)
    store = CountStore(tmp_path / "counts.jsonl", {"run": 1})
    store.add(counts)
    again = CountStore(tmp_path / "counts.jsonl", {"run": 1})
    assert list(again) == [counts] and isinstance(counts.means, HalfMeans)


def test_there_is_no_gradient_of_noise_on_a_grid() -> None:
    with pytest.raises(SmoothingSettingError, match="ideal normal noise"):
        Smoothed(Slab(), BOTH, Noise("normal", 0.25, grid=255))
