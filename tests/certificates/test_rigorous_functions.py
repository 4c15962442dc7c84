"""Directed rounding against rationals, enclosures of functions against 80 digits."""

import math
from collections.abc import Callable
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absolver.certificates import rounding
from absolver.certificates.rounding import Box
from absolver.certificates.rules import functions
from absolver.certificates.rules.curves import square

Function = Callable[[np.ndarray], Box]
DIGITS = mpmath.mp.clone()
DIGITS.dps = 80

SPECIAL = (0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1e-160, 1e-16, 1.0, -1.0, 1 / 3)
SPECIAL += (2.0**-53, 1 - 2.0**-53, 1 + 2.0**-52, 3.0, -7.5, 2.0**53 + 2, 1e160, -1e300, 1.7e308)
INFINITE = (math.inf, -math.inf)
floats = st.one_of(st.sampled_from(SPECIAL), st.floats(allow_nan=False, allow_infinity=False))
anything = st.one_of(floats, st.sampled_from((*INFINITE, math.nan)))

OPERATIONS = {
    "add": (rounding.add_down, rounding.add_up, lambda x, y: x + y),
    "mul": (rounding.mul_down, rounding.mul_up, lambda x, y: x * y),
}


@pytest.mark.soundness
@pytest.mark.parametrize("name", OPERATIONS)
@given(x=floats, y=floats)
def test_directed_operations_enclose_the_exact_result(name: str, x: float, y: float) -> None:
    down, up, exact = OPERATIONS[name]
    value = exact(Fraction(x), Fraction(y))
    lower, upper = float(down(x, y)), float(up(x, y))
    assert lower < math.inf and (lower == -math.inf or Fraction(lower) <= value)
    assert upper > -math.inf and (upper == math.inf or Fraction(upper) >= value)


@pytest.mark.soundness
@given(x=floats)
def test_a_step_down_is_one_float_and_two_near_underflow(x: float) -> None:
    step, before = float(rounding.down(x)), math.nextafter(x, -math.inf)
    assert step <= before
    assert step == before or (abs(x) < 1e-307 and step == math.nextafter(before, -math.inf))


@pytest.mark.precision
@pytest.mark.parametrize("name", OPERATIONS)
@given(x=st.floats(-1e140, 1e140), y=st.floats(-1e140, 1e140))
def test_directed_operations_are_exact_where_they_can_be(name: str, x: float, y: float) -> None:
    down, up, exact = OPERATIONS[name]
    value = exact(Fraction(x), Fraction(y))
    lower, upper = float(down(x, y)), float(up(x, y))
    if name == "mul" and 0 < abs(value) < 1e-260:
        assert upper <= math.nextafter(math.nextafter(lower, math.inf), math.inf)
    else:
        assert upper == (lower if Fraction(float(value)) == value else math.nextafter(lower, 9e999))


@given(x=anything, y=anything)
def test_a_nan_becomes_no_bound(x: float, y: float) -> None:
    for down, up, _ in OPERATIONS.values():
        assert not np.isnan(down(x, y)) and not np.isnan(up(x, y))
        if math.isnan(x) or math.isnan(y):
            assert down(x, y) == -math.inf and up(x, y) == math.inf


def test_zero_times_infinity_is_zero() -> None:
    assert rounding.mul_down(0.0, math.inf) == 0 == rounding.mul_up(-math.inf, -0.0)


@pytest.mark.soundness
@given(k=st.integers(0, 2**54), bits=st.sampled_from((8, 11, 22, 24, 53)))
def test_gamma_is_above_the_exact_quotient_and_close_to_it(k: int, bits: int) -> None:
    value, part = float(rounding.gamma(k, 2.0**-bits)), Fraction(k, 2**bits)
    if part >= 1 or value == math.inf:
        assert value == math.inf and part > 1 - Fraction(1, 2**50)
    else:
        exact = part / (1 - part)
        assert exact <= Fraction(value) <= exact * (1 + Fraction(4, 2**53) / (1 - part))


@given(ends=st.lists(floats, min_size=4, max_size=4))
def test_interval_products_hold_the_products_of_ends(ends: list[float]) -> None:
    a, b = (Box(*map(np.float64, sorted(pair))) for pair in (ends[:2], ends[2:]))
    lower, upper = rounding.times(a, b)
    for x in a:
        for y in b:
            value = Fraction(float(x)) * Fraction(float(y))
            assert lower == -np.inf or Fraction(float(lower)) <= value
            assert upper == np.inf or value <= Fraction(float(upper))


def spread(seed: int, low: float, high: float, count: int = 400) -> np.ndarray:
    """Draw numbers of both signs, evenly and over all magnitudes."""
    random = np.random.default_rng(seed)
    sizes = np.exp(random.uniform(-744, math.log(max(-low, high)), count)) * random.choice(
        [-1, 1], count
    )
    near_one = 1 + random.choice([-1, 1], count) * np.exp(random.uniform(-37, 0, count))
    halves = np.log(2) * (random.integers(-1074, 1024, count) + 0.5) * (1 + 1e-13)
    drawn = np.concatenate([random.uniform(low, high, count), sizes, near_one, halves, SPECIAL])
    return drawn[(drawn >= low) & (drawn <= high)]


# function, exact value, arguments from and to, most ulps of width
CASES: tuple[tuple[str, Function, Callable[..., object], float, float, int], ...] = (
    ("exp", functions.exp, DIGITS.exp, -800.0, 709.7, 20),
    ("sigmoid", functions.sigmoid, lambda x: 1 / (1 + DIGITS.exp(-x)), -800.0, 800.0, 28),
    ("tanh", functions.tanh, DIGITS.tanh, -30.0, 30.0, 48),
    ("log", functions.log, DIGITS.log, 5e-324, 1.79e308, 20),
    ("sqrt", functions.sqrt, DIGITS.sqrt, 0.0, 1.79e308, 2),
    ("reciprocal", functions.reciprocal, lambda x: 1 / x, -1.79e308, -1e-308, 2),
    ("square", square, lambda x: x * x, -1e154, 1e154, 2),
)
each_function = pytest.mark.parametrize(
    ("function", "exact", "low", "high", "ulps"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)


@pytest.mark.soundness
@pytest.mark.precision
@each_function
@given(seed=st.integers(0, 2**32 - 1))
def test_enclosures_hold_the_value_and_are_a_few_ulps_wide(
    function: Function, exact: Callable, low: float, high: float, ulps: int, seed: int
) -> None:
    x = spread(seed, low, high)[seed % 16 :: 16]
    lower, upper = function(x)
    for point, below, above in zip(x.tolist(), lower.tolist(), upper.tolist(), strict=True):
        value = exact(DIGITS.mpf(point))
        assert DIGITS.mpf(below) <= value <= DIGITS.mpf(above), (point, below, above)
        size = max(abs(below), abs(above))
        # Two more where a step outwards is two floats: near underflow.
        most = ulps + (2 if size < 1e-307 else 0)
        assert above - below <= most * math.ulp(size) or above == math.inf, (point, below, above)


@pytest.mark.soundness
@pytest.mark.parametrize("neighbours", [4])
def test_exp_is_right_around_overflow_underflow_and_where_the_reduction_jumps(
    neighbours: int,
) -> None:
    jumps = [(k + 0.5) * math.log(2) for k in (-1074, -1023, -2, -1, 0, 1, 1022, 1023)]
    for start in (*jumps, 709.782712893384, -708.3964185322641, -744.4400719213812, 710.0, -746.0):
        for steps in range(-neighbours, neighbours + 1):
            x = start + steps * math.ulp(start)
            lower, upper = functions.exp(np.array(x))
            assert DIGITS.mpf(float(lower)) <= DIGITS.exp(x) <= DIGITS.mpf(float(upper)), x


@pytest.mark.soundness
def test_limits_and_arguments_outside_of_the_domain() -> None:
    ends = np.array([-np.inf, np.inf, np.nan])
    with np.errstate(all="ignore"):
        enclosures = {name: function(ends) for name, function, *_ in CASES}
    limits = {"exp": (0, np.inf), "sigmoid": (0, 1), "tanh": (-1, 1), "reciprocal": (0, 0)}
    limits |= {"log": (None, np.inf), "sqrt": (None, np.inf), "square": (np.inf, np.inf)}
    for name, (lower, upper) in enclosures.items():
        assert not np.isnan([lower, upper]).any(), name
        for i, limit in enumerate(limits[name]):
            if limit is None:
                assert (lower[i], upper[i]) == (-np.inf, np.inf), name
            else:
                assert lower[i] <= limit <= upper[i], (name, ends[i])
                assert limit == np.inf or upper[i] - lower[i] < 1e-15, (name, ends[i])


@pytest.mark.precision
def test_simple_values_are_exact() -> None:
    for x in (0.0, 1.0, 4.0, 2.25, 2.0**-800 * 9):
        assert functions.sqrt(np.array(x)) == (math.sqrt(x), math.sqrt(x))
    assert functions.tanh(np.array(0.0)) == (0, 0) == functions.log(np.array(1.0))
