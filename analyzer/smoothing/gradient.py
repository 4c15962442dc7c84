"""A bound of the gradient of a label's probability under normal noise, from the same samples.

With z the noise in deviations and f = 1 where the label comes out, the gradient times the deviation
is m = E[f z]. A and B are the means of f z over each half of the samples. In a fixed direction u,
E e^(s f u.z) <= e^(s^2 / 2) + s E[f u.z], as e^x - 1 - x >= 0; with |E[f u.z]| <= 0.4 the mean of k
samples is e or more below its expectation with a probability of at most e^(-k e^2 (1/2 - e / 5)).
So, but for one such event of each half, m.B <= A.B + e |B| and m.B >= |m| (|m| - e): the first in
the direction of B, which A does not depend on, the second in that of m.
"""

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

MARGIN = 1e-9
"""Far above what the sums of binary64 may have lost."""


@dataclass(frozen=True)
class HalfMeans:
    """A.B and |B|, both rounded up."""

    dot: float
    size: float


class GradientSum:
    """The sums of the noise at hits, over each half of the samples."""

    def __init__(self, samples: int) -> None:
        """Start with nothing."""
        self._samples, self._half = samples, samples // 2
        self._sums: list[NDArray[np.float64] | float] = [0.0, 0.0]

    def add(self, numbers: range, hits: NDArray[np.bool_], noise: NDArray[np.float64]) -> None:
        """Add samples with these numbers."""
        second = np.arange(numbers.start, numbers.stop) >= self._half
        flat = noise.reshape(len(numbers), -1)
        for part in (0, 1):
            self._sums[part] = self._sums[part] + flat[hits & (second == bool(part))].sum(0)

    def means(self) -> HalfMeans:
        """Return what has to be known of both means."""
        a = np.asarray(self._sums[0]) / max(self._half, 1)
        b = np.asarray(self._sums[1]) / (self._samples - self._half)
        return HalfMeans(float(a @ b) + MARGIN, float(np.linalg.norm(b)) + MARGIN)


def deviation(samples: int, alpha: float) -> float:
    """The e for which each half deviates by more with a probability of at most alpha; at most 1.

    Where 1 is not enough, the result is infinite.
    """
    wanted, half = log(1 / alpha) * (1 + 1e-9), samples // 2
    if half * (0.5 - 0.2) < wanted:
        return float("inf")
    e = sqrt(2 * wanted / half)
    while half * e * e * (0.5 - e / 5) < wanted:
        e *= 1 + 1e-6
    return e


def gradient_bound(means: HalfMeans, e: float) -> float:
    """The largest |m| with |m| (|m| - e) <= A.B + e |B|."""
    return (e + sqrt(e * e + 4 * max(means.dot + e * means.size, 0.0))) / 2 + MARGIN
