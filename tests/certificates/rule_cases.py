"""What the tests of rules share: boxes and slopes that hurt, and the check of lines at points."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import mpmath
import numpy as np
from hypothesis import strategies as st

from absolver.certificates.rounding import Box
from absolver.certificates.rules.rule import Rule

DIGITS = mpmath.mp.clone()
DIGITS.dps = 60
Exact = Callable[..., object]

ENDS = (0.0, -0.0, 5e-324, -5e-324, 1e-310, 1.0, -1.0, 0.5, -0.5, 1.5, 3.0, -2.0, 1 / 3, -1e-9)
ENDS += (1e-30, 1 + 2.0**-52, 1 - 2.0**-53, 20.0, -45.0, 700.0, 1e16, 2.0**53 + 2, 1e300, -1.7e308)
SLOPES = (0.0, 1.0, -1.0, 0.5, 0.25, 1 / 3, 0.1, 1 - 2.0**-53, 2.0, -0.7, 1e-8, 1e-300, -5e-324)
SLOPES += (1e8, -1e200)
LARGEST, HUGE = math.nextafter(math.inf, 0), Fraction(2) ** 3000
ends = st.one_of(st.sampled_from(ENDS), st.floats(-50, 50), st.floats(allow_nan=False))
slopes = st.one_of(st.sampled_from(SLOPES), st.floats(-2, 2), st.floats(-1e300, 1e300))


@st.composite
def intervals(draw: st.DrawFn, elements: st.SearchStrategy[float] = ends) -> tuple[float, float]:
    """Draw two ends: any, an ulp apart, or the same ones, at most one of them infinite."""
    lower = draw(elements.filter(math.isfinite))
    upper = draw(st.one_of(elements, st.just(lower), st.just(math.nextafter(lower, math.inf))))
    return (lower, upper) if lower <= upper else (upper, lower)


def inside(lower: float, upper: float, random: np.random.Generator) -> list[float]:
    """Return the ends, the marked places between them, and points on all scales from the ends."""
    low, high = max(lower, -LARGEST), min(upper, LARGEST)
    parts = np.array([0.05, 0.5, 0.95, 1e-3, 2.0**-40, 1 - 2.0**-40])
    scales = np.array([1e-300, 1e-12, 1e-4, 1.0, 30.0, 1e100])
    near = np.concatenate([low * (1 - parts) + high * parts, low + scales, high - scales])
    steps = [math.nextafter(low, math.inf), math.nextafter(high, -math.inf)]
    points = [*ENDS, *near.tolist(), *steps, *np.round(near).tolist()]
    points = [z for z in points if low <= z <= high]
    return random.permutation([low, high, *random.permutation(points)[:25]]).tolist()


def arrays(values: Sequence[float]) -> list[np.ndarray]:
    return [np.array([value]) for value in values]


def boxes(pairs: Sequence[tuple[float, float]]) -> list[Box]:
    return [Box(np.array([lower]), np.array([upper])) for lower, upper in pairs]


def holds(rule: Rule, exact: Exact, number: Callable, case: tuple, attributes: dict) -> None:
    """Check both offsets and the range at points of the boxes, with no tolerance."""
    (pairs, slope, random), box = case, boxes(case[0])
    below = number(float(rule.offset_below(arrays(slope), box, attributes)[0]))
    above = number(float(rule.offset_above(arrays(slope), box, attributes)[0]))
    low, high = (number(float(end[0])) for end in rule.range(box, attributes))
    for z in zip(*(inside(*pair, random) for pair in pairs), strict=False):
        value = exact(*(number(float(x)) for x in z))
        line = sum(number(s) * number(float(x)) for s, x in zip(slope, z, strict=True))
        assert low <= value <= high, (pairs, z)
        assert line + below <= value <= line + above, (pairs, slope, z)


def rational(x: float) -> Fraction:
    """Return a float exactly; an infinite one as a number that exceeds all that occur."""
    return Fraction(x) if math.isfinite(x) else (HUGE if x > 0 else -HUGE)


def decimal(x: float) -> object:
    return DIGITS.mpf(x)


@st.composite
def unary(draw: st.DrawFn, elements: st.SearchStrategy[float] = ends) -> tuple:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return [draw(intervals(elements))], [draw(slopes)], random
