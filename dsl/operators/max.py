"""The maximum of any number of variables."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from absolver.dsl.operators.quadratic import Quadratic, of_extremum
from absolver.dsl.operators.record import Interval, Operator, Shape, trusted
from absolver.dsl.operators.rounding import magnitude, product


@dataclass(frozen=True)
class Max(Operator):
    """`max(x_1, ..., x_k)`."""

    name = "max"
    onnx = ("Max",)
    operands = ("each",)
    shape = Shape.CONVEX
    smooth = False
    monotone = True
    piecewise_linear = True
    rounds = False

    def __call__(self, *operands: Tensor) -> Tensor:
        """Take the largest operand."""
        most, *rest = operands
        for x in rest:
            most = torch.maximum(most, x)
        return most

    def support(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Minimise for each sign of b in closed form: exact."""
        slopes = torch.stack([slope + torch.zeros_like(b) for slope in a])
        lower = torch.stack([i.lower for i in box])
        upper = torch.stack([i.upper for i in box])
        # Operands are the first axis; axes that only the slopes have come next.
        missing = slopes.dim() - lower.dim()
        stacked = Interval(
            lower.view(len(lower), *(1,) * missing, *lower.shape[1:]),
            upper.view(len(upper), *(1,) * missing, *upper.shape[1:]),
        )
        raised = self._least_by_height(slopes, b, stacked)
        return trusted(torch.where(b >= 0, raised, self._least_by_winner(slopes, b, stacked)))

    def support_size(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Add up all coefficients times the largest operand: sums run over the operands."""
        far = torch.stack([magnitude(*interval) for interval in box]).amax(0)
        coefficients = b.abs()
        for slope in a:
            coefficients = coefficients + slope.abs()
        return 8 * (len(box) + 2) * product(coefficients, far)

    def quadratics(self, box: Sequence[Interval]) -> tuple[Quadratic, ...]:
        """State that no operand is above the result, and of two that it is one of them."""
        return of_extremum(len(box), 1.0)

    def derivative(self, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Give 1 to an operand that is above all others, 0 to one that is below some other."""
        one = torch.ones_like(box[0].lower)
        result = []
        for j, x in enumerate(box):
            others = [i for k, i in enumerate(box) if k != j]
            wins, loses = torch.ones_like(one, dtype=torch.bool), torch.zeros_like(one) > 0
            for other in others:
                wins = wins & (x.lower > other.upper)
                loses = loses | (x.upper < other.lower)
            result.append(Interval(wins.to(one.dtype), one - loses.to(one.dtype)))
        return tuple(result)

    def gradient(self, point: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Give 1 to the first of the largest operands."""
        winner = torch.stack(list(point)).argmax(0)
        return tuple((winner == j).to(x.dtype) for j, x in enumerate(point))

    def affine_on(self, box: Sequence[Interval]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Say where one operand is at least every other, or the box is a point."""
        slopes = self.gradient([i.lower for i in box])
        dominated = torch.ones_like(box[0].lower, dtype=torch.bool)
        point = dominated
        most = self(*(i.lower for i in box))
        for slope, x in zip(slopes, box, strict=True):
            dominated = dominated & ((slope > 0) | (x.upper <= most))
            point = point & (x.lower == x.upper)
        return dominated | point, slopes

    def curvature(self, box: Sequence[Interval]) -> Tensor:
        """Convex everywhere."""
        return torch.ones_like(box[0].lower)

    def range(self, box: Sequence[Interval]) -> Interval:
        """Take the maximum of the lower ends, and of the upper ends: exact."""
        return Interval(self(*(i.lower for i in box)), self(*(i.upper for i in box)))

    def inverse(self, output: Interval, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """No operand exceeds the output; the only one that can reach its lower end does."""
        reaches = torch.stack([i.upper >= output.lower for i in box])
        alone = reaches.sum(0) == 1
        empty = ~reaches.any(0)
        result = []
        for j, (lower, upper) in enumerate(box):
            raised = torch.where(alone & reaches[j], torch.maximum(lower, output.lower), lower)
            lowered = torch.minimum(upper, output.upper)
            result.append(
                Interval(torch.where(empty, inf, raised), torch.where(empty, -inf, lowered))
            )
        return tuple(result)

    def _share(self, slope: Tensor, interval: Interval, height: Tensor | None = None) -> Tensor:
        """Minimise `a x` over the part of one operand's interval that is at most a height.

        No height in question is below the interval: a maximum is not below any lower end.
        """
        lower, upper = interval
        below = upper if height is None else torch.minimum(upper, height)
        return torch.minimum(slope * lower, slope * below)

    def _least_by_height(self, slopes: Tensor, b: Tensor, box: Interval) -> Tensor:
        """Minimise for `b >= 0` over the height t of the maximum, from the largest lower end on.

        With all operands at most t the form is `b t` and each one's share. That is linear in t
        between neighbouring upper ends, and does not fall beyond them, so that one is best.
        """
        floor = box.lower.amax(0)
        least = b * floor + self._share(slopes, box, floor).sum(0)
        for upper in box.upper:
            height = torch.maximum(upper, floor)
            least = torch.minimum(least, b * height + self._share(slopes, box, height).sum(0))
        return least

    def _least_by_winner(self, slopes: Tensor, b: Tensor, box: Interval) -> Tensor:
        """Minimise for `b <= 0`: for each winner the form is linear, and others are free."""
        alone, won = self._share(slopes, box), self._share(slopes + b, box)
        return alone.sum(0) + (won - alone).amin(0)
