"""The rules of smooth functions against 60 digits."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.certificates.rules import rule_for
from absolver.certificates.rules.curves import Curve
from tests.certificates.rule_cases import (
    DIGITS,
    SLOPES,
    Exact,
    arrays,
    boxes,
    decimal,
    ends,
    holds,
    intervals,
    unary,
)

CURVES: dict[str, tuple[Exact, st.SearchStrategy[float]]] = {
    "exp": (DIGITS.exp, ends),
    "sigmoid": (lambda z: 1 / (1 + DIGITS.exp(-z)), ends),
    "tanh": (DIGITS.tanh, ends),
    "log": (DIGITS.log, ends.map(abs).filter(lambda z: z > 0)),
    "sqrt": (DIGITS.sqrt, ends.map(abs)),
    "square": (lambda z: z * z, ends),
    "cube": (lambda z: z * z * z, ends),
    "reciprocal": (lambda z: 1 / z, ends.map(abs).filter(lambda z: z > 0)),
}


def draw_case(function: str, data: st.DataObject) -> tuple:
    """Draw a box in the function's domain, a slope, and a generator of points."""
    pairs, slope, random = data.draw(unary(CURVES[function][1]))
    if function == "reciprocal" and data.draw(st.booleans()):
        pairs = [(-pairs[0][1], -pairs[0][0])]
    if function in ("exp", "sigmoid", "tanh"):  # e^(10^300) cannot be written down
        pairs = [tuple(min(max(end, -1e6), 1e6) for end in pairs[0])]
    return pairs, slope, random


@pytest.mark.soundness
@pytest.mark.parametrize("function", CURVES)
@settings(max_examples=50)
@given(data=st.data())
def test_lines_of_smooth_functions_hold(function: str, data: st.DataObject) -> None:
    case = draw_case(function, data)
    holds(rule_for(function), CURVES[function][0], decimal, case, {})


@pytest.mark.soundness
@pytest.mark.parametrize("function", CURVES)
@settings(max_examples=50)
@given(data=st.data(), scale=st.sampled_from((1e-3, 1.0, 30.0)))
def test_lines_hold_wherever_the_tangents_touch(
    function: str, data: st.DataObject, scale: float
) -> None:
    def anywhere(slope: np.ndarray) -> np.ndarray:
        return scale * np.tan(1e17 * slope)

    rule = rule_for(function)
    assert isinstance(rule, Curve)
    pieces = tuple(piece._replace(touches=anywhere) for piece in rule.pieces)
    case = draw_case(function, data)
    holds(replace(rule, pieces=pieces), CURVES[function][0], decimal, case, {})


def touching(function: str, s: float) -> Iterator[object]:
    """Return the places at which the function's slope is s."""
    s = DIGITS.mpf(s)
    if function == "exp" and s > 0:
        yield DIGITS.log(s)
    elif function in ("sigmoid", "tanh"):
        scale, s = (1, s) if function == "sigmoid" else (2, s / 4)
        if 1e-50 < s < 0.25:
            y = (1 - DIGITS.sqrt(1 - 4 * s)) / 2
            yield from (DIGITS.log(y / (1 - y)) / scale, DIGITS.log((1 - y) / y) / scale)
    elif function == "log" and s > 0:
        yield 1 / s
    elif function == "sqrt" and s > 0:
        yield 1 / (4 * s * s)
    elif function == "square":
        yield s / 2
    elif function == "cube" and s > 0:
        yield from (DIGITS.sqrt(s / 3), -DIGITS.sqrt(s / 3))
    elif function == "reciprocal" and s < 0:
        yield from (1 / DIGITS.sqrt(-s), -1 / DIGITS.sqrt(-s))


@pytest.mark.precision
@pytest.mark.parametrize("function", CURVES)
@settings(max_examples=50)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_offsets_of_smooth_functions_are_optimal_up_to_rounding(
    function: str, data: st.DataObject, seed: int
) -> None:
    exact, _ = CURVES[function]
    positive = function in ("log", "sqrt", "reciprocal")
    pair = data.draw(intervals(st.floats(1e-3, 60) if positive else st.floats(-60, 60)))
    slope = data.draw(st.one_of(st.floats(-2, 2), st.sampled_from(SLOPES[:11])))
    places = [*map(DIGITS.mpf, pair), *touching(function, slope), DIGITS.mpf(0)]
    places = [z for z in places if pair[0] <= z <= pair[1]]
    values = [exact(z) - DIGITS.mpf(slope) * z for z in places]
    scale = max(abs(exact(z)) + abs(DIGITS.mpf(slope) * z) for z in places)
    rule, box = rule_for(function), boxes([pair])
    below = float(rule.offset_below(arrays([slope]), box, {})[0])
    above = float(rule.offset_above(arrays([slope]), box, {})[0])
    assert 0 <= min(values) - below <= 1e-14 * scale + 5e-323
    assert 0 <= above - max(values) <= 1e-14 * scale + 5e-323


@pytest.mark.precision
def test_unbounded_boxes_have_the_lines_that_exist() -> None:
    def offsets(function: str, slope: float, low: float, high: float) -> tuple[float, float]:
        rule, box = rule_for(function), boxes([(low, high)])
        below, above = rule.offset_below, rule.offset_above
        return tuple(float(f(arrays([slope]), box, {})[0]) for f in (below, above))

    inf = math.inf
    expected = {
        ("exp", 1.0, -inf, inf): (1, inf),
        ("exp", 0.0, -inf, 0.0): (0, 1),
        ("square", 2.0, -inf, inf): (-1, inf),
        ("cube", 3.0, 0.0, inf): (-2, inf),
        ("cube", 3.0, -inf, 0.0): (-inf, 2),
        ("sigmoid", 0.0, -inf, inf): (0, 1),
        ("sigmoid", 0.25, -inf, 0.0): (0.5, inf),
        ("tanh", 0.0, -1e300, inf): (-1, 1),
        ("tanh", 1.0, 0.0, inf): (-inf, 0),
        ("tanh", 1.0, -1e300, 1.0): (math.tanh(1) - 1, 1e300),
        ("log", 1.0, 0.5, inf): (-inf, -1),
        ("log", 0.0, 1.0, inf): (0, inf),
        ("sqrt", 0.5, 0.0, inf): (-inf, 0.5),
        ("reciprocal", 0.0, 1.0, inf): (0, 1),
        ("reciprocal", -1.0, 1e-300, inf): (2, inf),
        ("relu", 1.0, -inf, inf): (0, inf),
        ("relu", 0.5, 0.0, inf): (0, inf),
        ("abs", -1.0, -inf, 3.0): (0, 6),
        ("floor", 1.0, -inf, inf): (-1, 0),
    }
    for (function, *case), (below, above) in expected.items():
        got = offsets(function, *case)
        assert got == pytest.approx((below, above), rel=1e-13, abs=1e-13), (function, case, got)


@pytest.mark.soundness
@pytest.mark.parametrize("function", ["log", "sqrt", "reciprocal"])
def test_boxes_that_leave_the_domain_have_no_bounds(function: str) -> None:
    for pair in ((-1.0, 1.0), (-5e-324, 2.0), (-math.inf, math.inf), (0.0, 0.0), (0.0, 1.0)):
        if function == "sqrt" and pair[0] == 0:
            continue
        assert rule_for(function).range(boxes([pair]), {}) == (-math.inf, math.inf)
