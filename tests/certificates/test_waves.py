"""The rules of sine and cosine, and the enclosure of both, against 60 digits or more."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from absolver.certificates.rounding import Box
from absolver.certificates.rules import rule_for
from absolver.certificates.rules.functions import QUARTER, wave
from absolver.certificates.rules.waves import PERIOD, Wave
from tests.certificates.rule_cases import (
    SLOPES,
    Exact,
    arrays,
    boxes,
    ends,
    holds,
    intervals,
    slopes,
)

DIGITS = mpmath.mp.clone()
DIGITS.dps = 360  # so that a float of 308 digits is reduced with 50 to spare
WAVES: dict[str, Exact] = {"sin": DIGITS.sin, "cos": DIGITS.cos}
each_wave = pytest.mark.parametrize("function", WAVES)

# The float below 2^20 and the one of all that are nearest to a multiple of pi / 2 (Muller et al.,
# Handbook of Floating-Point Arithmetic, table 11.1, has the second one).
NEAREST = (float.fromhex("0x1.4e0c83b1c1cb2p+19"), 6381956970095103 * 2.0**797)


def near_quarters(turns: Sequence[int], steps: Sequence[int]) -> Iterator[float]:
    """Floats some steps away from multiples of pi / 4: extremes, inflections, jumps of the sum."""
    for turn in turns:
        middle = float(turn * DIGITS.pi / 4)
        yield from (middle + step * math.ulp(middle) for step in steps)


TURNS = (0, 1, 2, 3, 4, 5, -1, -2, -6, 8, 11, 44, 710, 9999, -1335087, 1335088)
NASTY = (*near_quarters(TURNS, range(-3, 4)), *NEAREST, 2.0**20, math.nextafter(2.0**20, 2e6))
NASTY += (0.0, -0.0, 5e-324, -5e-324, 1e-310, 1e-160, 2.0**-27, 1e-8, 1e16, -1e300, 1.7e308)
numbers = st.one_of(
    st.sampled_from(NASTY),
    st.floats(-20, 20),
    st.floats(-(2.0**20), 2.0**20),
    st.floats(allow_nan=False, allow_infinity=False),
)


@pytest.mark.soundness
@given(x=numbers, quarters=st.integers(0, 6))
def test_enclosures_hold_the_wave(x: float, quarters: int) -> None:
    lower, upper = wave(np.array([x]), quarters)
    value = (DIGITS.sin, DIGITS.cos)[quarters % 2](DIGITS.mpf(x)) * (-1) ** (quarters // 2)
    assert DIGITS.mpf(float(lower[0])) <= value <= DIGITS.mpf(float(upper[0]))
    assert -1 <= lower[0] <= upper[0] <= 1


@pytest.mark.soundness
def test_enclosures_hold_the_wave_at_every_nasty_place() -> None:
    for quarters, exact in enumerate((DIGITS.sin, DIGITS.cos)):
        box = wave(np.array(NASTY), quarters)
        for x, lower, upper in zip(NASTY, *(end.tolist() for end in box), strict=True):
            assert DIGITS.mpf(lower) <= exact(DIGITS.mpf(x)) <= DIGITS.mpf(upper), (x, quarters)


@pytest.mark.soundness
@pytest.mark.parametrize("quarters", range(4))
def test_enclosures_pay_for_every_rounding(quarters: int) -> None:
    """So many arguments that some values are more than an ulp away from what is computed."""
    random = np.random.default_rng(quarters)
    x = np.concatenate([random.uniform(-high, high, 1500) for high in (0.8, 30, 2.0**20)])
    with DIGITS.workdps(40):
        for z, lower, upper in zip(x, *wave(x, quarters), strict=True):
            value = (DIGITS.sin, DIGITS.cos)[quarters % 2](float(z)) * (-1) ** (quarters // 2)
            assert float(lower) <= value <= float(upper), float(z)


@pytest.mark.soundness
def test_the_sine_of_a_tiny_number_is_smaller() -> None:
    tiny = np.array([5e-324, 1e-310, 2.2250738585072014e-308, 1e-200, 1e-9])
    for x in (tiny, -tiny):
        box = wave(x, 0)
        lower, upper = box if x[0] > 0 else Box(-box.upper, -box.lower)
        assert ((lower >= 0) & (lower < tiny) & (upper >= tiny)).all()


@pytest.mark.precision
@given(x=st.floats(-1e4, 1e4), quarters=st.integers(0, 3))
def test_enclosures_of_moderate_arguments_are_a_few_ulps_wide(x: float, quarters: int) -> None:
    lower, upper = (float(end[0]) for end in wave(np.array([x]), quarters))
    assert upper - lower <= 24 * math.ulp(max(-lower, upper)) + abs(x) * 2.0**-112


def test_no_argument_is_without_an_enclosure() -> None:
    lower, upper = wave(np.array([math.inf, -math.inf, math.nan, 1e7]), 0)
    assert (lower == -1).all() and (upper == 1).all()


def extremes(function: str, slope: float, pair: tuple[float, float], sign: int) -> object:
    """The least value of `sign * (f(z) - slope z)`, at the ends or where the slope of f is that."""
    exact, phase = WAVES[function], 0 if function == "sin" else DIGITS.pi / 2
    places = list(map(DIGITS.mpf, pair))
    if abs(slope) <= 1:
        for root in (DIGITS.acos(slope), -DIGITS.acos(slope)):
            first = int(DIGITS.ceil((pair[0] + phase - root) / (2 * DIGITS.pi)))
            last = int(DIGITS.floor((pair[1] + phase - root) / (2 * DIGITS.pi)))
            # In a period the form changes by a fixed number, so the first and the last one suffice.
            turns = {first, last} if first <= last else set()
            places += [root + 2 * DIGITS.pi * turn - phase for turn in turns]
    return min(sign * (exact(z) - DIGITS.mpf(slope) * z) for z in places)


def offsets(function: str, slope: float, pair: tuple[float, float]) -> tuple[float, float]:
    rule, box = rule_for(function), boxes([pair])
    below = rule.offset_below(arrays([slope]), box, {})
    return float(below[0]), float(rule.offset_above(arrays([slope]), box, {})[0])


near = st.sampled_from(list(near_quarters((0, 1, 2, 3, 4, -2, -4, 6, 20), (-9, -2, -1, 0, 1, 2))))
# Ends of a few radians, of many periods, beside extremes and inflections, and those of all rules.
places = st.one_of(near, st.floats(-7, 7), st.floats(-300, 300), ends)
tilts = st.one_of(slopes, st.floats(-1.01, 1.01))


@pytest.mark.soundness
@each_wave
@given(pair=intervals(places), slope=tilts)
def test_offsets_of_waves_are_never_beyond_the_extremes(
    function: str, pair: tuple[float, float], slope: float
) -> None:
    if math.isfinite(pair[1] - pair[0]):
        below, above = offsets(function, slope, pair)
        assert DIGITS.mpf(below) <= extremes(function, slope, pair, 1)
        assert DIGITS.mpf(-above) <= extremes(function, slope, pair, -1)


@pytest.mark.soundness
@each_wave
@settings(max_examples=50)
@given(pair=intervals(places), slope=tilts, seed=st.integers(0, 2**32 - 1))
def test_lines_of_waves_hold_at_points_of_the_box(
    function: str, pair: tuple[float, float], slope: float, seed: int
) -> None:
    case = ([pair], [slope], np.random.default_rng(seed))
    holds(rule_for(function), WAVES[function], DIGITS.mpf, case, {})


@pytest.mark.precision
@each_wave
@given(
    pair=intervals(st.one_of(near, st.floats(-7, 7), st.floats(-300, 300))),
    slope=st.one_of(st.floats(-1.5, 1.5), st.sampled_from(SLOPES[:11])),
)
def test_offsets_of_waves_are_optimal_up_to_rounding(
    function: str, pair: tuple[float, float], slope: float
) -> None:
    below, above = offsets(function, slope, pair)
    scale = (1 + abs(slope)) * (1 + max(map(abs, pair)))
    assert 0 <= extremes(function, slope, pair, 1) - below <= 1e-14 * scale
    assert 0 <= extremes(function, slope, pair, -1) + above <= 1e-14 * scale


@pytest.mark.soundness
@each_wave
@example(pair=(0.0, 7.0), slope=-1.0, scale=2.0, shift=0.0)  # a part of a whole period
@given(
    pair=intervals(st.one_of(near, st.floats(-7, 7))),
    slope=tilts,
    scale=st.one_of(st.sampled_from((1.0, 2.0)), st.floats(0.5, 2)),
    shift=st.one_of(st.sampled_from((0.0, 0.5, -1.0)), st.floats(-4, 4)),
)
def test_offsets_hold_wherever_waves_are_cut(
    function: str, pair: tuple[float, float], slope: float, scale: float, shift: float
) -> None:
    """Cuts and tangents are proposals: those for another wave, of another period, do no harm."""
    rule = rule_for(function)
    assert isinstance(rule, Wave)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("absolver.certificates.rules.waves.pi", math.pi * scale)
        patch.setattr(np, "floor", lambda x, floor=np.floor: floor(x) + shift)
        below, above = offsets(function, slope, pair)
    assert DIGITS.mpf(below) <= extremes(function, slope, pair, 1)
    assert DIGITS.mpf(-above) <= extremes(function, slope, pair, -1)


@pytest.mark.soundness
@each_wave
@given(pair=intervals(places))
def test_ranges_of_waves_are_within_those_of_all_numbers(
    function: str, pair: tuple[float, float]
) -> None:
    lower, upper = rule_for(function).range(boxes([pair]), {})
    assert -1 <= lower[0] <= upper[0] <= 1


@pytest.mark.soundness
def test_a_wave_a_quarter_later_is_the_other_one() -> None:
    cosine = rule_for("cos")
    assert isinstance(cosine, Wave)
    assert cosine == replace(cosine, quarters=1) != rule_for("sin")


@pytest.mark.precision
def test_unbounded_boxes_have_the_lines_that_exist() -> None:
    inf = math.inf
    expected = {
        ("cos", 0.0, -inf, inf): (-1, 1),
        ("cos", 0.0, 0.0, 1.0): (math.cos(1), 1),
        ("sin", 0.0, 1.0, 1e300): (-1, 1),
        ("sin", 0.0, math.pi, inf): (-1, 1),
        ("sin", 1.0, 0.0, inf): (-inf, 0),
        ("sin", 1.0, -inf, 0.0): (0, inf),
        ("cos", -1.0, -math.pi / 2, inf): (-math.pi / 2, inf),
        ("cos", 0.5, -inf, 0.0): (-math.sqrt(3) / 2 + 5 * math.pi / 12, inf),
    }
    for (function, *case), bounds in expected.items():
        got = offsets(function, case[0], (case[1], case[2]))
        assert got == pytest.approx(bounds, rel=1e-13, abs=1e-13), (function, case, got)


@pytest.mark.soundness
@each_wave
def test_many_elements_are_bounded_as_each_one_alone(function: str) -> None:
    random = np.random.default_rng(0)
    lower, slope = random.uniform(-9, 9, (3, 40)), random.uniform(-1.2, 1.2, (3, 40))
    upper = lower + random.exponential(3, (3, 40))
    together = rule_for(function).offset_below([slope], [Box(lower, upper)], {})
    for place in np.ndindex(lower.shape):
        pair = float(lower[place]), float(upper[place])
        assert together[place] == offsets(function, float(slope[place]), pair)[0]


@pytest.mark.soundness
def test_pi_is_known_to_more_digits_than_the_proof_needs() -> None:
    parts = [Fraction(part) for part in QUARTER]
    half = Fraction(int(DIGITS.floor(DIGITS.pi / 2 * 2**400)), 2**400)
    assert abs(half - sum(parts)) < Fraction(1, 2**122)
    assert parts[0] * 2**32 % 1 == 0 == parts[1] * 2**66 % 1
    assert 4 * half < Fraction(PERIOD) < 4 * half * (1 + Fraction(1, 10**7))
    assert half - parts[0] < Fraction(1, 2**32) and half - parts[0] - parts[1] < Fraction(1, 2**68)
