"""Enclosures of elementary functions, proved from IEEE arithmetic: no library function is trusted.

Only `+ - * /`, square roots and scaling by powers of two are assumed to round as IEEE 754 says.
u is 2^-53. Each function returns intervals that hold its values at all real x, and its limits.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.network import Floats
from absolver.certificates.rounding import (
    LARGEST,
    Box,
    add_down,
    add_up,
    down,
    mirrored,
    mul_down,
    mul_up,
    plus,
    point,
    times,
    up,
)

LN2 = float.fromhex("0x1.62e42fefa39efp-1")
"""The float64 below ln 2; the one above is the next."""
LN2_HIGH, LN2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
"""ln 2 up to 2^-86 in two parts, the first of 32 bits."""

QUARTER: Sequence[float] = tuple(
    float.fromhex(x) for x in ("0x1.921fb544p+0", "0x1.0b4611a6p-34", "0x1.3198a2e037073p-69")
)
"""pi / 2 up to 2^-122 in three parts, the first two of 33 bits."""

MARGIN = 2.0**-50
"""8 u: a value with a relative error below 6 u, times 1 - 8 u and rounded, is a lower bound."""


@np.errstate(all="ignore")
def exp(x: Floats) -> Box:
    """Enclose e^x.

    With k = round(x / ln 2), e^x = 2^k e^r for r = x - k ln 2, |r| < 0.347. As |k| < 2^11,
    k LN2_HIGH is exact, and so is its difference from x (both are multiples of 2^-54, or k = 0).
    The rest of r has an error of |r| u <= 0.35 u from its subtraction, and one below 10^-6 u from
    k LN2_LOW. The product in e^r = 1 + r g(r) is at most 0.42 e^r, so that the relative error is at
    most 0.36 u (from r) + 0.42 (1.8 u + u) + u < 3 u.
    """
    bounded = np.clip(x, -746.0, 710.0)  # e^-746 is below and e^710 above all positive float64
    k = np.rint(bounded / LN2)
    r = (bounded - k * LN2_HIGH) - k * LN2_LOW
    power, k = 1 + r * _growth(r), np.nan_to_num(k).astype(np.int32)
    lower, upper = (np.ldexp(power * factor, k) for factor in (1 - MARGIN, 1 + MARGIN))
    return Box(np.maximum(down(lower), 0.0), up(upper))


@np.errstate(all="ignore")
def sigmoid(x: Floats) -> Box:
    """Enclose 1 / (1 + e^-x): y = e / (1 + e) for e = e^-|x|, with which it grows, or 1 - y."""
    e = exp(-np.abs(x))
    lower = np.maximum(down(e.lower / add_up(1.0, e.lower)), 0.0)
    y = Box(lower, up(e.upper / add_down(1.0, e.upper)))
    return _where(x < 0, y, plus(point(1.0), mirrored(y)))


@np.errstate(all="ignore")
def tanh(x: Floats) -> Box:
    """Enclose tanh x: for x > 0 it is d / (d + 2) for d = e^2x - 1, with which it grows.

    Near 0, d = 2x g(2x) with a relative error below 3 u. Above 20, it is between tanh 20 and 1.
    """
    t = np.minimum(2 * np.abs(x), 40.0)
    product = t * _growth(np.minimum(t, 0.34))
    close = Box(down(product * (1 - MARGIN)), up(product * (1 + MARGIN)))
    low, high = _where(t < 0.34, close, plus(exp(t), point(-1.0)))
    upper = np.where(t < 40, up(high / add_down(high, 2.0)), 1.0)
    # tanh x is at most x and at most 1.
    y = Box(np.maximum(down(low / add_up(low, 2.0)), 0.0), np.fmin(upper, np.fmin(np.abs(x), 1.0)))
    return _where(x < 0, mirrored(y), y)


@np.errstate(all="ignore")
def log(x: Floats) -> Box:
    """Enclose ln x for x > 0; no bound elsewhere.

    x = 2^k m with m between sqrt(1/2) and sqrt(2); ln m = 2 s (1 + s^2 / 3 + s^4 / 5 + ...) for
    s = (m - 1) / (m + 1), where m - 1 is exact (Sterbenz). Relative errors: 2 u of s, 5 u of
    q = s^2 < 0.0295, 9 u of the sum after the 1, which is at most 0.0101, and less than 10^-19
    beyond 11 terms; so 2 u + 1.1 u + u < 5 u of ln m.
    """
    m, k = np.frexp(np.where(x > 0, np.minimum(x, LARGEST), np.nan))
    small = m < np.sqrt(0.5)
    m, k = np.where(small, 2 * m, m), k - small.astype(np.float64)
    s = (m - 1) / (m + 1)
    q, total = s * s, np.zeros_like(s)
    for n in range(23, 1, -2):
        total = q * (total + 1 / n)
    part = 2 * s * (1 + total)
    error = np.abs(part) * MARGIN
    whole = Box(add_down(part, -error), add_up(part, error))
    whole = plus(times(point(k), Box(np.asarray(LN2), up(LN2))), whole)
    return Box(whole.lower, np.where(x > LARGEST, np.inf, whole.upper))


@np.errstate(all="ignore")
def wave(x: Floats, quarters: int) -> Box:
    """Enclose sin(x + quarters pi / 2): by [-1, 1] where |x| > 2^20, or x is no number.

    With k = round(x 2 / pi) and r = x - k pi / 2, |r| < 0.786, it is the sine or cosine of r, or
    minus that. As |k| < 2^20, the products of k and the first two parts of pi / 2 are exact, and so
    is the first difference: a multiple of 2^-53 below 1. The second one is a multiple of 2^-66, so
    it is exact if it is below 2^-13, else nearly r: r has an error of at most 2.01 u |r| + |k|
    2^-120, which changes neither function more, nor, without the last term, in relation to itself.
    In a step 1 - c t of Taylor's sum, c t is at most 0.415 of the result for the cosine, 0.111 for
    the sine, and 0.055 before the last step; it gets three roundings. So the relative error of the
    sum is at most 2.8 u and 1.5 u, and with that of r and a product by r below 4.6 u. What the sum
    leaves out is below 10^-20.
    """
    moderate = np.abs(x) <= 2.0**20
    bounded = np.where(moderate, x, 0.0)
    k = np.rint(bounded / QUARTER[0])
    r = ((bounded - k * QUARTER[0]) - k * QUARTER[1]) - k * QUARTER[2]
    turn = (k + quarters) % 4
    odd, total = turn % 2 == 1, np.ones_like(r)
    for n in range(18, 0, -2):
        total = 1 - r * r / (n * np.where(odd, n - 1.0, n + 1.0)) * total
    value = np.where(turn < 2, 1.0, -1.0) * np.where(odd, 1.0, r) * total
    error = np.abs(value) * MARGIN + np.abs(k) * 2.0**-116
    lower, upper = np.maximum(down(value - error), -1.0), np.minimum(up(value + error), 1.0)
    return _where(moderate, Box(lower, upper), Box(np.full_like(r, -1.0), np.ones_like(r)))


@np.errstate(all="ignore")
def sqrt(x: Floats) -> Box:
    """Enclose the square root of x >= 0, exactly where it is a float64; no bound elsewhere."""
    root = np.sqrt(x)
    exact = (mul_up(root, root) <= x) & (x <= mul_down(root, root))
    return _where(exact, point(root), Box(down(root), up(root)))


@np.errstate(all="ignore")
def reciprocal(x: Floats) -> Box:
    """Enclose 1 / x; at 0 and infinity its limits."""
    size = 1 / np.abs(x)
    y = Box(np.maximum(down(size), 0.0), up(size))
    return _where(x < 0, mirrored(y), y)


def _growth(r: Floats) -> Floats:
    """Compute g(r) = (e^r - 1) / r for |r| < 0.347 with a relative error below 1.8 u.

    Horner's scheme for Taylor's sum; what it leaves out is below r^14 / 15! < 10^-18. In a step
    1 + (r / n) g the second term is at most 0.2 of the sum and gets two roundings, so that an error
    d of g becomes at most 0.2 (d + 2 u) + u, which stays below 1.76 u.
    """
    g = np.ones_like(r)
    for n in range(14, 1, -1):
        g = 1 + (r / n) * g
    return g


def _where(condition: NDArray[np.bool_], a: Box, b: Box) -> Box:
    return Box(np.where(condition, a.lower, b.lower), np.where(condition, a.upper, b.upper))
