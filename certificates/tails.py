"""Upper bounds of probabilities, with integers alone: tails of counts, and noise moved by a radius.

Every number is positive and every rounding goes to the side that makes the bound larger.
"""

from fractions import Fraction
from math import isqrt

BITS = 256
"""Digits of a rounded number, in bits: errors of 2^-256 are nothing beside any alpha."""
ONE = 1 << BITS
PI_LOWER = Fraction(31415926535897932384626433832795028841971693993751, 10**49)
"""49 decimals of pi, cut off."""
PI_UPPER = PI_LOWER + Fraction(1, 10**49)
FARTHEST = 20
NOTHING = Fraction(1, 1 << 240)
"""More than the normal distribution and its density beyond 20 deviations, which are below 2^-280.

Also more than the part by which `root` exceeds a square root near 1.
"""


def binomial_tail(n: int, k: int, q: Fraction) -> Fraction:
    """At least the probability of k or more hits in n independent trials, each of probability q.

    The first term is C(n, k) q^k (1 - q)^(n - k). The ratio of a term to the one before decreases,
    so that where it is below 1 the rest is at most a geometric sum.
    """
    if not (0 <= k <= n and 0 < q < 1) or (n - k) * q >= (k + 1) * (1 - q):
        return Fraction(1)  # below the most probable count a tail is no small number
    hit, miss = q.numerator, q.denominator - q.numerator
    term, total, i = ONE, 0, k
    while i < n:
        over, under = (n - i) * hit, (i + 1) * miss
        if term < ONE >> 64:
            break
        total, term, i = total + term, -(-term * over // under), i + 1
    rest = Fraction(term * (i + 1) * miss, (i + 1) * miss - (n - i) * hit)
    factors = power(q, k, up=True), power(1 - q, n - k, up=True)
    mantissa, exponent = _choices(n, k)
    for m, e in factors:
        mantissa, exponent = _shortened(mantissa * m, exponent + e, up=True)
    whole = (total + rest) / ONE * mantissa
    return whole * (1 << exponent) if exponent >= 0 else whole / (1 << -exponent)


def power(base: Fraction, exponent: int, *, up: bool) -> tuple[int, int]:
    """Bound base^exponent, for a base in [0, 1], by m 2^e, given as (m, e)."""
    square = _digits(base, up=up)
    result = (1, 0)
    while exponent:
        if exponent & 1:
            result = _shortened(result[0] * square[0], result[1] + square[1], up=up)
        square = _shortened(square[0] ** 2, 2 * square[1], up=up)
        exponent >>= 1
    return result


def normal(t: Fraction) -> tuple[Fraction, Fraction]:
    """Bound the normal distribution function from below and above.

    At t >= 0 it is 1/2 + phi(t) (t + t^3 / 3 + t^5 / (3 5) + ...).
    """
    if t < 0:
        low, high = normal(-t)
        return 1 - high, 1 - low
    if t > FARTHEST:
        return 1 - NOTHING, Fraction(1)
    (low, high), (below, above) = _series(t, t * t, 3, 2), density(t)
    return Fraction(1, 2) + low * below, Fraction(1, 2) + high * above


def density(t: Fraction) -> tuple[Fraction, Fraction]:
    """Bound phi(t) = e^(-t^2 / 2) / sqrt(2 pi) from below and above."""
    if abs(t) > FARTHEST:
        return Fraction(0), NOTHING
    low, high = _series(Fraction(1), t * t / 2, 1, 1)
    return 1 / (high * root(2 * PI_UPPER)), (1 + NOTHING) / (low * root(2 * PI_LOWER))


def decay(x: Fraction) -> tuple[Fraction, Fraction]:
    """Bound e^-x from below and above, for x >= 0."""
    if x > FARTHEST**2:
        return Fraction(0), NOTHING
    low, high = _series(Fraction(1), x, 1, 1)
    return 1 / high, 1 / low


def root(x: Fraction) -> Fraction:
    """At least the square root of x >= 0."""
    return Fraction(isqrt(-(-x.numerator * ONE * ONE // x.denominator)) + 1, ONE)


def dyadic(q: Fraction) -> Fraction:
    """At least q, with a short denominator."""
    return Fraction(-(-q.numerator * ONE // q.denominator), ONE)


def _series(
    first: Fraction, factor: Fraction, divisor: int, step: int
) -> tuple[Fraction, Fraction]:
    """Enclose a sum of terms; to the next one they are multiplied by factor / divisor.

    The divisor grows by a step each time.
    """
    low = first.numerator * ONE // first.denominator
    high, lower, upper = low + 1, 0, 0
    over, under = factor.numerator, factor.denominator
    # From a divisor above twice the factor, the rest is at most as much again as its first term.
    while high > 256 or divisor * under <= 2 * over:
        lower, upper = lower + low, upper + high
        low, high = low * over // (divisor * under), -(-high * over // (divisor * under))
        divisor += step
    return Fraction(lower, ONE), Fraction(upper + 2 * high, ONE)


def _choices(n: int, k: int) -> tuple[int, int]:
    """At least the number of ways to choose k of n."""
    mantissa, exponent = ONE, -BITS
    for j in range(min(k, n - k)):
        raised = -(-mantissa * (n - j) // (j + 1))
        mantissa, exponent = _shortened(raised, exponent, up=True)
    return mantissa, exponent


def _digits(x: Fraction, *, up: bool) -> tuple[int, int]:
    scaled = x.numerator * ONE
    return (-(-scaled // x.denominator) if up else scaled // x.denominator), -BITS


def _shortened(mantissa: int, exponent: int, *, up: bool) -> tuple[int, int]:
    cut = max(mantissa.bit_length() - BITS, 0)
    return (-(-mantissa >> cut) if up else mantissa >> cut), exponent + cut
