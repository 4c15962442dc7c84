"""Lines of a piecewise linear operator in closed form: what searches evaluate most often.

For a given slope s the tightest line touches the operator at a corner: an end of the box, or a kink
inside. Its offset is the least `y - s x` of all corners, and the derivative of the line at x in its
slope is `x` minus where it touches (the envelope theorem): no automatic differentiation is needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.dsl.domain import Domain, Parameter
from absolver.dsl.operators.piecewise_linear import Corner, PiecewiseLinear
from absolver.dsl.operators.record import Interval, trusted

# At which share of its range each parameter is tried, to see whether slopes are affine in it.
_TRIED = 0.375
_CLOSE = 1e-5

Parameters = Mapping[str, Parameter]


@dataclass(frozen=True)
class Side:
    """A slope that is affine in parameters, `base + sum of rate * parameter`."""

    base: Float[Tensor, "batch 1 columns"]
    rates: Mapping[str, Float[Tensor, "batch 1 columns"]]
    """Of the parameters on which the slope depends: how it changes with them."""


class Line(NamedTuple):
    """A line of a side: `slope * x + offset`, and an x at which it touches the operator."""

    slope: Float[Tensor, "batch rows columns"]
    offset: Float[Tensor, "batch rows columns"]
    touch: Float[Tensor, "batch rows columns"]


class Touching:
    """The lines around an operator that is piecewise linear, by what parameters are.

    Guarantee: offsets are those of `support`, whatever the slopes are.
    """

    def __init__(
        self,
        corners: tuple[Corner, ...],
        ranges: Parameters,
        lower: Side | None,
        upper: Side | None,
    ) -> None:
        """Take the operator's corners; a side of None does not depend on parameters."""
        # Kinks before ends: of slopes at an end of their range, as 0 and 1 for ReLU, the line turns
        # around a kink on the side to which they can go.
        first, *kinks, last = corners
        self._corners = (*kinks, first, last)
        self._ranges = ranges
        self.lower = lower
        self.upper = upper

    def lines(self, values: Mapping[str, Tensor]) -> tuple[Line | None, Line | None]:
        """Return the tightest lines below and above the operator, where they move.

        Parameters are taken within their ranges; those without a value are at their start.
        """
        return (
            None if self.lower is None else self._line(self.lower, values, 1),
            None if self.upper is None else self._line(self.upper, values, -1),
        )

    def pulls(
        self, a: Tensor, x: Tensor, touch: tuple[Tensor | None, Tensor | None]
    ) -> tuple[Float[Tensor, "batch rows columns"], Float[Tensor, "batch rows columns"]]:
        """Return the gradients of `a * (line at x)` in the lower and in the upper slope."""
        positive = a.clamp(min=0)
        negative = a - positive
        lower, upper = touch
        return (
            positive if lower is None else positive * (x - lower),
            negative if upper is None else negative * (x - upper),
        )

    def gradients(
        self, pulls: tuple[Tensor, Tensor], values: Mapping[str, Tensor]
    ) -> dict[str, Float[Tensor, "batch rows columns"]]:
        """Return the gradients in the parameters, from those in the lower and the upper slope."""
        found: dict[str, Tensor] = {}
        for side, pull in zip((self.lower, self.upper), pulls, strict=True):
            for name, rate in () if side is None else side.rates.items():
                own = rate * pull
                found[name] = found[name] + own if name in found else own
        return {name: own.sum_to_size(values[name].shape) for name, own in found.items()}

    def _line(self, side: Side, values: Mapping[str, Tensor], sign: int) -> Line:
        """Return the tightest line below (sign 1) or above (-1)."""
        slope = side.base
        for name, rate in side.rates.items():
            known = self._ranges[name]
            value = torch.clamp(values.get(name, known.start), known.lower, known.upper)
            slope = torch.addcmul(slope, rate, value)
        touch, y = self._corners[0]
        best = torch.addcmul(y, slope, touch, value=-1)
        meet = torch.minimum if sign > 0 else torch.maximum
        for x, y in self._corners[1:]:
            other = torch.addcmul(y, slope, x, value=-1)
            touch = torch.where(other < best if sign > 0 else other > best, x, touch)
            best = meet(best, other)
        return Line(slope, trusted(best) if sign > 0 else -trusted(-best), touch)


def closed_form(
    operator: PiecewiseLinear, domain: Domain, box: Interval, ranges: Parameters
) -> Touching | None:
    """Find how a domain's slopes depend on parameters; None where they are not affine in them."""
    with torch.enable_grad():
        start = {name: known.start.detach().requires_grad_() for name, known in ranges.items()}
        slopes = domain.slopes(operator, [box], start)
    tried = {
        name: known.lower + _TRIED * (known.upper - known.lower) for name, known in ranges.items()
    }
    expected = domain.slopes(operator, [box], tried)
    sides: list[Side | None] = []
    pairs = ((slopes.lower, expected.lower), (slopes.upper, expected.upper))
    for (slope,), (other,) in pairs:
        if not slope.requires_grad:
            sides.append(None)
            continue
        found = torch.autograd.grad(slope.sum(), list(start.values()), allow_unused=True)
        rates = {name: rate for name, rate in zip(start, found, strict=True) if rate is not None}
        base = slope.detach() - sum(rate * ranges[name].start for name, rate in rates.items())
        affine = base + sum(rate * tried[name] for name, rate in rates.items())
        if not torch.allclose(affine, other, rtol=_CLOSE, atol=_CLOSE):
            return None
        sides.append(Side(base, rates))
    return Touching(operator.corners(box), ranges, *sides)
