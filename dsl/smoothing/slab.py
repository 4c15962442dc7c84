"""The worst case of normal noise where the gradient of the probability is bounded as well.

Of all sets that are at least as probable, and from which a move gains no less at first, a slab
between two parallel planes is what the move leaves the least probable (Mohapatra et al. 2020,
Higher-Order Certification for Randomized Smoothing). All is in units of the deviation.
"""

from math import erf, exp, inf, pi, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NORMAL = NormalDist()
HALVINGS = 64


def steepest(p: Floats) -> Floats:
    """The largest gradient that a probability can have: that of a half-space."""
    inside = np.clip(p, 1e-300, 1 - 1e-16)
    return np.array([NORMAL.pdf(NORMAL.inv_cdf(float(each))) for each in inside], np.float64)


def slab(p: float, gradient: float) -> tuple[float, float]:
    """Return the ends of the slab of probability p whose gradient is just at least as large.

    The lower end is minus infinity where only a half-space is so steep.
    """
    low, high = 0.0, (1 - p) / 2
    for _ in range(HALVINGS):
        tail = (low + high) / 2
        if 0 < tail and _density(_quantile(tail + p)) - _density(_quantile(tail)) >= gradient:
            low = tail
        else:
            high = tail
    return (_quantile(low) if low > 0 else -inf), _quantile(low + p)


def slab_move(lower: float, upper: float) -> float:
    """Return the largest move that leaves a slab a probability of 1/2."""
    low, high = 0.0, upper - NORMAL.inv_cdf(0.5) + 1.0
    for _ in range(HALVINGS):
        move = (low + high) / 2
        left = _cdf(upper - move) - _cdf(lower - move)
        low, high = (move, high) if left > 0.5 else (low, move)
    return low


def _quantile(p: float) -> float:
    return NORMAL.inv_cdf(min(max(p, 1e-300), 1 - 1e-16))


def _density(t: float) -> float:
    return exp(-t * t / 2) / sqrt(2 * pi)


def _cdf(t: float) -> float:
    return (1 + erf(t / sqrt(2))) / 2
