"""The rules of functions without curvature, and what is true of all, against rationals."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.certificates.network import Unsupported
from absolver.certificates.rounding import Box
from absolver.certificates.rules import RULES, rule_for
from tests.certificates.rule_cases import (
    Exact,
    arrays,
    boxes,
    ends,
    holds,
    inside,
    intervals,
    rational,
    slopes,
    unary,
)

PIECEWISE: dict[str, tuple[Exact, dict, tuple]] = {
    "relu": (lambda z: max(z, 0), {}, (0,)),
    "leaky_relu": (lambda z: z if z > 0 else Fraction(0.1) * z, {"alpha": np.array([0.1])}, (0,)),
    "abs": (abs, {}, (0,)),
    "clip": (lambda z: min(max(z, -1), Fraction(1, 2)), {"min": -1.0, "max": 0.5}, (-1, 0.5)),
    "sign": (lambda z: (z > 0) - (z < 0), {}, (0,)),
    "floor": (math.floor, {}, ()),
    "ceil": (math.ceil, {}, ()),
}


@pytest.mark.soundness
@pytest.mark.parametrize("function", PIECEWISE)
@settings(max_examples=50)
@given(case=unary())
def test_lines_of_piecewise_linear_functions_hold(function: str, case: tuple) -> None:
    exact, attributes, _ = PIECEWISE[function]
    holds(rule_for(function), exact, rational, case, attributes)


@pytest.mark.soundness
@given(case=unary(), alpha=slopes)
def test_lines_of_leaky_relu_hold_for_slopes_of_any_sign(case: tuple, alpha: float) -> None:
    exact = Fraction(alpha)
    attributes = {"alpha": alpha}
    holds(rule_for("leaky_relu"), lambda z: z if z > 0 else exact * z, rational, case, attributes)


@pytest.mark.soundness
@given(
    case=unary(), low=st.one_of(ends, st.just(-math.inf)), high=st.one_of(ends, st.just(math.inf))
)
def test_lines_of_clip_hold_for_any_limits(case: tuple, low: float, high: float) -> None:
    def clip(z: Fraction) -> Fraction:
        return min(max(z, rational(low)), rational(high))

    if low < math.inf and high > -math.inf:
        holds(rule_for("clip"), clip, rational, case, {"min": low, "max": high})


@pytest.mark.precision
@pytest.mark.parametrize("function", ["relu", "leaky_relu", "abs", "clip"])
@given(pair=intervals(st.floats(-1e3, 1e3)), slope=st.floats(-10, 10))
def test_offsets_of_piecewise_linear_functions_are_exact_to_a_few_ulps(
    function: str, pair: tuple[float, float], slope: float
) -> None:
    exact, attributes, kinks = PIECEWISE[function]
    candidates = [*map(Fraction, pair), *(Fraction(k) for k in kinks if pair[0] <= k <= pair[1])]
    values = [exact(z) - Fraction(slope) * z for z in candidates]
    scale = max(abs(exact(z)) + abs(Fraction(slope) * z) for z in candidates)
    rule, box = rule_for(function), boxes([pair])
    below = Fraction(float(rule.offset_below(arrays([slope]), box, attributes)[0]))
    above = Fraction(float(rule.offset_above(arrays([slope]), box, attributes)[0]))
    assert 0 <= min(values) - below <= 6 * Fraction(2) ** -53 * scale + Fraction(1, 2**1070)
    assert 0 <= above - max(values) <= 6 * Fraction(2) ** -53 * scale + Fraction(1, 2**1070)


@pytest.mark.precision
@given(
    pair=st.tuples(st.integers(-4, 4), st.integers(-4, 4)).map(sorted),
    slope=st.integers(-8, 8).map(lambda n: n / 4),
    function=st.sampled_from(sorted(PIECEWISE)),
)
def test_offsets_over_small_integers_have_no_rounding_at_all(
    pair: tuple[float, float], slope: float, function: str
) -> None:
    exact, attributes, kinks = PIECEWISE[function]
    attributes = {"alpha": 0.25} if function == "leaky_relu" else attributes
    exact = (lambda z: z if z > 0 else z / 4) if function == "leaky_relu" else exact
    lower, upper = map(Fraction, pair)
    places = {lower, upper, *(Fraction(k) for k in kinks if lower <= k <= upper)}
    near = Fraction(1, 2**60)  # jumps: the limits from both sides
    if function in ("sign", "floor", "ceil"):
        steps = {Fraction(n) for n in range(int(lower), int(upper) + 1)}
        places |= {z + d for z in steps for d in (0, near, -near) if lower <= z + d <= upper}
    values = [exact(z) - Fraction(slope) * z for z in places]
    box = boxes([tuple(map(float, pair))])
    below = rule_for(function).offset_below(arrays([slope]), box, attributes)[0]
    above = rule_for(function).offset_above(arrays([slope]), box, attributes)[0]
    assert 0 <= min(values) - Fraction(float(below)) <= 8 * near
    assert 0 <= Fraction(float(above)) - max(values) <= 8 * near


@pytest.mark.soundness
@pytest.mark.parametrize("function", PIECEWISE)
@settings(max_examples=50)
@given(case=unary())
def test_an_affine_piece_is_exactly_affine(function: str, case: tuple) -> None:
    exact, attributes, _ = PIECEWISE[function]
    (pair,), _, random = case
    mask, (slope,), intercept = rule_for(function).affine(boxes([pair]), attributes)
    if mask[0]:
        assert np.isfinite(slope[0])
        points = [Fraction(z) for z in inside(*pair, random)]
        offsets = {exact(z) - Fraction(float(slope[0])) * z for z in points}
        assert len(offsets) == 1


@pytest.mark.precision
def test_the_sign_at_0_is_that_of_the_points_beside_it_only_if_they_are_in_the_box() -> None:
    pairs = {(0.0, 3.0): (0, 1), (-3.0, -0.0): (-1, 0), (0.0, 0.0): (0, 0), (-1.0, 1.0): (-1, 1)}
    for pair, values in pairs.items():
        assert rule_for("sign").range(boxes([pair]), {}) == values


@pytest.mark.precision
def test_relu_is_affine_wherever_its_sign_is_known() -> None:
    box = Box(np.array([0.0, -2.0, -np.inf, 3.0, -1.0]), np.array([1.0, 0.0, -1.0, np.inf, 1.0]))
    mask, (slope,), _ = rule_for("relu").affine([box], {})
    assert mask.tolist() == [True, True, True, True, False]
    assert slope[:4].tolist() == [1, 0, 0, 1]


@st.composite
def several(draw: st.DrawFn, counts: Sequence[int]) -> tuple:
    count = draw(st.sampled_from(counts))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pairs = [draw(intervals()) for _ in range(count)]
    return pairs, [draw(slopes) for _ in range(count)], random


@pytest.mark.soundness
@given(case=several([2]))
def test_lines_of_products_hold(case: tuple) -> None:
    holds(rule_for("mul"), lambda x, y: x * y, rational, case, {})


@pytest.mark.soundness
@pytest.mark.parametrize(("function", "exact"), [("max", max), ("min", min)])
@settings(max_examples=50)
@given(case=several([2, 3, 5]))
def test_lines_of_extremes_hold(function: str, exact: Exact, case: tuple) -> None:
    holds(rule_for(function), exact, rational, case, {})


small = st.floats(-10, 10)
quarters = st.tuples(*[st.integers(-9, 9).map(lambda n: n / 4)] * 2).map(sorted)


@pytest.mark.precision
@given(pairs=st.tuples(intervals(small), intervals(small)), slope=st.tuples(small, small))
def test_offsets_of_products_are_those_of_the_corners(pairs: tuple, slope: tuple) -> None:
    a, b = map(Fraction, slope)
    corners = [(Fraction(x), Fraction(y)) for x, y in product(*pairs)]
    values = [x * y - a * x - b * y for x, y in corners]
    below = Fraction(float(rule_for("mul").offset_below(arrays(slope), boxes(pairs), {})[0]))
    above = Fraction(float(rule_for("mul").offset_above(arrays(slope), boxes(pairs), {})[0]))
    scale = max((abs(x) + abs(b)) * (abs(y) + abs(a)) for x, y in corners)
    assert 0 <= min(values) - below <= 8 * Fraction(2) ** -53 * scale + Fraction(1, 2**1060)
    assert 0 <= above - max(values) <= 8 * Fraction(2) ** -53 * scale + Fraction(1, 2**1060)


@pytest.mark.precision
@given(pairs=st.lists(intervals(small), min_size=1, max_size=4), data=st.data())
def test_the_upper_line_of_a_maximum_touches_a_vertex(pairs: list, data: st.DataObject) -> None:
    slope = [data.draw(st.floats(-1, 2)) for _ in pairs]
    vertices = [tuple(map(Fraction, vertex)) for vertex in product(*pairs)]
    exact = [Fraction(s) for s in slope]
    highest = max(max(v) - sum(s * z for s, z in zip(exact, v, strict=True)) for v in vertices)
    above = rule_for("max").offset_above(arrays(slope), boxes(pairs), {})[0]
    mirror = [(-high, -low) for low, high in pairs]
    below = rule_for("min").offset_below(arrays(slope), boxes(mirror), {})[0]
    assert 0 <= Fraction(float(above)) - highest <= Fraction(1, 10**13)
    assert above == -below


@pytest.mark.precision
@given(pairs=st.lists(quarters, min_size=2, max_size=4), data=st.data())
def test_weights_are_lower_lines_of_a_maximum_and_so_is_every_operand(
    pairs: list, data: st.DataObject
) -> None:
    parts = [data.draw(st.integers(0, 8)) for _ in pairs]
    slope = [part / 64 for part in parts]
    slope[0] += 1 - sum(slope)
    box = boxes(pairs)
    assert rule_for("max").offset_below(arrays(slope), box, {})[0] >= 0
    for i in range(len(pairs)):
        unit = [float(i == j) for j in range(len(pairs))]
        assert rule_for("max").offset_below(arrays(unit), box, {})[0] >= 0
    assert rule_for("max").range(box, {}) == tuple(max(ends) for ends in zip(*pairs, strict=True))
    assert rule_for("min").range(box, {}) == tuple(min(ends) for ends in zip(*pairs, strict=True))


@pytest.mark.precision
def test_an_operand_that_dominates_is_the_maximum_even_of_unbounded_ones() -> None:
    pairs = [(-1.0, 1.0), (-math.inf, 0.5), (1.0, math.inf)]
    mask, slope, _ = rule_for("max").affine(boxes(pairs), {})
    assert mask.all() and [float(s[0]) for s in slope] == [0, 0, 1]
    assert rule_for("max").offset_below(list(slope), boxes(pairs), {})[0] == 0
    assert rule_for("max").offset_above(list(slope), boxes(pairs), {})[0] == 0
    mask, _, _ = rule_for("min").affine(boxes(pairs), {})
    assert not mask.any()


@pytest.mark.soundness
@pytest.mark.parametrize("function", ["max", "min"])
def test_an_extreme_is_affine_up_to_a_tie_and_not_an_ulp_further(function: str) -> None:
    flip = 1.0 if function == "max" else -1.0
    for other, expected in ((1.0, True), (math.nextafter(1.0, 2.0), False)):
        pairs = [tuple(sorted((flip * 1.0, flip * 2.0))), tuple(sorted((0.0, flip * other)))]
        mask, _, _ = rule_for(function).affine(boxes(pairs), {})
        assert mask[0] == expected


@pytest.mark.soundness
@given(pairs=st.tuples(intervals(), intervals()))
def test_a_product_with_a_constant_is_affine(pairs: tuple) -> None:
    box = boxes(pairs)
    mask, slope, _ = rule_for("mul").affine(box, {})
    assert mask[0] == any(low == high for low, high in pairs)
    if mask[0] and abs(sum(s[0] for s in slope)) < 1e150:
        assert rule_for("mul").offset_below(list(slope), box, {})[0] == 0
        assert rule_for("mul").offset_above(list(slope), box, {})[0] == 0


ATTRIBUTES = {"alpha": 0.1, "min": -1.0, "max": 1.0}


@pytest.mark.soundness
@pytest.mark.parametrize("function", [name for name in RULES if name != "mul"])
def test_nan_proves_nothing(
    function: str,
) -> None:
    rule, count = rule_for(function), 2 if function in ("max", "min", "mul") else 1
    nan, one = np.array([math.nan]), np.array([1.0])
    for broken in (Box(nan, one), Box(one, nan), Box(nan, nan)):
        lower, upper = rule.range([broken] * count, ATTRIBUTES)
        assert not lower[0] > -math.inf and not upper[0] < math.inf
        mask = rule.affine([broken] * count, ATTRIBUTES)
        assert mask is None or not mask[0].any()
    box = [Box(-one, one)] * count
    assert rule.offset_below([nan] * count, box, ATTRIBUTES)[0] == -math.inf
    assert rule.offset_above([nan] * count, box, ATTRIBUTES)[0] == math.inf


@pytest.mark.parametrize("function", [name for name in RULES if name not in ("max", "min", "mul")])
@settings(max_examples=25)
@given(pair=intervals(st.one_of(ends, st.sampled_from((math.inf, -math.inf)))))
def test_chords_are_finite(function: str, pair: tuple[float, float]) -> None:
    chord = rule_for(function).chord(boxes([pair])[0], ATTRIBUTES)
    assert np.isfinite(chord).all()


def test_chords_are_near_the_mean_slope() -> None:
    for function, exact in (("relu", lambda z: max(z, 0)), ("tanh", math.tanh)):
        chord = rule_for(function).chord(boxes([(-1.0, 3.0)])[0], {})
        assert chord[0] == pytest.approx((exact(3) - exact(-1)) / 4)


def test_a_function_without_a_rule_is_named() -> None:
    with pytest.raises(Unsupported, match="no rule for the function erf"):
        rule_for("erf")
