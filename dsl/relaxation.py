"""Lines around an operator: slopes come from a domain's rule, intercepts from `support` alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from absolver.dsl.operators.record import Interval, Operator


@dataclass(frozen=True)
class Slopes:
    """One slope for each operand on each side; any finite number is sound.

    `lower is upper` where a rule gives both sides the same slopes.
    """

    lower: tuple[Tensor, ...]
    upper: tuple[Tensor, ...]


@dataclass(frozen=True)
class Relaxation:
    """A lower and an upper affine function around an operator on a box.

    Guarantee: `lower_offset + lower · x <= f(x) <= upper_offset + upper · x` for all x in the
    box, over the reals: up to the rounding of the offsets from `relax`, without exception from
    `relax_proved`.
    """

    lower: tuple[Tensor, ...]
    lower_offset: Tensor
    upper: tuple[Tensor, ...]
    upper_offset: Tensor


def relax(operator: Operator, slopes: Slopes, box: Sequence[Interval]) -> Relaxation:
    """Place both lines as tightly as the operator's `support` allows (DESIGN, idea 1)."""
    one = torch.ones_like(box[0].lower)
    lower_offset = operator.support([-s for s in slopes.lower], one, box)
    upper_offset = -operator.support(slopes.upper, -one, box)
    return Relaxation(slopes.lower, lower_offset, slopes.upper, upper_offset)


def relax_proved(operator: Operator, slopes: Slopes, box: Sequence[Interval]) -> Relaxation:
    """Place both lines so that they are right in spite of rounding; offsets are float64.

    The slopes are what they are, numbers of their own dtype; the box is one of float64.
    """
    one = torch.ones_like(box[0].lower)
    lower_offset = operator.proved_support([-s.double() for s in slopes.lower], one, box)
    upper_offset = -operator.proved_support([s.double() for s in slopes.upper], -one, box)
    return Relaxation(slopes.lower, lower_offset, slopes.upper, upper_offset)
