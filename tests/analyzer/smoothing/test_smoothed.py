"""The smoothed network: what it certifies holds, and does not depend on how it is computed."""

import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from flint import arb, ctx, fmpq
from numpy.typing import NDArray
from torch import nn

from absolver import domains
from absolver.analyzer.smoothing.classifiers import NOTHING, labels
from absolver.analyzer.smoothing.confidence import p_lower
from absolver.analyzer.smoothing.errors import SmoothingExtraError, SmoothingSettingError
from absolver.analyzer.smoothing.noise import Noise
from absolver.analyzer.smoothing.smoothed import Counts, Sampling, Smoothed
from absolver.certificates.tails import binomial_tail, decay, dyadic, normal
from absolver.dsl.smoothing.radius import Evidence, radii
from absolver.dsl.smoothing.worst import Setting

FEW = Sampling(50, 2000, 0.001)
X = np.array([0.3, 0.7, 0.1, 0.9], np.float32)


@pytest.fixture
def network() -> nn.Module:
    """Four inputs, three classes, with random weights that do not change."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def tail(n: int, k: int, p: Fraction) -> arb:
    """The probability of k or more of n, as a ball that holds it."""
    ctx.prec = 300
    return arb(fmpq(p.numerator, p.denominator)).beta_lower(arb(k), arb(n - k + 1), True)


@pytest.mark.soundness
@pytest.mark.parametrize("alpha", ["1/1000", "1/20"])
def test_p_lower_is_never_above_the_exact_bound(alpha: str) -> None:
    """For all counts of 1,000 samples, the tail at the bound is at most alpha, and nearly alpha."""
    level = Fraction(alpha)
    bounds = [p_lower(hits, 1000, float(level)) for hits in range(1001)]
    assert bounds[0] == 0
    for hits, bound in enumerate(bounds[1:], start=1):
        assert binomial_tail(1000, hits, Fraction(bound)) <= level
        assert binomial_tail(1000, hits, Fraction(bound * (1 + 1e-8))) > level
    for hits in (1, 2, 499, 501, 990, 999, 1000):
        limit = arb(fmpq(level.numerator, level.denominator))
        assert bool(tail(1000, hits, Fraction(bounds[hits])) <= limit)


THRESHOLDS: Mapping[str, Callable[[Fraction], Fraction]] = {
    "gaussian_smoothing": lambda t: normal(t)[1],
    "laplace_smoothing": lambda t: 1 - decay(t)[0] / 2,
    "uniform_smoothing": lambda t: Fraction(1, 2) + t / 2,
}


@pytest.mark.soundness
@pytest.mark.parametrize("samples", [1000, 100_000])
@pytest.mark.parametrize("name", THRESHOLDS)
def test_no_radius_is_above_the_exact_one(samples: int, name: str) -> None:
    """For all counts of 1,000 samples, and some of 100,000, the tail at the radius is small."""
    near = range(samples - 100, samples + 1)
    counts = range(samples + 1) if samples == 1000 else [*range(50_000, samples, 2511), *near]
    bounds = np.array([p_lower(hits, samples, 0.001) for hits in counts])
    found = radii(domains.load_noise(name), Evidence(Setting(0.25, 784), bounds))
    assert (np.diff(found) >= 0).all(), "radii grow with the counts"
    assert found[-1] > 0
    for hits, radius in zip(counts, found, strict=True):
        if radius >= 0:
            threshold = dyadic(THRESHOLDS[name](Fraction(radius) * 4))
            assert binomial_tail(samples, hits, threshold) <= Fraction(1, 1000), (hits, radius)


@pytest.mark.soundness
@pytest.mark.parametrize("name", domains.noise_names())
def test_every_domain_certifies_at_most_what_neyman_and_pearson_do(name: str) -> None:
    domain = domains.load_noise(name)
    best = {
        ("normal", "2"): "gaussian_smoothing",
        ("normal", "inf"): "gaussian_smoothing_inf",
        ("laplace", "1"): "laplace_smoothing",
        ("uniform", "1"): "uniform_smoothing",
        ("uniform", "inf"): "uniform_smoothing_inf",
    }.get((domain.kind.name, domain.norm), name)
    setting = Setting(45.0 if domain.kind.name == "ablation" else 0.5, 784)
    counted = domain.kind.counted
    hits = range(0, 1001, 9)
    bounds = np.array([float(k) if counted else p_lower(k, 1000, 0.001) for k in hits])
    ours, theirs = (radii(domains.load_noise(n), Evidence(setting, bounds)) for n in (name, best))
    assert (ours <= theirs).all()


@pytest.mark.parametrize("noise", [Noise("normal", 0.25), Noise("laplace", 0.2)])
def test_counts_do_not_depend_on_the_batch(network: nn.Module, noise: Noise) -> None:
    name = "gaussian_smoothing" if noise.kind == "normal" else "laplace_smoothing"
    answers = [
        Smoothed(network, name, noise, Sampling(50, 500, batch=batch)).certify(X, 7)
        for batch in (1, 33, 64, 500, 9999)
    ]
    assert len(set(answers)) == 1


def test_several_domains_share_one_count(network: nn.Module) -> None:
    names = ["gaussian_smoothing", "renyi_smoothing", "gaussian_smoothing_inf"]
    together = Smoothed(network, names, 0.25, FEW).certify(X)
    alone = [Smoothed(network, name, 0.25, FEW).certify(X) for name in names]
    assert together.radii == tuple(answer.radii[0] for answer in alone)
    assert {answer.counts for answer in alone} == {together.counts}


class Coin:
    """A classifier that gives two classes to as many points each, whatever is known of them."""

    shape = None

    def scores(self, inputs: NDArray[np.float32]) -> NDArray[np.floating]:
        """Decide by the sign of the noise of the first element, at x = 0."""
        first = inputs.reshape(len(inputs), -1)[:, :1]
        return np.concatenate([first, -first], axis=1).astype(np.float64)


@pytest.mark.soundness
def test_an_input_on_the_boundary_is_abstained_from() -> None:
    smoothed = Smoothed(Coin(), "gaussian_smoothing", 0.5, FEW)
    answers = [smoothed.certify(np.zeros(3, np.float32), index) for index in range(50)]
    assert sum(answer.label is None for answer in answers) >= 48
    predicted = [smoothed.predict(np.zeros(3, np.float32), index) for index in range(50)]
    assert sum(label is None for label in predicted) >= 48


def test_a_clear_input_is_predicted_and_certified() -> None:
    smoothed = Smoothed(Coin(), "gaussian_smoothing", 0.5, FEW)
    x = np.array([2.0, 0.0, 0.0], np.float32)
    assert smoothed.predict(x) == smoothed.certify(x).label == 0
    # Four deviations away all 2,000 samples hit: 0.5 times the quantile of 0.001^(1/2000).
    assert smoothed.certify(x).radii[0] == pytest.approx(0.5 * 2.7018, abs=1e-3)


@pytest.mark.soundness
@pytest.mark.parametrize("width", [0.3, 0.6, 1.1])
def test_split_noise_holds_for_every_input_in_the_radius(width: float) -> None:
    """All inputs of a grid of 4 steps in 3 elements, against all of their neighbours."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 3))
    smoothed = Smoothed(network, "split_smoothing", Noise("split", width, grid=4))
    points = [np.array(p, np.uint8) for p in product(range(5), repeat=3)]
    answers = [smoothed.certify(point) for point in points]
    for point, answer in zip(points, answers, strict=True):
        assert answer.label is not None, "all outcomes are counted"
        for other, theirs in zip(points, answers, strict=True):
            distance = np.abs(point.astype(int) - other).sum() / 4
            if distance <= answer.radii[0]:
                assert theirs.label == answer.label
    assert max(answer.radii[0] for answer in answers) >= 0.25


@pytest.mark.soundness
def test_a_tie_or_a_nan_is_no_vote() -> None:
    scores = np.array([[1.0, 1.0], [np.nan, 1.0], [0.0, 2.0], [np.inf, np.inf]])
    assert labels(scores).tolist() == [NOTHING, NOTHING, 1, NOTHING]


def test_a_lead_is_one_less_than_that_of_an_earlier_class() -> None:
    assert Counts(0, 1, (), (5, 9, 7)).lead == 2
    assert Counts(0, 1, (), (7, 9, 5)).lead == 1


@pytest.mark.parametrize(
    "wrong",
    [{"samples": 0}, {"selected": 0}, {"alpha": 0.0}, {"alpha": 0.7}, {"alpha": float("nan")}],
    ids=str,
)
def test_samplings_without_a_meaning_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SmoothingSettingError):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_domains_of_different_noise_share_no_counts(network: nn.Module) -> None:
    with pytest.raises(SmoothingSettingError, match="one kind of noise"):
        Smoothed(network, ["gaussian_smoothing", "laplace_smoothing"], 0.25)


def test_without_scipy_the_extra_is_named(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(SmoothingExtraError, match=r"pip install 'absolver\[smoothing\]'"):
        Smoothed(network, "gaussian_smoothing", 0.25, FEW).certify(X)
