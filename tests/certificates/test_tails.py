"""Bounds of probabilities by integers, against a rigorous library."""

from fractions import Fraction

import pytest
from flint import arb, ctx, fmpq
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from absolver.certificates.tails import binomial_tail, decay, density, normal, power, root

BITS = 2000


def ball(x: Fraction) -> arb:
    ctx.prec = BITS
    return arb(fmpq(x.numerator, x.denominator))


def close_above(bound: Fraction, exact: arb, error: str = "1e-45") -> bool:
    """Whether a bound is certainly at least the exact number, and hardly more."""
    return bool(ball(bound) >= exact) and bool(ball(bound) <= exact + arb(error))


@pytest.mark.soundness
@pytest.mark.precision
@given(st.fractions(-25, 25, max_denominator=2**60))
def test_normal_and_density_enclose_the_distribution(t: Fraction) -> None:
    exact = (-ball(t) / arb(2).sqrt()).erfc() / 2
    low, high = normal(t)
    assert close_above(high, exact) and close_above(1 - low, 1 - exact)
    exact = (-(ball(t) ** 2) / 2).exp() / (2 * arb.pi()).sqrt()
    low, high = density(t)
    assert close_above(high, exact) and close_above(1 - low, 1 - exact)


@pytest.mark.soundness
@pytest.mark.precision
@given(st.fractions(0, 500, max_denominator=2**60))
def test_decay_encloses_the_exponential(t: Fraction) -> None:
    (low, high), exact = decay(t), (-ball(t)).exp()
    assert close_above(high, exact) and close_above(1 - low, 1 - exact)


@pytest.mark.soundness
@given(st.fractions(0, 10**6))
def test_root_is_just_above_the_square_root(x: Fraction) -> None:
    assert root(x) ** 2 >= x
    assert close_above(root(x), ball(x).sqrt())


@pytest.mark.soundness
@given(st.fractions(0, 1, max_denominator=1000), st.integers(0, 60))
def test_power_bounds_on_both_sides(base: Fraction, exponent: int) -> None:
    low, high = (m * Fraction(2) ** e for m, e in (power(base, exponent, up=u) for u in (0, 1)))
    assert low <= base**exponent <= high <= low + Fraction(1, 2**200)


@pytest.mark.soundness
@given(st.integers(1, 40), st.data())
def test_binomial_tail_is_at_least_the_sum(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    q = data.draw(st.fractions(0, 1, max_denominator=100))
    from math import comb

    exact = sum(comb(n, i) * q**i * (1 - q) ** (n - i) for i in range(k, n + 1))
    bound = binomial_tail(n, k, q)
    assert bound >= exact
    if 0 < q < 1 and k > n * q + 1:
        assert bound <= exact * (1 + Fraction(1, 2**60))


@pytest.mark.precision
@pytest.mark.parametrize(("n", "k", "q"), [(10**5, 99_990, 0.9998), (10**5, 60_000, 0.597)])
def test_binomial_tail_is_tight_for_many_trials(n: int, k: int, q: float) -> None:
    assert float(binomial_tail(n, k, Fraction(q))) == pytest.approx(binom.sf(k - 1, n, q), rel=1e-9)
