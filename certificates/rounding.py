"""Directed rounding in float64: the exact result where it is a float64, else one step outwards.

It needs only that `+` and `*` round to nearest, as numpy's elementwise operations do. A lower bound
that would be NaN is -inf, an upper one inf.
"""

from typing import NamedTuple

import numpy as np

from absolver.certificates.network import Floats

UNIT = 2.0**-53
"""The unit roundoff of float64."""
STEP, TINY, LARGEST = UNIT * (1 + 2 * UNIT), 2.0**-1074, float(np.finfo(np.float64).max)

Numbers = Floats | float


class Box(NamedTuple):
    """Closed intervals, elementwise; an infinite end means that there is no bound."""

    lower: Floats
    upper: Floats


@np.errstate(all="ignore")
def down(x: Numbers) -> Floats:
    """Return a float64 before x, below every real number that rounds to x: most often the next.

    Rump, Zimmermann, Boldo, Melquiond: Computing predecessor and successor in rounding to nearest
    (BIT 2009), theorem 2.2. Below infinity it is a large number, and -inf where x is NaN.
    """
    x = np.minimum(x, LARGEST)
    return np.fmax(x - (np.abs(x) * STEP + TINY), -np.inf)


def up(x: Numbers) -> Floats:
    """Return a float64 after x: above every real number that rounds to x."""
    return -down(np.negative(x))


@np.errstate(all="ignore")
def add_down(x: Numbers, y: Numbers) -> Floats:
    """Return a lower bound of x + y."""
    total = np.add(x, y)
    # The rounding error of a sum, exactly, in terms of floats (Knuth, TAOCP 2, 4.2.2, theorem B).
    # Where something overflows it is no number or infinite, and is not believed.
    shifted = total - x
    return _below(total, (x - (total - shifted)) + (y - shifted))


def add_up(x: Numbers, y: Numbers) -> Floats:
    """Return an upper bound of x + y."""
    return -add_down(np.negative(x), np.negative(y))


@np.errstate(all="ignore")
def mul_down(x: Numbers, y: Numbers) -> Floats:
    """Return a lower bound of x * y, where 0 * inf = 0."""
    zero = (np.equal(x, 0) | np.equal(y, 0)) & ~np.isnan(np.add(x, y))
    product = np.where(zero, 0.0, np.multiply(x, y))
    (x_high, x_low), (y_high, y_low) = _halves(x), _halves(y)
    # The rounding error of a product, exactly (Dekker 1971, "A floating-point technique for
    # extending the available precision"), where it is far from underflow.
    error = ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low
    known = np.abs(product) > 2.0**-900
    # A product that is 0, or underflows to 0 from above, is at least 0.
    positive = (product == 0) & ~np.signbit(product)
    return _below(product, np.where(positive, 0.0, np.where(known, error, np.nan)))


def mul_up(x: Numbers, y: Numbers) -> Floats:
    """Return an upper bound of x * y, where 0 * inf = 0."""
    return -mul_down(np.negative(x), y)


def point(x: Numbers) -> Box:
    """Return intervals of one number each."""
    return Box(np.asarray(x, np.float64), np.asarray(x, np.float64))


def mirrored(a: Box) -> Box:
    """Return the intervals of all negatives."""
    return Box(-a.upper, -a.lower)


def plus(a: Box, b: Box) -> Box:
    """Return intervals of all sums."""
    return Box(add_down(a.lower, b.lower), add_up(a.upper, b.upper))


def times(a: Box, b: Box) -> Box:
    """Return intervals of all products: their extremes are at the ends, 0 * inf being 0."""
    lower: Floats = np.minimum.reduce([mul_down(x, y) for x in a for y in b])
    upper: Floats = np.maximum.reduce([mul_up(x, y) for x in a for y in b])
    return Box(lower, upper)


@np.errstate(all="ignore")
def gamma(k: Numbers, unit: float = UNIT) -> Floats:
    """Return an upper bound of `k u / (1 - k u)` for a unit roundoff u that is a power of two.

    It bounds the relative error of k roundings in any order (Higham, Accuracy and Stability of
    Numerical Algorithms, lemma 3.1); inf where k u is not below 1.
    """
    part = np.multiply(k, unit)
    return np.where(part == 0, 0.0, np.where(part < 1, up(part / add_down(1.0, -part)), np.inf))


def _below(value: Floats, error: Floats) -> Floats:
    """Return a lower bound of value + error, where an error that is finite is exact."""
    return np.where((error >= 0) & (error < np.inf), value, down(value))


def _halves(x: Numbers) -> tuple[Floats, Floats]:
    """Split x into a sum of floats of 26 bits each (Dekker 1971)."""
    scaled = np.multiply(x, 2.0**27 + 1)
    high = scaled - (scaled - x)
    return high, x - high
