"""The rectified linear unit."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor

from absolver.dsl.operators.piecewise_linear import Line, PiecewiseLinear, affine_piece
from absolver.dsl.operators.record import Interval, Shape, trusted
from absolver.dsl.operators.rounding import FLOOR, UNIT, magnitude


@dataclass(frozen=True)
class Relu(PiecewiseLinear):
    """`max(x, 0)`."""

    name = "relu"
    onnx = ("Relu",)
    shape = Shape.CONVEX
    monotone = True
    rounds = False
    pieces = (affine_piece(Line(-inf, 0, 0, 0)), affine_piece(Line(0, inf, 1, 0)))

    def __call__(self, *operands: Tensor) -> Tensor:
        """Rectify."""
        return torch.relu(operands[0])

    def support(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Take the least value at l, at u, and at 0 or the end nearest to it: exact.

        The same candidates as every piecewise-linear operator's, with the fewest torch calls,
        since small networks are bound by dispatch. An overflow in one candidate alone cannot hide
        the minimum: it needs `a > 0 > b`, and then `a + b > 0`, or it is above the others.
        """
        (slope,), ((lower, upper),) = a, box
        if torch.is_grad_enabled() and any(t.requires_grad for t in (slope, lower, upper)):
            found: Tensor = _LeastOf.apply(slope, b, lower, upper)  # type: ignore[no-untyped-call]
            return found
        rectified = torch.relu(lower)
        middle = torch.minimum(rectified, upper)
        base = b * rectified  # b relu(x) both at l and in the middle
        at_lower, at_middle = torch.addcmul(base, slope, lower), torch.addcmul(base, slope, middle)
        at_upper = torch.addcmul(b * torch.relu(upper), slope, upper)
        return trusted(torch.minimum(torch.minimum(at_lower, at_middle), at_upper))

    def proved_support(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Nothing is rounded where coefficients are 0 and 1 in size: terms vanish or cancel."""
        size, height = a[0].abs(), b.abs()
        bound = self.support(a, b, box)
        exact = ((size == 0) | (size == 1)) & (height == 1)
        if bool(exact.all()):
            return bound
        # Two products, a sum, and this subtraction, each of what is largest in the box.
        scale = size + height
        error = 8 * UNIT * scale * magnitude(*box[0]) + FLOOR * (1 + scale)
        return torch.where(exact, bound, trusted(bound - error))

    def range(self, box: Sequence[Interval]) -> Interval:
        """Rectify both ends: exact."""
        return Interval(torch.relu(box[0].lower), torch.relu(box[0].upper))

    def affine_on(self, box: Sequence[Interval]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Say where the neuron is stable."""
        ((lower, upper),) = box
        active = lower >= 0
        return active | (upper <= 0), (active.to(lower.dtype),)


class _LeastOf(torch.autograd.Function):
    """`support`, with gradients as the envelope theorem has them: those at the least point.

    A training spends much of its time here, and torch would take each minimum apart.
    """

    @staticmethod
    def forward(ctx: Any, *operands: Tensor) -> Tensor:  # noqa: ANN401 - torch's own context
        """Find the least of the values at l, at u, and in the middle."""
        slope, b, lower, upper = operands
        middle = lower.clamp(min=0).minimum(upper)
        point, least = lower, torch.addcmul(b * torch.relu(lower), slope, lower)
        for other in (middle, upper):
            value = torch.addcmul(b * torch.relu(other), slope, other)
            point = torch.where(value < least, other, point)
            least = torch.minimum(least, value)  # NaN, if there is one
        ctx.save_for_backward(*operands, point)
        return trusted(least)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        """Multiply by the derivatives at the least point."""
        slope, b, lower, upper, point = ctx.saved_tensors
        along = gradient * (slope + b * (point > 0))
        at_lower, at_upper = point == lower, point == upper
        parts = (
            gradient * point,
            gradient * torch.relu(point),
            along * at_lower,
            along * (at_upper & ~at_lower),
        )
        # A search's slopes may have more axes than the box, and the other way round.
        return tuple(
            part.sum_to_size(operand.shape)
            for part, operand in zip(parts, (slope, b, lower, upper), strict=True)
        )
