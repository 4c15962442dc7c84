"""The few functions that compiled rules call; everything else in them is plain torch."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.dsl.operators.record import Interval, Operator
from absolver.dsl.relaxation import Slopes

Value = Tensor | float | int
"""What an expression of the language becomes: a number for each neuron, or one for all."""


def divide(dividend: Value, divisor: Tensor) -> Tensor:
    """The quotient; NaN where the divisor is 0, without a NaN in the gradients."""
    if not isinstance(dividend, Tensor):  # torch would multiply by a rounded reciprocal
        dividend = torch.full_like(divisor, dividend)
    zero = divisor == 0
    return torch.where(zero, torch.nan, dividend / torch.where(zero, 1.0, divisor))


def slope_between(f: Operator, lower: Tensor, upper: Tensor) -> Tensor:
    """The slope of the chord from one end of an interval to the other.

    In a point the operator is affine, so that no rule is asked: there it may be anything.
    """
    width = upper - lower
    if width.requires_grad:  # 0 / 0 would send a NaN back, whatever is chosen in its place
        width = torch.where(width == 0, 1.0, width)
    return (f(upper) - f(lower)) / width


def max_earlier(operands: Float[Tensor, "operands *shape"]) -> Float[Tensor, "operands *shape"]:
    """The maximum over the operands before each one; -inf for the first."""
    lowest = torch.full_like(operands[:1], -torch.inf)
    return torch.cat((lowest, operands[:-1].cummax(0).values))


def max_others(operands: Float[Tensor, "operands *shape"]) -> Float[Tensor, "operands *shape"]:
    """The maximum over the operands but each one; -inf for a single one."""
    return torch.maximum(max_earlier(operands), max_earlier(operands.flip(0)).flip(0))


def unstacked(slope: Tensor, box: Sequence[Interval]) -> tuple[Tensor, ...]:
    """One slope for each operand, from a stack of them or from one that all share."""
    shape = box[0].lower.shape
    if slope.dim() > len(shape):  # given parameters may be longer than the box on some axis
        shape = torch.broadcast_shapes(shape, slope.shape[1:])  # type: ignore[no-untyped-call]
    return slope.expand(len(box), *shape).unbind()


def stable_or(
    f: Operator,
    box: Sequence[Interval],
    lower: Sequence[Value],
    upper: Sequence[Value] | None = None,
) -> Slopes:
    """The exact slopes where `f` is affine on the box, a rule's slopes elsewhere.

    Without `upper` both sides share the slopes of `lower`. Guarantee: every slope is finite; a
    rule's slope that is not becomes 0.
    """
    affine, exact = f.affine_on(box)

    def total(slopes: Sequence[Value]) -> tuple[Tensor, ...]:
        chosen = (torch.where(affine, e, s) for e, s in zip(exact, slopes, strict=True))
        return tuple(finite(s) for s in chosen)

    lines = total(lower)
    return Slopes(lines, lines if upper is None else total(upper))


def everywhere(f: Operator, box: Sequence[Interval], slopes: Sequence[Value]) -> Slopes:
    """A rule's slopes as they are, also where `f` is affine on the box."""
    del f
    like = box[0].lower
    lines = tuple(torch.as_tensor(s, dtype=like.dtype, device=like.device) for s in slopes)
    return Slopes(lines, lines)


def finite(slope: Tensor) -> Tensor:
    """A slope with 0 where it is not finite; with gradients only if there is such a place."""
    if slope.requires_grad and slope.device.type == "cpu" and bool(slope.sum().isfinite()):
        return slope
    return torch.nan_to_num_(slope, nan=0.0, posinf=0.0, neginf=0.0)
