"""Lines around convex operators that bend once, at 0, under the chord: in closed form.

Trainings relax them at every step. Their lower lines go through 0; the gradients of the chord in
both bounds are a few products, where those of the rule and of `support` are dozens.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from absolver.analyzer.propagate.pieces import in_pieces
from absolver.dsl.domain import Domain, Rule
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval, Operator

Bend = tuple[float, float]
"""The slopes of an operator below and above 0."""


class ChordLines(NamedTuple):
    """A line through 0 below an operator, and the chord above it."""

    lower: Float[Tensor, "batch *shape"]
    upper: Float[Tensor, "batch *shape"]
    upper_offset: Float[Tensor, "batch *shape"]


class Chords:
    """A domain's lines around an operator that bends at 0 only, if they are of this form.

    Guarantee: lines, and what they make of rows, are those that the domain's slopes and the
    operator's `support` give, up to rounding, and so are their gradients.
    """

    def __init__(self, operator: Operator, rule: Rule | None, below: float, above: float) -> None:
        """Take the operator's slopes on both sides of 0, and the rule of the lower slope."""
        self._operator = operator
        self._below, self.bend = below, above - below
        self.rule = rule

    def lines(self, box: Interval) -> ChordLines | None:
        """Return the lines; None if some are not finite, or some lower line misses the bend."""
        apply: Callable[..., tuple[Tensor, Tensor, Tensor]] = _Relaxed.apply
        chord, offset, lower = apply(*box, self)
        if not bool(offset.detach().sum().isfinite()):
            return None
        return ChordLines(chord if self.rule is None else lower, chord, offset)

    def substituted(
        self, a: Float[Tensor, "batch rows *shape"], box: Interval
    ) -> tuple[Float[Tensor, "batch rows"], Float[Tensor, "batch rows *shape"]] | None:
        """Substitute the lines into rows: what a bound gains, and the new rows.

        None as for `lines`.
        """
        apply: Callable[..., tuple[Tensor, Tensor]] = _Substituted.apply
        gain, result = apply(a, *box, self)
        return (gain, result) if bool(gain.detach().sum().isfinite()) else None

    def evaluated(self, lower: Tensor, upper: Tensor) -> "_Evaluated":
        """Evaluate the chords over a piece of a box; unusable ones have an offset of NaN."""
        offset, share = lower.clamp(max=0), upper.clamp(min=0)
        # In the point 0 any slope will do.
        width = torch.sub(share, offset).clamp_(min=torch.finfo(lower.dtype).tiny)
        share.div_(width)
        # An infinite width, and it alone, leaves NaN.
        offset.mul_(share).mul_(-self.bend).add_(width, alpha=0)
        return _Evaluated(self._slope(share), offset, share, width)

    def below(self, box: Interval, at: "_Evaluated") -> Tensor:
        """Evaluate the lower slopes over a piece; NaN if a slope's line misses the bend."""
        if self.rule is None:
            return at.slope
        (slope,) = self.rule(self._operator, [box]).lower
        least, most = slope.aminmax()
        if not bool((least >= self._below) & (most <= self._below + self.bend)):
            return torch.full_like(at.share, torch.nan)
        # Where the share is 0 or 1 the operator is affine, and its slope is known.
        return slope.clamp(self._slope(at.share.floor()), self._slope(at.share.ceil()))

    def _slope(self, share: Tensor) -> Tensor:
        """Return the slope that is a share of the way from the one below 0 to the one above."""
        plain = self._below == 0 and self.bend == 1
        return share if plain else self.bend * share + self._below


def chords(domain: Domain, operator: Operator) -> Chords | None:
    """Find out whether a domain's lines around an operator are of this form."""
    if operator.name not in domain.chords:
        return None
    if not isinstance(operator, PiecewiseLinear) or len(operator.lines) != 2:
        return None
    first, second = operator.lines
    numbers = (first.slope, second.slope, first.offset, second.offset)
    if any(isinstance(number, Tensor) for number in numbers):
        return None
    below, above, *offsets = (float(number) for number in numbers)
    if second.start != 0 or any(offsets) or not below < above:
        return None
    return Chords(operator, domain.chords[operator.name], below, above)


class _Evaluated(NamedTuple):
    """Chords over a piece of a box.

    With the share a = max(u, 0) / width, width = max(u, 0) - min(l, 0), the slope is a of the way
    from the slope below 0 to that above; the offset is -a min(l, 0) times their difference.
    """

    slope: Tensor
    offset: Tensor
    share: Tensor
    width: Tensor

    def pulled(self, in_slope: Tensor, in_offset: Tensor, bend: float) -> tuple[Tensor, Tensor]:
        """Return the gradients in both bounds from those in the chord."""
        # Of an interval that is no wider than this a quotient would overflow, and infinity times a
        # share of 0 is no number.
        least = torch.finfo(self.width.dtype).tiny ** 0.5
        share, width = self.share, self.width.clamp(min=least)
        # da/dl = a / width, da/du = (1 - a) / width; the offset's are -a^2 and (1 - a)^2.
        rest, along = 1 - share, in_slope / width
        down = torch.addcmul(along, share, in_offset, value=-1).mul_(share)
        up = along.addcmul_(rest, in_offset).mul_(rest)
        if bend != 1:
            down, up = down.mul_(bend), up.mul_(bend)
        # A bound on the other side of 0 has no effect.
        return _threshold(down, rest, 0), _threshold(up, share, 0)


class _Relaxed(torch.autograd.Function):
    """Slope and offset of the chord over each interval, and the lower slope."""

    @staticmethod
    def forward(  # noqa: D102 - as the class says
        ctx: Any,  # noqa: ANN401 - torch's own context
        lower: Tensor,
        upper: Tensor,
        chords: Chords,
    ) -> tuple[Tensor, Tensor, Tensor]:
        def step(slope: Tensor, chord: Tensor, offset: Tensor, *box: Tensor) -> None:
            at = chords.evaluated(*box)
            slope.copy_(chords.below(Interval(*box), at))
            chord.copy_(at.slope)
            offset.copy_(at.offset)

        slope, chord, offset = (torch.empty_like(lower) for _ in range(3))
        in_pieces(step, slope, chord, offset, lower, upper)
        if not bool(slope.sum().isfinite()):
            offset.fill_(torch.nan)
        ctx.save_for_backward(lower, upper)
        ctx.chords = chords
        ctx.mark_non_differentiable(slope)
        return chord, offset, slope

    @staticmethod
    @once_differentiable
    def backward(  # noqa: D102
        ctx: Any,  # noqa: ANN401
        in_slope: Tensor,
        in_offset: Tensor,
        _: Tensor,
    ) -> tuple[Tensor | None, ...]:
        def step(in_lower: Tensor, in_upper: Tensor, *given: Tensor) -> None:
            lower, upper, *gradients = given
            at = ctx.chords.evaluated(lower, upper)
            down, up = at.pulled(*gradients, ctx.chords.bend)
            in_lower.copy_(down)
            in_upper.copy_(up)

        found = torch.empty_like(in_slope), torch.empty_like(in_slope)
        in_pieces(step, *found, *ctx.saved_tensors, in_slope, in_offset)
        return *found, None


class _Substituted(torch.autograd.Function):
    """The lines substituted into rows: a positive coefficient takes the lower, others the chord.

    Beside the rows and the box only the lower slopes are kept.
    """

    @staticmethod
    def forward(  # noqa: D102 - as the class says
        ctx: Any,  # noqa: ANN401 - torch's own context
        a: Tensor,
        lower: Tensor,
        upper: Tensor,
        chords: Chords,
    ) -> tuple[Tensor, Tensor]:
        def step(gain: Tensor, result: Tensor, slope: Tensor, a: Tensor, *box: Tensor) -> None:
            at = chords.evaluated(*box)
            slope.copy_(chords.below(Interval(*box), at))
            negative = a.clamp(max=0)
            torch.sum((negative * at.offset.unsqueeze(1)).flatten(2), 2, out=gain)
            torch.clamp(a, min=0, out=result)
            result.mul_(slope.unsqueeze(1)).addcmul_(negative, at.slope.unsqueeze(1))

        gain, result, slope = a.new_empty(a.shape[:2]), torch.empty_like(a), torch.empty_like(lower)
        in_pieces(step, gain, result, slope, a, lower, upper)
        if not bool(slope.sum().isfinite()):
            gain.fill_(torch.nan)
        ctx.save_for_backward(a, lower, upper, slope)
        ctx.chords = chords
        return gain, result

    @staticmethod
    @once_differentiable
    def backward(  # noqa: D102
        ctx: Any,  # noqa: ANN401
        in_gain: Tensor,
        in_result: Tensor,
    ) -> tuple[Tensor | None, ...]:
        def step(in_a: Tensor, in_lower: Tensor, in_upper: Tensor, *given: Tensor) -> None:
            a, lower, upper, slope, in_gain, in_result = given
            at = ctx.chords.evaluated(lower, upper)
            of_chord = in_gain * at.offset.unsqueeze(1)
            of_chord.addcmul_(in_result, at.slope.unsqueeze(1))
            of_slope = (in_result * slope.unsqueeze(1)).sub_(of_chord)
            torch.add(_threshold(of_slope, a, 0), of_chord, out=in_a)
            negative = a.clamp(max=0)
            in_chord = _sum((a if ctx.chords.rule is None else negative) * in_result)
            in_offset = _sum(negative.mul_(in_gain))
            down, up = at.pulled(in_chord, in_offset, ctx.chords.bend)
            in_lower.copy_(down)
            in_upper.copy_(up)

        saved = ctx.saved_tensors
        found = tuple(torch.empty_like(tensor) for tensor in saved[:3])
        each = in_gain.view(*in_gain.shape, *(1 for _ in in_result.shape[2:]))
        in_pieces(step, *found, *saved, each, in_result)
        return *found, None


# The gradient where another tensor is above a number: `where` is no fast operation.
_threshold = torch.ops.aten.threshold_backward


def _sum(products: Float[Tensor, "batch rows *shape"]) -> Float[Tensor, "batch *shape"]:
    """Add up all rows."""
    return products.squeeze(1) if products.shape[1] == 1 else products.sum(1)
