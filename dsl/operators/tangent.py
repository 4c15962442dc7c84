"""The tangent bound: what makes any proposed point of a convex piece sound."""

from collections.abc import Callable
from math import inf

import torch
from torch import Tensor

from absolver.dsl.operators.record import Interval

Function = Callable[[Tensor], Tensor]
# A sigmoid of 64 is 1 in float64; far beyond it, `slope x + b f(x)` would cancel to rounding.
SATURATED = 64.0


def tangent_bound(
    slope: Tensor, b: Tensor, f: tuple[Function, Function], here: Interval, proposed: Tensor
) -> Tensor:
    """Bound `h(x) = slope x + b f(x)` on an interval where h is convex; f is (value, derivative).

    Guarantee: `h(t) + min(h'(t) (l - t), h'(t) (u - t))` is at most h on `[l, u]`, for the t of
    the interval nearest to whatever is proposed; it is the minimum of h if t is stationary.

    The gradient of the result is that of the minimum: by the envelope theorem the stationary
    point counts as constant, and the tangent's drop, which is 0 there, as well.
    """
    value, derivative = f
    lower, upper = here
    x = tangent_point(here, proposed)
    with torch.no_grad():
        steepness = torch.addcmul(slope, b, derivative(x))
        drop = torch.minimum(_times(steepness, lower - x), _times(steepness, upper - x))
    return torch.addcmul(slope * x, b, value(x)) + drop


def tangent_point(here: Interval, proposed: Tensor) -> Tensor:
    """Return the point of an interval at which the tangent is taken: near what is proposed."""
    x = torch.clamp(proposed.detach().nan_to_num(posinf=inf, neginf=-inf), *here)
    # An infinite proposal that no end of the interval stops: a derivative's limit, taken nearby.
    return torch.where(x.isinf(), torch.clamp(x.sign() * SATURATED, *here), x)


def _times(steepness: Tensor, width: Tensor) -> Tensor:
    """Multiply, with 0 for a vertical tangent (sqrt at 0) over no width."""
    return torch.nan_to_num(steepness * width, nan=0.0, posinf=inf, neginf=-inf)
