"""Sine and cosine: `cos(x - crest)`, with the float error of the period accounted for."""

from abc import abstractmethod
from collections.abc import Sequence
from math import pi
from typing import ClassVar

import torch
from torch import Tensor

from absolver.dsl.operators.record import Interval, Operator, Shape, trusted
from absolver.dsl.operators.rounding import magnitude, product
from absolver.dsl.operators.shaving import shave
from absolver.dsl.operators.tangent import tangent_bound

PERIOD = 2 * pi


class Wave(Operator):
    """`cos(x - crest)`.

    `a x + b f(x)` changes by `a P` in a period P, so it is least in the first period of the box
    for `a >= 0` and in the last one for `a < 0`. There it is least at an end of the box, or on one
    of two half-waves on which `b f` is convex, where every tangent is below it.
    """

    operands: ClassVar[tuple[str, ...]] = ("x",)
    shape: ClassVar[Shape] = Shape.OTHER
    smooth: ClassVar[bool] = True
    monotone: ClassVar[bool] = False
    piecewise_linear: ClassVar[bool] = False
    crest: ClassVar[float]
    """The float nearest to one place where the wave is 1."""

    @abstractmethod
    def __call__(self, *operands: Tensor) -> Tensor:
        """Evaluate the wave."""

    @abstractmethod
    def slope_at(self, x: Tensor) -> Tensor:
        """Evaluate the derivative, `cos(x - crest + pi / 2)`."""

    def support(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Minimise over both ends and two convex half-waves."""
        (slope,), ((lower, upper),) = a, box
        height = b.abs()
        ends = torch.minimum(slope * lower, slope * upper)
        trivial = ends - height
        least = torch.minimum(
            torch.addcmul(slope * lower, b, self(lower)),
            torch.addcmul(slope * upper, b, self(upper)),
        )
        forward = slope >= 0
        start = torch.where(forward, lower, upper)
        trough = torch.where(b > 0, self.crest + pi, torch.full_like(b, self.crest))
        nearest = ((start - trough) / PERIOD).round()
        # b f = -|b| cos(x - center), so the form is stationary at center - arcsin(a / |b|).
        lag = torch.asin((slope / torch.where(height == 0, 1.0, height)).clamp(-1, 1))
        for turn in (nearest, nearest + torch.where(forward, 1.0, -1.0)):
            center = trough + PERIOD * turn
            left = torch.clamp(center - pi / 2, lower, upper)
            right = torch.clamp(center + pi / 2, lower, upper)
            on_wave = tangent_bound(
                slope, b, (self, self.slope_at), Interval(left, right), center - lag
            )
            least = torch.minimum(least, on_wave)
        # Computed ends of a half-wave are off by at most `slack`; so far beyond the inflection
        # point the form bends by |b| slack, over a tangent's reach of at most half a period.
        slack = _slack(lower, upper)
        return trusted(torch.maximum(least - 4 * height * slack * slack, trivial))

    def support_size(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Add up terms at their largest: a tangent reaches over half a period at most."""
        reach = magnitude(*box[0]) + PERIOD
        return 64 * (product(a[0].abs(), reach) + 4 * b.abs())

    def derivative(self, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Enclose the derivative, the wave with its crest a quarter period earlier."""
        ((lower, upper),) = box
        ends = self.slope_at(lower), self.slope_at(upper)
        return (_between_ends(ends, self.crest - pi / 2, box[0]),)

    def gradient(self, point: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Evaluate the derivative."""
        return (self.slope_at(point[0]),)

    def affine_on(self, box: Sequence[Interval]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Say where the box is a point."""
        ((lower, upper),) = box
        return lower == upper, (torch.nan_to_num(self.slope_at(lower)),)

    def curvature(self, box: Sequence[Interval]) -> Tensor:
        """Convex where the wave is not positive: `f'' = -f`."""
        low, high = self.range(box)
        return (high <= 0).to(low.dtype) - ((low >= 0) & (high > 0)).to(low.dtype)

    def inverse(self, output: Interval, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Shave off both ends of the box whatever maps outside the output."""
        return (shave(self, output, box[0]),)

    def range(self, box: Sequence[Interval]) -> Interval:
        """Take the values at both ends, and 1 or -1 where a crest or a trough may be inside."""
        ((lower, upper),) = box
        return _between_ends((self(lower), self(upper)), self.crest, box[0])


def _between_ends(ends: tuple[Tensor, Tensor], crest: float, box: Interval) -> Interval:
    """Bound a wave with a given crest from its values at the ends of an interval."""
    low = torch.where(_holds(crest + pi, box), -1.0, torch.minimum(*ends))
    high = torch.where(_holds(crest, box), 1.0, torch.maximum(*ends))
    return Interval(torch.nan_to_num(low, nan=-1.0), torch.nan_to_num(high, nan=1.0))


def _holds(place: float, box: Interval) -> Tensor:
    """Say where `place` plus some whole periods may lie in the interval; unsure means yes."""
    lower, upper = box
    slack = _slack(lower, upper)
    turns = ((lower - slack - place) / PERIOD).ceil()
    return ~(place + PERIOD * turns > upper + slack)


def _slack(lower: Tensor, upper: Tensor) -> Tensor:
    """Bound the rounding error of a place computed near the interval as crest + k periods."""
    # 8: the roundings of pi, of the period, of the product and of the sum, with room.
    return 8 * torch.finfo(lower.dtype).eps * (torch.maximum(lower.abs(), upper.abs()) + 2 * PERIOD)
