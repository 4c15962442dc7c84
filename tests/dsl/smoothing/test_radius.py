"""Radii of noise domains: never above the exact one, which Neyman and Pearson's worst case says."""

from collections.abc import Callable
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from absolver import domains
from absolver.dsl.errors import NoiseError
from absolver.dsl.prover.noise import obligations
from absolver.dsl.prover.obligations import Status, decided
from absolver.dsl.smoothing.kinds import KINDS
from absolver.dsl.smoothing.radius import Evidence, radii, written_radii
from absolver.dsl.smoothing.slab import slab, slab_move, steepest
from absolver.dsl.smoothing.worst import Setting, exact_radius, outcomes, untouched, worst_case

every_domain = pytest.mark.parametrize("name", domains.noise_names())
P = np.sort(np.append(np.linspace(0.5, 0.999, 300), 1 - np.logspace(-15, -3, 100)))


def setting_of(name: str) -> Setting:
    kind = domains.load_noise(name).kind.name
    return Setting({"ablation": 45.0, "split": 0.7}.get(kind, 0.25), 784)


@every_domain
def test_a_domain_of_noise_has_the_name_of_its_file_and_says_what_it_is(name: str) -> None:
    domain = domains.load_noise(name)
    assert domain.name == name and domain.doc.endswith(".")


@every_domain
def test_a_domain_of_noise_bounds_no_neurons(name: str) -> None:
    with pytest.raises(NoiseError, match="bounds no neurons"):
        domains.load(name)


@every_domain
def test_every_obligation_of_the_library_holds(name: str) -> None:
    answers = [decided(owed).answer for owed in obligations(domains.load_noise(name))]
    assert answers and {answer.status for answer in answers} == {Status.PROVED}, answers


@pytest.mark.soundness
@pytest.mark.parametrize(
    ("noise", "radius"),
    [
        ("normal(s)", "norm 2 radius 1.001 * s * normal_quantile(p_lower)"),
        ("normal(s)", "norm inf radius s * normal_quantile(p_lower) / sqrt(dimension - 0.5)"),
        ("laplace(s)", "norm 1 radius -s * log(1.99 * (1 - p_lower))"),
        ("uniform(s)", "norm 1 radius r where p_lower - r / (2.01 * s) > 0.5"),
        ("split(s)", "norm 1 radius floor((lead + 1) / 2) / levels"),
        ("ablation(s)", "norm 0 radius r where p_lower - (1 - untouched(r)) > 0.49"),
        # What is printed for the Gaussian mechanism, used beyond epsilon = 1 (Lecuyer et al. 2019).
        (
            "normal(s)",
            "norm 2 radius s * (parameter e in [0, 40] start 1) / sqrt(2 * log(1.25 * (1 + exp(e))"
            " / (1 - exp(e) * (1 - p_lower))))",
        ),
    ],
)
def test_a_radius_that_is_too_large_is_refuted_and_never_used(
    noise: str, radius: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.dom"
    file.write_text(f"domain mine\n  noise {noise}\n  certifies {radius}\n", encoding="utf-8")
    domain = domains.load_noise(str(file))
    assert Status.REFUTED in {decided(owed).answer.status for owed in obligations(domain)}
    kind = domain.kind.name
    setting = Setting(45.0 if kind == "ablation" else 0.25, 784)
    amounts = np.arange(200.0) if domain.kind.counted else P
    exact = exact_radius(kind, domain.norm, setting, amounts)
    used = radii(domain, Evidence(setting, amounts))
    assert (used <= np.maximum(exact, -1) + (1e-15 if domain.kind.counted else 0)).all()


@pytest.mark.soundness
@every_domain
def test_a_radius_is_at_most_the_exact_one_and_grows(name: str) -> None:
    domain, setting = domains.load_noise(name), setting_of(name)
    amounts = np.arange(400.0) if domain.kind.counted else P
    exact = exact_radius(domain.kind.name, domain.norm, setting, amounts)
    used = radii(domain, Evidence(setting, amounts))
    certified = used >= 0
    assert certified.sum() > 100
    slack = 1e-12 if domain.kind.counted else 0.0
    assert (used[certified] <= exact[certified] + slack).all()
    assert (np.diff(used) >= -1e-9).all()


@pytest.mark.soundness
@every_domain
def test_nothing_is_certified_at_one_half_or_below(name: str) -> None:
    domain, setting = domains.load_noise(name), setting_of(name)
    amounts = np.array([-1.0]) if domain.kind.counted else np.array([0.0, 0.3, 0.5])
    assert (radii(domain, Evidence(setting, amounts)) == -1).all()


CLOSED = [(k.name, norm) for k in KINDS.values() for norm in k.norms if not k.counted]


@pytest.mark.precision
@pytest.mark.parametrize(("kind", "norm"), CLOSED)
@pytest.mark.parametrize("p", [0.501, 0.7, 0.99, 0.9999])
def test_at_the_exact_radius_the_worst_case_is_one_half(kind: str, norm: str, p: float) -> None:
    setting = Setting(3.0 if kind == "ablation" else 0.25, 20)
    (radius,) = exact_radius(kind, norm, setting, np.array([p]))
    left = worst_case(*outcomes(kind, norm, setting, radius), p)
    if kind == "ablation":  # whole numbers: one more element changed, and the label is lost
        beyond = worst_case(*outcomes(kind, norm, setting, radius + 1), p)
        assert left > 0.5 >= beyond
    else:
        assert left == pytest.approx(0.5, abs=1e-4)  # what the cells of the grid leave


@pytest.mark.soundness
@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=9), st.floats(0.01, 0.99), st.data())
def test_no_set_of_cells_is_worse_than_the_worst_case(
    weights: list[float], p: float, data: st.DataObject
) -> None:
    here = np.array(weights) / sum(weights)
    moved = np.array(data.draw(st.permutations(here.tolist())))
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(here), max_size=len(here))))
    if here[chosen].sum() >= p:
        assert moved[chosen].sum() >= worst_case(here, moved, p) - 1e-12


@pytest.mark.soundness
@given(st.integers(1, 60), st.data())
def test_untouched_is_just_below_the_ratio_of_choices(dimension: int, data: st.DataObject) -> None:
    from math import comb

    kept, changed = data.draw(st.integers(1, dimension)), data.draw(st.integers(0, dimension))
    exact = comb(dimension - changed, kept) / comb(dimension, kept)
    (found,) = untouched(np.array([float(changed)]), kept, dimension)
    assert exact * (1 - 3e-10) <= found <= exact


@pytest.mark.soundness
@given(st.floats(0.51, 0.9999), st.floats(0, 1), st.lists(st.floats(-4, 4), min_size=2, max_size=6))
def test_no_union_of_intervals_is_worse_than_the_slab(
    p: float, share: float, ends: list[float]
) -> None:
    (most,) = steepest(np.array([p]))
    gradient = share * float(most)
    low, high = slab(p, gradient)
    move = slab_move(low, high)
    ends = sorted(ends)[: len(ends) // 2 * 2]
    # A set with a tail to the left, which makes it probable enough, and with a gap.
    edges = np.array([-np.inf, *ends, np.inf])
    parts = edges.reshape(-1, 2)
    inside = np.diff(stats.norm.cdf(parts), axis=1).sum()
    steepness = np.diff(stats.norm.pdf(parts), axis=1).sum()
    if inside >= p and steepness <= gradient:
        assert np.diff(stats.norm.cdf(parts - move), axis=1).sum() >= 0.5 - 1e-9


@pytest.mark.precision
def test_with_the_steepest_gradient_first_order_is_neyman_and_pearson() -> None:
    first, plain = (domains.load_noise(f"{n}_smoothing") for n in ("first_order", "gaussian"))
    setting = Setting(0.25, 784)
    few = P[1:300:6]
    steep = Evidence(setting, few, steepest(few))
    assert radii(first, steep) == pytest.approx(radii(plain, Evidence(setting, few)), abs=1e-9)
    less = Evidence(setting, few, 0.5 * steepest(few))
    assert (radii(first, less) > radii(plain, less)).all()


ORACLES: dict[str, Callable[[mpmath.mpf], mpmath.mpf]] = {
    "gaussian_smoothing": lambda p: mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1) / 4,
    "laplace_smoothing": lambda p: -mpmath.log(2 * (1 - p)) / 4,
    "uniform_smoothing": lambda p: (p - mpmath.mpf(1) / 2) / 2,
}


@pytest.mark.soundness
@pytest.mark.parametrize("name", ORACLES)
def test_an_exact_radius_is_rounded_down(name: str) -> None:
    used = radii(domains.load_noise(name), Evidence(setting_of(name), P))
    with mpmath.workdps(50):
        for p, radius in zip(P[1:], used[1:], strict=True):
            exact = ORACLES[name](mpmath.mpf(float(p)))
            assert exact * (1 - mpmath.mpf("1e-10")) - 1e-13 <= radius < exact


@pytest.mark.precision
def test_searched_parameters_reach_what_a_fine_search_does() -> None:
    domain, setting = domains.load_noise("renyi_smoothing"), Setting(1.0, 1)
    p = np.array([0.6, 0.9, 0.999])
    found = written_radii(domain, Evidence(setting, p))
    a = np.concatenate([np.linspace(1.001, 4, 20_000), np.linspace(4, 200, 20_000)])[:, None]
    with np.errstate(all="ignore"):
        power_mean = (0.5 * (p ** (1 - a) + (1 - p) ** (1 - a))) ** (1 / (1 - a))
        fine = np.nanmax(np.where(power_mean > 0, np.sqrt(-2 / a * np.log(2 * power_mean)), 0), 0)
    assert found == pytest.approx(fine, rel=1e-6)
