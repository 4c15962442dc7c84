"""What programs say of an operator, from its facts: alternatives that it is made of, and lines."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import combinations, product

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from absolver.dsl.domain import Domain
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval, Operator, Shape
from absolver.dsl.relaxation import Slopes, relax, relax_proved

# Numbers of any slope that is of use; those that are larger prove nothing in floating point.
_STEEPEST = 1e9


@dataclass(frozen=True, eq=False)
class Alternatives:
    """Affine functions, one of which an operator is at each point of its box.

    Alternative p holds where the operand lies between `start[p]` and `end[p]`; of several operands
    (`start` is None), where operand p is the largest, or the smallest if `sign` is -1.
    """

    met: Bool[Tensor, "alternatives elements"]
    """Which of them the box meets: where it is one alone, the operator is that one."""
    slope: Float[Tensor, "alternatives operands elements"]
    offset: Float[Tensor, "alternatives elements"]
    start: Float[Tensor, "alternatives"] | None = None
    end: Float[Tensor, "alternatives"] | None = None
    sign: int = 1


@dataclass(frozen=True, eq=False)
class LineSet:
    """Lines on one side of an operator; where `used` is false there is none.

    Lower ones say `f(x) >= slope · x + offset`, upper ones `f(x) <= slope · x + offset`.
    """

    slope: Float[Tensor, "lines operands elements"]
    offset: Float[Tensor, "lines elements"]
    used: Bool[Tensor, "lines elements"]

    def compact(self, most: int | None = None) -> "LineSet":
        """Return the same lines, the used ones first, in `most` places or as many as they need."""
        places = most or max(1, int(self.used.sum(0).amax()))
        order = self.used.to(torch.int8).argsort(dim=0, descending=True, stable=True)[:places]
        slope = self.slope.gather(0, order.unsqueeze(1).expand(-1, self.slope.shape[1], -1))
        return LineSet(slope, self.offset.gather(0, order), self.used.gather(0, order))


def restricted(operator: Operator, shape: Sequence[int], places: NDArray[np.int64]) -> Operator:
    """Return an operator on some elements of its node: a tensor that it holds has one for each."""
    assert is_dataclass(operator), "operators are dataclasses of their attributes"
    known = {field.name: getattr(operator, field.name) for field in fields(operator)}
    own = {
        name: value.expand(*shape).flatten()[torch.from_numpy(places)]
        for name, value in known.items()
        if isinstance(value, Tensor)
    }
    return replace(operator, **own) if own else operator


def selects(operator: Operator) -> bool:
    """Say whether an operator is one of its operands: the largest if convex, else the smallest."""
    return operator.piecewise_linear and operator.operands == ("each",)


def alternatives(operator: Operator, box: Sequence[Interval]) -> Alternatives | None:
    """Return the affine functions that an operator is made of, on boxes of flat elements.

    None where it is not piecewise linear, as far as its facts say. All numbers are exact.
    """
    if selects(operator):
        return _selection(operator, box)
    if not isinstance(operator, PiecewiseLinear):
        return None
    ((lower, upper),) = box
    pieces = zip(operator.pieces, operator.lines, strict=True)
    met, slope, offset = [], [], []
    for piece, line in pieces:
        met.append(piece.met_by(lower, upper))
        slope.append(torch.as_tensor(line.slope).to(lower).expand_as(lower))
        offset.append(torch.as_tensor(line.offset).to(lower).expand_as(lower))
    first = torch.cumsum(torch.stack(met).long(), 0) == 1
    # At a kink any piece that touches it will do.
    known = torch.stack(met) & (first | (lower != upper))
    start = torch.tensor([piece.start for piece in operator.pieces], dtype=lower.dtype)
    end = torch.tensor([piece.end for piece in operator.pieces], dtype=lower.dtype)
    return Alternatives(known, torch.stack(slope).unsqueeze(1), torch.stack(offset), start, end)


def _selection(operator: Operator, box: Sequence[Interval]) -> Alternatives:
    sign = 1 if operator.shape is Shape.CONVEX else -1
    best = torch.stack([i.lower if sign > 0 else -i.upper for i in box])
    reach = torch.stack([i.upper if sign > 0 else -i.lower for i in box])
    first = torch.zeros_like(best, dtype=torch.bool).scatter(0, best.argmax(0, keepdim=True), True)
    unit = torch.eye(len(box), dtype=best.dtype, device=best.device)
    slope = unit.unsqueeze(2).expand(-1, -1, best.shape[1])
    met = first | (reach > best.amax(0, keepdim=True))
    return Alternatives(met, slope, torch.zeros_like(best), sign=sign)


def lines(
    operator: Operator, domain: Domain, box: Sequence[Interval], *, proved: bool = False
) -> tuple[LineSet, LineSet]:
    """Return lines below and above an operator on boxes of flat elements.

    Of piecewise linear functions of one operand they are the convex hull; of others those that a
    domain names, and tangents. Every intercept is that of the operator's support.

    Guarantee: every line holds on the whole box: up to rounding, or without exception if `proved`.
    """
    if isinstance(operator, PiecewiseLinear):
        lower, upper = _hull(operator, box[0])
    else:
        lower = upper = _tangents(operator, domain, box)
    sides = []
    for below, (slope, used) in ((True, lower), (False, upper)):
        many = [Interval(*(side.expand(len(slope), -1) for side in each)) for each in box]
        slopes = tuple(slope.unbind(1))
        found = (relax_proved if proved else relax)(operator, Slopes(slopes, slopes), many)
        offset = found.lower_offset if below else found.upper_offset
        sides.append(LineSet(slope, offset, used & offset.isfinite()))
    return sides[0], sides[1]


def _hull(operator: PiecewiseLinear, box: Interval) -> list[tuple[Tensor, Tensor]]:
    """Return the slopes of the edges below and above a graph: its corners' chords that cut none."""
    lower, upper = box
    kinks = [torch.as_tensor(p.start).to(lower).clamp(lower, upper) for p in operator.pieces[1:]]
    corners = torch.stack([lower, *kinks, upper])
    heights = operator(corners)
    slopes, below, above = [], [], []
    for i, j in combinations(range(len(corners)), 2):
        width = corners[j] - corners[i]
        slope = (heights[j] - heights[i]) / torch.where(width > 0, width, 1.0)
        excess = heights - heights[i] - slope * (corners - corners[i])
        # A chord through three corners may miss the middle one by its rounding.
        least = 1e-12 * (heights.abs() + (slope * corners).abs()).amax(0)
        slopes.append(slope)
        below.append((width > 0) & (excess >= -least).all(0))
        above.append((width > 0) & (excess <= least).all(0))
    point = lower == upper
    slopes.append(torch.zeros_like(lower))
    every = torch.stack(slopes).unsqueeze(1)
    return [(every, torch.stack([*side, point])) for side in (below, above)]


def _tangents(operator: Operator, domain: Domain, box: Sequence[Interval]) -> tuple[Tensor, Tensor]:
    """Return slopes for both sides: a domain's, those at corners and in the middle, and 0."""
    named = domain.slopes(operator, box)
    found = [torch.stack(side) for side in (named.lower, named.upper)]
    ends = [(i.lower, i.upper) for i in box]
    corners = list(product(*ends)) if len(box) <= 2 else [*zip(*ends, strict=True)]
    for point in (*corners, [i.lower / 2 + i.upper / 2 for i in box]):
        found.append(torch.stack(operator.gradient(point)))
    found.append(torch.zeros_like(found[0]))
    if selects(operator):
        found += _chords(operator, box)
    slopes = torch.stack(found)
    used = slopes.isfinite().all(1) & (slopes.abs() <= _STEEPEST).all(1)
    return torch.where(used.unsqueeze(1), slopes, 0.0), used


def _chords(operator: Operator, box: Sequence[Interval]) -> list[Tensor]:
    """Return slopes around an operator that selects: each operand alone, and chords of each.

    Above the largest lower end m, `max x` is at most `m + sum of max(x_j - m, 0)`.
    """
    unit = torch.eye(len(box), dtype=box[0].lower.dtype, device=box[0].lower.device)
    alone = unit.unsqueeze(2).expand(-1, -1, box[0].lower.numel())
    lower, upper = (torch.stack([i[side] for i in box]) for side in (0, 1))
    if operator.shape is not Shape.CONVEX:
        lower, upper = -upper, -lower
    floor, width = lower.amax(0), upper - lower
    chord = (upper - floor).clamp(min=0) / torch.where(width > 0, width, 1.0)
    return [*alone.unbind(0), chord]
