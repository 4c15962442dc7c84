"""Samples of noise: the same however they are asked for, and of the distribution that is named."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from absolver.analyzer.smoothing.errors import SmoothingSettingError
from absolver.analyzer.smoothing.noise import ESTIMATION, PREDICTION, SELECTION, Noise

X = np.array([[0, 100, 255], [7, 8, 9]], np.uint8)
NOISES = [
    *(Noise(kind, 0.25, divisor=255) for kind in ("normal", "laplace", "uniform")),
    *(Noise(kind, 0.25, grid=255, divisor=255) for kind in ("normal", "laplace", "uniform")),
    Noise("ablation", 2.0, divisor=255),
    Noise("split", 0.7, grid=255, divisor=255),
    Noise("split", 0.2, grid=255, divisor=255),
]
every_noise = pytest.mark.parametrize(
    "noise", NOISES, ids=lambda n: f"{n.kind}-{n.parameter:g}-{n.grid}"
)


@every_noise
@given(cuts=st.lists(st.integers(1, 199), max_size=4))
def test_samples_do_not_depend_on_what_is_asked_with_them(noise: Noise, cuts: list[int]) -> None:
    whole = noise.samples(X, 5, ESTIMATION, range(200))
    ends = [0, *sorted(set(cuts)), 200]
    parts = [noise.samples(X, 5, ESTIMATION, range(a, b)) for a, b in pairwise(ends)]
    assert whole.dtype == np.float32 and whole.shape == (200, 2, 3)
    assert (np.concatenate(parts) == whole).all()


@pytest.mark.soundness
def test_stages_inputs_and_seeds_share_no_samples() -> None:
    seen = set()
    for seed, index, stage in product((0, 1), (0, 1), (SELECTION, ESTIMATION, PREDICTION)):
        noisy = Noise("normal", 1.0, seed=seed).samples(X, index, stage, range(300))
        seen |= set(noisy.ravel().tolist())
    assert len(seen) == pytest.approx(12 * 300 * X.size, rel=0.01)  # some floats are equal


@pytest.mark.parametrize("kind", ["normal", "laplace", "uniform"])
@pytest.mark.parametrize("grid", [0, 255])
def test_noise_has_its_distribution(kind: str, grid: int) -> None:
    noise = Noise(kind, 0.25, grid=grid, divisor=255)
    drawn = noise.samples(X, 0, ESTIMATION, range(4000)).astype(np.float64) - X / 255.0
    if grid:
        drawn += np.random.default_rng(0).uniform(-0.5, 0.5, drawn.shape) / grid
    law = {
        "normal": stats.norm(0, 0.25),
        "laplace": stats.laplace(0, 0.25),
        "uniform": stats.uniform(-0.25, 0.5),
    }[kind]
    # Steps of a grid, filled evenly, differ from the law by far less than 24,000 draws show.
    assert stats.kstest(drawn.ravel(), law.cdf).pvalue > 1e-4


def test_on_a_grid_sums_are_whole_steps() -> None:
    noisy = NOISES[3].samples(X, 0, ESTIMATION, range(500)).astype(np.float64) * 255
    assert np.abs(noisy - np.rint(noisy)).max() < 1e-4


@pytest.mark.soundness
@pytest.mark.parametrize("kind", ["normal", "laplace", "uniform"])
def test_each_step_of_a_grid_has_its_probability(kind: str) -> None:
    noise = Noise(kind, 0.1, grid=255)
    words = np.concatenate([[0], noise._table.astype(np.float64), [2.0**64]]) / 2.0**64
    law = {"normal": stats.norm, "laplace": stats.laplace, "uniform": stats.uniform(-1, 2)}[kind]
    edges = (np.arange(-noise._reach, noise._reach) + 0.5) / (0.1 * 255)
    exact = np.diff(np.concatenate([[0], law.cdf(edges), [1]]))
    assert np.abs(np.diff(words) - exact).max() < 2.0**-50


def test_ablation_keeps_so_many_elements() -> None:
    noisy = Noise("ablation", 2.0).samples(np.ones((2, 3)), 0, ESTIMATION, range(3000))
    kept = noisy.reshape(3000, 6)
    assert (kept.sum(1) == 2).all()
    assert kept.mean(0) == pytest.approx(1 / 3, abs=0.04)


def test_every_threshold_of_split_noise_passes_through_all_values() -> None:
    noise = Noise("split", 0.7, grid=10)
    assert noise.outcomes == 14
    noisy = noise.samples(np.zeros((2, 3), np.uint8), 0, ESTIMATION, range(14))
    # At x = 0 the encoding is min(threshold, 1) / 2; thresholds above 1 are one value.
    expected = sorted(min((t + 0.5) / 10, 1.0) / 2 for t in range(14))
    for element in noisy.reshape(14, 6).T:
        assert sorted(element.tolist()) == pytest.approx(expected)


@pytest.mark.soundness
@pytest.mark.parametrize("width", [0.2, 0.5, 0.7, 1.3])
def test_a_step_of_one_element_changes_one_outcome_of_split_noise_at_most(width: float) -> None:
    noise = Noise("split", width, grid=10)
    for here in range(10):
        x, y = (np.array([[value, 3]], np.uint8) for value in (here, here + 1))
        ours, theirs = (noise.samples(v, 0, ESTIMATION, range(noise.outcomes)) for v in (x, y))
        assert (ours != theirs).any(axis=(1, 2)).sum() <= 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "cauchy", "parameter": 1.0},
        {"kind": "normal", "parameter": 0.0},
        {"kind": "normal", "parameter": float("nan")},
        {"kind": "ablation", "parameter": 1.5},
        {"kind": "split", "parameter": 0.5},
        {"kind": "normal", "parameter": 1.0, "seed": -1},
    ],
    ids=str,
)
def test_settings_without_a_meaning_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SmoothingSettingError):
        Noise(**wrong)  # type: ignore[arg-type]
