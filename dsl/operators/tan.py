"""The tangent."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, pi

import torch
from torch import Tensor

from absolver.dsl.operators.record import Interval, Operator, Shape, trusted
from absolver.dsl.operators.rounding import magnitude, product
from absolver.dsl.operators.shaving import shave
from absolver.dsl.operators.tangent import tangent_bound


@dataclass(frozen=True)
class Tan(Operator):
    """`tan(x)`; a box that is not certainly between two neighbouring poles has no bound.

    Between poles it is concave up to the centre `k pi`, and convex from there.
    """

    name = "tan"
    onnx = ("Tan",)
    operands = ("x",)
    shape = Shape.OTHER
    smooth = True
    monotone = False  # only between poles
    piecewise_linear = False

    def __call__(self, *operands: Tensor) -> Tensor:
        """Take the tangent."""
        return operands[0].tan()

    def support(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Minimise over the ends of both halves, and over a tangent of the convex half."""
        (slope,), ((lower, upper),) = a, box
        center, slack = _center(lower, upper)
        middle = torch.clamp(center, lower, upper)
        ends = [torch.addcmul(slope * x, b, self(x)) for x in (lower, upper)]
        left = torch.where(b > 0, middle, lower)
        right = torch.where(b > 0, upper, middle)
        # tan' = 1 + tan^2 equals -a / b at two places, of which one is on the convex half.
        steep = torch.atan((-slope / torch.where(b == 0, 1.0, b) - 1).clamp(min=0).sqrt())
        steep = center + torch.where(b > 0, steep, -steep)
        tangent = tangent_bound(slope, b, (self, self._slope_at), Interval(left, right), steep)
        least = torch.minimum(torch.minimum(*ends), tangent)
        # The computed centre is off by at most `slack`, where tan bends by 2 slack.
        least = least - 4 * b.abs() * slack * slack
        return torch.where(_between_poles(lower, upper), trusted(least), -inf)

    def support_size(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Add up terms at their largest; the steepest tangent is at an end."""
        ((lower, upper),) = box
        value = magnitude(self(lower), self(upper))
        steepest = a[0].abs() + product(b.abs(), 1 + value.square())
        reach = product(a[0].abs(), magnitude(lower, upper)) + product(b.abs(), value)
        return 64 * (reach + product(steepest, upper - lower))

    def derivative(self, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Enclose `1 + tan^2`: least at the centre, largest at an end."""
        ((lower, upper),) = box
        center, slack = _center(lower, upper)
        ends = self._slope_at(lower), self._slope_at(upper)
        inside = (lower <= center + slack) & (upper >= center - slack)
        known = _between_poles(lower, upper)
        low = torch.where(known & ~inside, torch.minimum(*ends), 1.0)
        return (Interval(low, torch.where(known, torch.maximum(*ends), inf)),)

    def gradient(self, point: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Evaluate `1 + tan^2`."""
        return (self._slope_at(point[0]),)

    def affine_on(self, box: Sequence[Interval]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Say where the box is a point."""
        ((lower, upper),) = box
        return lower == upper, (torch.nan_to_num(self._slope_at(lower)),)

    def curvature(self, box: Sequence[Interval]) -> Tensor:
        """Convex above the centre between two poles, concave below it."""
        ((lower, upper),) = box
        center, slack = _center(lower, upper)
        known = _between_poles(lower, upper)
        convex, concave = known & (lower >= center + slack), known & (upper <= center - slack)
        return convex.to(lower.dtype) - concave.to(lower.dtype)

    def inverse(self, output: Interval, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Shave off both ends of the box whatever maps outside the output."""
        return (shave(self, output, box[0]),)

    def range(self, box: Sequence[Interval]) -> Interval:
        """Take the values at both ends where no pole is between them: exact."""
        ((lower, upper),) = box
        known = _between_poles(lower, upper)
        return Interval(torch.where(known, self(lower), -inf), torch.where(known, self(upper), inf))

    def _slope_at(self, x: Tensor) -> Tensor:
        return 1 + self(x).square()


def _center(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Return the zero of tan nearest to the middle of the interval, and its rounding error."""
    turns = ((lower / 2 + upper / 2) / pi).round()
    # 8: the roundings of pi, of the product and of the sum, with room.
    slack = 8 * torch.finfo(lower.dtype).eps * (torch.maximum(lower.abs(), upper.abs()) + pi)
    return turns * pi, slack


def _between_poles(lower: Tensor, upper: Tensor) -> Tensor:
    """Say where the interval is certainly between two neighbouring poles."""
    center, slack = _center(lower, upper)
    return (lower > center - pi / 2 + slack) & (upper < center + pi / 2 - slack)
