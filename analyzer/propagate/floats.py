"""A-priori rounding errors without a rounding mode: valid in any order, on any device.

Higham, "Accuracy and Stability of Numerical Algorithms", lemma 3.1; every quantity here is rounded
up by a factor that covers its own evaluation.
"""

from math import inf

import torch
from torch import Tensor

from absolver.analyzer.regions.rounding import next_above, next_below, round_down

DOUBLE = 2.0**-53
"""The unit roundoff of float64."""
# An a-priori error of more than half of what is summed says nothing any more.
_LARGEST_SHARE = 0.5


def unit(dtype: torch.dtype) -> float:
    """Return the unit roundoff of a dtype."""
    return torch.finfo(dtype).eps / 2


def gamma(roundings: int, u: float) -> float:
    """Bound the relative error of a product of that many roundings: `n u / (1 - n u)`, and a bit.

    The bit covers that it multiplies what a few operations of float64 computed. A sum that is too
    long for its dtype has no bound.
    """
    share = roundings * u
    if share > _LARGEST_SHARE:
        return inf
    return share / (1 - share) * (1 + 2.0**-20)


def summed_up(value: Tensor, terms: int) -> Tensor:
    """Return, in float64, a number that is at least the sum of non-negative terms.

    `value` is that sum as it was computed, in any order, with at most `terms` roundings on the
    way of each term.
    """
    dtype = value.dtype
    inflation = 1 + 2 * gamma(terms + 2, unit(dtype))
    return value.double() * inflation + terms * torch.finfo(dtype).tiny


def evaluation_error(size: Tensor, terms: int, dtype: torch.dtype) -> Tensor:
    """Bound, in float64, the error of a sum of products that was computed in a dtype.

    `size` is at least the sum of the terms' sizes, in float64.
    """
    return gamma(terms + 1, unit(dtype)) * size + terms * torch.finfo(dtype).tiny


def raised(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert a non-negative float64 that a few operations computed, upward; 0 stays 0."""
    if dtype == x.dtype:
        return torch.where(x > 0, next_above(x * (1 + 16 * DOUBLE)), x)
    # One part in 2^20 is far above the conversion's rounding, and the least number where that is
    # subnormal.
    more = x * (1 + 2.0**-20) + torch.finfo(dtype).tiny
    return torch.where(x > 0, more, x).to(dtype)


def below(x: Tensor, error: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a number of a dtype that is at most `x - error`, and x where the error is 0."""
    lowered = next_below(x - error * (1 + 16 * DOUBLE))
    kept = torch.where(error == 0, x, lowered)
    return kept if dtype == kept.dtype else round_down(kept, dtype)


def above(x: Tensor, error: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a number of a dtype that is at least `x + error`, and x where the error is 0."""
    return -below(-x, error, dtype)


def add_below(x: Tensor, y: Tensor) -> Tensor:
    """Return a float64 that is at most `x + y`."""
    total = x + y
    # 4: one rounding of the sum, one of this subtraction, with room.
    return torch.sub(total, total.abs(), alpha=4 * DOUBLE)


def add_up(x: Tensor, y: Tensor) -> Tensor:
    """Return a float64 that is at least `x + y`."""
    return -add_below(-x, -y)


def distance(center: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Bound the distance of the points of intervals from a point, rounded up; 0 is exact."""
    far = torch.maximum(upper.double() - center.double(), center.double() - lower.double())
    far = torch.nan_to_num(far, nan=torch.inf, posinf=torch.inf).clamp(min=0)
    # A difference of float64 is 0 or rounded by its own unit.
    return far * (1 + 4 * DOUBLE) if center.dtype == far.dtype else raised(far, center.dtype)


def magnitude(lower: Tensor, upper: Tensor) -> Tensor:
    """Return the largest absolute value in an interval."""
    return torch.maximum(lower.abs(), upper.abs())
