"""The three arithmetics against fractions: what they promise about products and minima."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absolver.certificates import arithmetic as module
from absolver.certificates.arithmetic import Fast, Rational, arithmetic
from absolver.certificates.network import Product, Unsupported
from absolver.certificates.rounding import gamma
from tests.certificates.kernels import TIERS, exactly

seeds = st.integers(0, 2**32 - 1)
tiers = st.sampled_from(TIERS)
ALL = np.zeros(9, np.int64)  # rows of the first branch


def mixed(rng: np.random.Generator, shape: tuple[int, ...], width: int = 30) -> np.ndarray:
    """Numbers of all scales up to 2^width, some of them 0."""
    numbers = rng.standard_normal(shape) * 2.0 ** rng.integers(-width, width + 1, shape)
    return np.where(rng.random(shape) < 0.2, 0.0, numbers)


@pytest.mark.soundness
@given(seeds, tiers, st.booleans(), st.sampled_from([3, 30, 200]))
def test_a_product_is_as_near_as_it_promises(seed, tier, transposed, width):
    rng = np.random.default_rng(seed)
    groups, outer, k, n, rows = rng.integers(1, 4, 5)
    factor = Product(mixed(rng, (groups, k, n), width), int(outer))
    x = mixed(rng, (rows, groups * outer * (n if transposed else k)), width)
    a = arithmetic(tier)
    result, slack = a.product(x, factor, transposed=transposed)
    weight = exactly(factor.weight.swapaxes(1, 2) if transposed else factor.weight)
    parts = exactly(x).reshape(rows, groups, outer, -1)
    true = np.matmul(parts, weight[None]).reshape(rows, -1)
    sizes = np.matmul(abs(parts), abs(weight)[None]).reshape(rows, -1)
    relative = Fraction(float(gamma(a.roundings(n if transposed else k))))
    slack = exactly(np.broadcast_to(slack, rows))[:, None]
    assert (abs(exactly(result) - true) <= relative * sizes + slack).all()


@given(seeds)
def test_rows_of_rationals_are_multiplied_exactly(seed):
    rng = np.random.default_rng(seed)
    factor = Product(mixed(rng, (2, 3, 4), 100), 2)
    x = exactly(mixed(rng, (3, 16), 100)) / 3
    for a in (Rational(), without_flint()):
        result, slack = a.product(a.numbers(x), factor, transposed=True)
        weight = exactly(factor.weight.swapaxes(1, 2))
        true = np.matmul(x.reshape(3, 2, 2, 4), weight[None]).reshape(3, -1)
        assert slack == 0
        assert (result == a.numbers(true)).all()


def without_flint() -> Rational:
    a = Rational()
    a._flint = None
    return a


@pytest.mark.soundness
@given(seeds, st.integers(1, 26), st.sampled_from([3, 100, 500]))
def test_digits_are_small_integers_and_miss_no_more_than_the_rests(seed, bits, width):
    x = mixed(np.random.default_rng(seed), (3, 5), width)
    digits = module._digits(x, bits, -1)
    left = exactly(x)
    for i, (part, scale) in enumerate(digits.parts):
        assert (part == np.rint(part)).all() and np.abs(part).max() <= 2**bits
        assert (abs(left).max(axis=1) <= exactly(digits.rests[i][:, 0])).all()
        left = left - exactly(part) * Fraction(2) ** scale
    assert (abs(left).max(axis=1) <= exactly(digits.rests[-1][:, 0])).all()


@given(seeds)
def test_the_exact_tier_gives_the_same_in_every_order(seed):
    rng = np.random.default_rng(seed)
    weight, x = rng.uniform(0.5, 1, (1, 200, 3)), rng.uniform(0.5, 1, (4, 200))
    order = rng.permutation(200)
    first, second = (
        arithmetic("exact").product(rows, Product(np.ascontiguousarray(w), 1))[0]
        for rows, w in ((x, weight), (x[:, order], weight[:, order]))
    )
    assert np.array_equal(first, second)


@pytest.mark.soundness
@given(seeds, tiers, st.sampled_from([2, 30, 400]))
def test_a_minimum_over_a_box_is_below_the_true_one(seed, tier, width):
    rng = np.random.default_rng(seed)
    ends = np.sort(mixed(rng, (2, 6), width), axis=0)
    rows = mixed(rng, (4, 6), width)
    if rng.random() < 0.5:  # a point where the terms of the first row cancel
        rows[0, -1] = 1.0
        ends[:] = ends[0]
        ends[:, -1] = -(rows[0, :-1] * ends[0, :-1]).sum()
    a = arithmetic(tier)
    with np.errstate(over="ignore"):
        values = a.minimum(a.numbers(rows), a.prepare(*ends[:, None]), ALL[:4])
    low, high, rows = exactly(ends[0]), exactly(ends[1]), exactly(rows)
    true = np.where(rows > 0, rows * low, rows * high).sum(axis=1)
    for value, least in zip(values, true, strict=True):
        assert value <= least
        if tier == "rational":
            assert value == least


@pytest.mark.soundness
@pytest.mark.parametrize("tier", ["fast", "exact"])
def test_a_box_is_widened_by_all_that_a_sum_with_it_may_err(tier):
    terms = 1000
    box = arithmetic(tier).prepare(np.full(terms, 3.0), np.full(terms, 5.0))
    unit = Fraction(1, 2**53)
    worst = terms * unit / (1 - terms * unit)
    assert (1 + worst) * Fraction(box.lower[0]) <= 3
    assert (1 - worst) * Fraction(box.upper[0]) >= 5


@pytest.mark.parametrize("tier", TIERS)
def test_an_end_that_is_missing_counts_only_where_it_is_needed(tier):
    a = arithmetic(tier)
    box = a.prepare(np.array([[-np.inf, -1.0]]), np.array([[1.0, np.inf]]))
    rows = a.numbers(np.array([[-1.0, 1.0], [0.0, 2.0], [1.0, 0.0], [0.0, -1.0], [0.0, 0.0]]))
    values = [float(v) for v in a.minimum(rows, box, ALL[:5])]
    np.testing.assert_allclose(values, [-2, -2, -np.inf, -np.inf, 0], rtol=1e-12, atol=1e-300)


@pytest.mark.soundness
@pytest.mark.parametrize("tier", ["fast", "exact"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_no_number_proves_nothing(tier, wrong):
    a = arithmetic(tier)
    rows = np.array([[wrong, 1.0]])
    with np.errstate(all="ignore"):
        value = a.minimum(rows, a.prepare(np.zeros((1, 2)), np.ones((1, 2))), ALL[:1])
    assert value == -np.inf


@pytest.mark.soundness
@pytest.mark.parametrize("tier", ["fast", "exact"])
def test_a_sum_that_overflows_on_the_way_is_no_bound(tier):
    a = arithmetic(tier)
    point = np.array([[1e308, 1e308, -1e308, -1e308, -1e308]])
    with np.errstate(all="ignore"):
        assert a.minimum(np.ones((1, 5)), a.prepare(point, point), ALL[:1]) <= -1e308


@pytest.mark.soundness
@given(st.fractions(), tiers)
def test_constants_are_below_and_coefficients_near(q, tier):
    a: Fast = arithmetic(tier)
    (constant,), (coefficient,) = a.constants([q]), a.coefficients([q])
    assert module._fraction(constant) <= q
    assert abs(module._fraction(coefficient) - q) <= abs(q) * Fraction(1, 2**53)


def test_coefficients_of_unusual_sizes_are_no_numbers():
    assert np.isnan(Fast().coefficients([Fraction(1, 10**400), Fraction(10) ** 400])).all()


def test_an_unknown_tier_is_refused():
    with pytest.raises(Unsupported, match="'slow' is none of fast, exact, rational"):
        arithmetic("slow")


@pytest.mark.soundness
@pytest.mark.parametrize("tier", ["fast", "exact"])
@pytest.mark.parametrize("entry", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 7), (40, 129), (129, 40)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_row_with_an_entry_that_is_no_number_has_no_bound_even_over_0(tier, entry, shape, order):
    ready = arithmetic(tier)
    # The first branch is the point 0: products with the ends that belong to it are with 0.
    for branches in (1, 2):
        ends = np.zeros((branches, shape[1]))
        box = ready.prepare(ends, ends)._replace(lower=ends, upper=ends)
        for place in {0, shape[1] // 2, shape[1] - 1}:
            rows = np.zeros(shape, order=order)
            rows[-1, place] = entry
            owner = np.arange(shape[0]) * branches // (shape[0] + 1)
            with np.errstate(all="ignore"):
                assert ready.minimum(rows, box, owner)[-1] == -np.inf
