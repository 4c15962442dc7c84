"""Relaxations prepared for back-substitution: lines around an operator, and a reference trace."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.analyzer.graph.linear.gradients import is_trained
from absolver.analyzer.propagate.chords import chords
from absolver.analyzer.propagate.floats import DOUBLE, above, below, gamma, unit
from absolver.dsl.domain import Domain
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval, Operator
from absolver.dsl.relaxation import Relaxation, relax, relax_proved


@dataclass(frozen=True)
class Lines:
    """Lines around one non-linear node, in the form in which back-substitution uses them.

    With y0 = upper_offset + upper · z0 on the *reference trace* z0, a coefficient row A on y obeys

        A · (y - y0) >= A' · (z - z0) + max(A, 0) · gap,    A' = A * upper + max(A, 0) * excess

    where excess = lower - upper and gap = lower_offset + lower · z0 - y0. So biases and upper
    offsets never have to be carried: the trace has them.
    """

    upper: tuple[Float[Tensor, "batch *shape"], ...]
    excess: tuple[Float[Tensor, "batch *shape"], ...]
    gap: Float[Tensor, "batch *shape"]
    unbounded: Bool[Tensor, "batch *shape"] | None
    """Neurons with no finite line on some side: a row that needs one of them has no bound."""
    lower: tuple[Float[Tensor, "batch *shape"], ...] | None = None
    """The lower slopes, of proved lines only: a row times one of both slopes rounds once."""
    drop: Float[Tensor, "batch *shape"] | None = None
    """What negative coefficients lose, of proved lines only: `gap` has that of positive ones."""

    @cached_property
    def live(self) -> Bool[Tensor, "batch *shape"]:
        """Neurons on which a row's coefficient matters: their result is not the constant 0."""
        live = self.gap != 0 if self.drop is None else (self.gap != 0) | (self.drop != 0)
        for line in (*self.upper, *self.excess):
            live = live | (line != 0)
        return live if self.unbounded is None else live | self.unbounded

    @cached_property
    def channels_last(self) -> "Lines":
        """The same lines over an image `[1, channels, height, width]`, channels moved last."""
        return self._mapped(lambda line: line.movedim(2, -1).contiguous())

    def of(self, elements: slice) -> "Lines":
        """The lines of some batch elements."""
        return self._mapped(lambda line: line[elements])

    def at(self, neurons: Int[Tensor, " columns"]) -> "Lines":
        """The lines of some neurons, named by flat index; the result's shape is flat."""
        return self._mapped(lambda line: line.flatten(1).index_select(1, neurons))

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "Lines":
        return Lines(
            tuple(change(line) for line in self.upper),
            tuple(change(line) for line in self.excess),
            change(self.gap),
            None if self.unbounded is None else change(self.unbounded),
            None if self.lower is None else tuple(change(line) for line in self.lower),
            None if self.drop is None else change(self.drop),
        )


def lines_around(
    domain: Domain, operator: Operator, box: Sequence[Interval], trace: Sequence[Tensor]
) -> tuple[Lines, Tensor]:
    """Relax an operator over a box, and extend the reference trace by its upper line.

    Returns the lines and the trace's values on the operator's result.
    """
    relaxation, unbounded = finite_lines(domain, operator, box)
    reference = relaxation.upper_offset
    gap = relaxation.lower_offset
    for z, lower, upper in zip(trace, relaxation.lower, relaxation.upper, strict=True):
        reference = torch.addcmul(reference, upper, z)
        gap = torch.addcmul(gap, lower, z)
    excess = tuple(low - up for low, up in zip(relaxation.lower, relaxation.upper, strict=True))
    return Lines(relaxation.upper, excess, gap - reference, unbounded), reference


def lines_with_costs(
    relaxation: Relaxation,
    unbounded: Bool[Tensor, "batch *shape"] | None,
    trace: Sequence[Tensor],
    costs: Sequence[Tensor],
) -> tuple[Lines, Tensor]:
    """Prepare proved lines so that the formula of `Lines` holds in spite of rounding.

    Offsets, trace and costs are of float64. `costs` says what a unit of coefficient costs on each
    operand; a row's coefficients there are its own times a slope, so that the gap and the drop
    have that. The reference y0 is a number that the upper line does not pass at z0; what the lower
    line lacks of it is the gap. The rounding of their sums of products with a row is part of them.
    """
    dtype = relaxation.lower[0].dtype
    over, upper_error = _line_at(relaxation.upper_offset, relaxation.upper, trace)
    under, lower_error = _line_at(relaxation.lower_offset, relaxation.lower, trace)
    reference = above(over, upper_error, over.dtype)
    gap = below(under, lower_error, under.dtype) - reference
    # 4: the difference, with room.
    lost = 4 * DOUBLE * gap.abs()
    drop = torch.zeros_like(gap)
    for low, up, cost in zip(relaxation.lower, relaxation.upper, costs, strict=True):
        lost = lost + _charged(low, cost)
        drop = drop + _charged(up, cost)
    unknown = ~(lost + drop).isfinite()
    unbounded = unknown if unbounded is None else unbounded | unknown
    gap = torch.where(unbounded, 0.0, gap - lost)
    drop = torch.where(unbounded, 0.0, drop)
    gap_size, drop_size = gap.abs() * (1 + 4 * DOUBLE), drop * (1 + 4 * DOUBLE)
    # A row may add up both in one sum.
    terms = _most_nonzero(gap) + _most_nonzero(drop)
    share = gamma(terms + 3, unit(dtype))
    # What is added to the vectors is itself multiplied by the row.
    share = share * (1 + 4 * share)
    gap, drop = below(gap, share * gap_size, dtype), above(drop, share * drop_size, dtype)
    excess = tuple(low - up for low, up in zip(relaxation.lower, relaxation.upper, strict=True))
    known = unbounded if bool(unbounded.any()) else None
    lines = Lines(relaxation.upper, excess, gap, known, relaxation.lower, drop)
    return lines, torch.where(unbounded, 0.0, reference)


def _charged(slope: Tensor, cost: Tensor) -> Tensor:
    """Multiply a cost by the size of a slope, upward; without a slope there is no cost."""
    charge = slope.abs().double() * cost * (1 + 8 * DOUBLE)
    return torch.where(slope == 0, 0.0, charge)


def _most_nonzero(x: Tensor) -> int:
    """Count the entries of an element that are not 0, the most of the batch."""
    return int((x != 0).flatten(1).sum(1).max())


def proved_lines(
    domain: Domain, operator: Operator, box: Sequence[Interval], noise: Tensor | None
) -> tuple[Relaxation, Bool[Tensor, "batch *shape"] | None]:
    """Relax an operator as `finite_lines` does, its executions included."""
    relaxation, unbounded = finite_lines(domain, operator, box, proved=True)
    if noise is None:
        return relaxation, unbounded
    lower = below(relaxation.lower_offset, noise, noise.dtype)
    upper = above(relaxation.upper_offset, noise, noise.dtype)
    return replace(relaxation, lower_offset=lower, upper_offset=upper), unbounded


def is_whole(slope: Tensor) -> Tensor:
    """Say where a slope is 0, 1 or -1, so that a product with it is not rounded."""
    size = slope.abs()
    return (size == 0) | (size == 1)


def _line_at(
    offset: Tensor, slopes: Sequence[Tensor], point: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Evaluate a line in float64, and bound the error of that: 0 where nothing is rounded."""
    value, size = offset, offset.abs()
    whole = (offset == 0) if len(slopes) == 1 else torch.zeros_like(offset, dtype=torch.bool)
    for slope, x in zip(slopes, point, strict=True):
        term = slope.double() * x.double()
        value, size = value + term, size + term.abs()
        whole = whole & is_whole(slope)
    error = 4 * (len(slopes) + 1) * DOUBLE * size + torch.finfo(size.dtype).tiny
    return value, torch.where(whole, 0.0, error)


def finite_lines(
    domain: Domain, operator: Operator, box: Sequence[Interval], *, proved: bool = False
) -> tuple[Relaxation, Bool[Tensor, "batch *shape"] | None]:
    """Relax an operator over a box, and say where it has no finite line on some side.

    Where the domain's slopes lead to no finite intercept (the box is unbounded), horizontal lines
    at the ends of the operator's range take their place; where that is unbounded too, the lines
    are 0 and must not be used. Offsets that are `proved` in spite of rounding are float64.
    """
    if is_trained(box[0].lower) and not proved:
        closed = chords(domain, operator)
        if closed is not None and (known := closed.lines(box[0])) is not None:
            zero = torch.zeros_like(known.lower)
            return Relaxation((known.lower,), zero, (known.upper,), known.upper_offset), None
        if _goes_through_origin(operator):
            return _lines_where_inexact(domain, operator, box)
    return _lines_everywhere(domain, operator, box, proved=proved)


def _lines_everywhere(
    domain: Domain, operator: Operator, box: Sequence[Interval], *, proved: bool
) -> tuple[Relaxation, Bool[Tensor, "batch *shape"] | None]:
    slopes = domain.slopes(operator, box)
    if proved:
        box = [Interval(i.lower.double(), i.upper.double()) for i in box]
    relaxation = (relax_proved if proved else relax)(operator, slopes, box)
    finite = torch.isfinite(relaxation.lower_offset) & torch.isfinite(relaxation.upper_offset)
    if bool(finite.all()):
        return relaxation, None
    reach = operator.proved_range(box) if proved else operator.range(box)
    bounded = torch.isfinite(reach.lower) & torch.isfinite(reach.upper)
    zero = torch.zeros_like(reach.lower)

    def kept(line: Tensor, otherwise: Tensor) -> Tensor:
        return torch.where(finite, line, torch.where(bounded, otherwise, zero).to(line.dtype))

    horizontal = Relaxation(
        tuple(kept(slope, zero) for slope in relaxation.lower),
        kept(relaxation.lower_offset, reach.lower),
        tuple(kept(slope, zero) for slope in relaxation.upper),
        kept(relaxation.upper_offset, reach.upper),
    )
    unbounded = ~(finite | bounded)
    return horizontal, unbounded if bool(unbounded.any()) else None


def _goes_through_origin(operator: Operator) -> bool:
    """Whether a piecewise linear operator is a multiple of its operand wherever it is affine."""
    return isinstance(operator, PiecewiseLinear) and all(
        isinstance(line.offset, int | float) and line.offset == 0 for line in operator.lines
    )


def _lines_where_inexact(
    domain: Domain, operator: Operator, box: Sequence[Interval]
) -> tuple[Relaxation, Bool[Tensor, "batch *shape"] | None]:
    """Relax an operator where it is not affine, all else being lines through the origin.

    A training pays for each operation twice, and most neurons need none.
    """
    ((lower, upper),) = box
    affine, (exact,) = operator.affine_on(box)
    index = torch.nonzero(~affine.flatten()).squeeze(1)
    if 2 * len(index) > affine.numel():  # to pick them out would cost more than it saves
        return _lines_everywhere(domain, operator, box, proved=False)
    part = Interval(lower.flatten()[index].unsqueeze(0), upper.flatten()[index].unsqueeze(0))
    if len(index) == 0:
        zero = torch.zeros_like(exact)
        return Relaxation((exact,), zero, (exact,), zero), None
    found, unknown = _lines_everywhere(domain, operator, [part], proved=False)

    def put(start: Tensor, values: Tensor) -> Tensor:
        return start.flatten().index_copy(0, index, values.flatten()).view(start.shape)

    zero = torch.zeros_like(exact)
    relaxation = Relaxation(
        tuple(put(exact, slope) for slope in found.lower),
        put(zero, found.lower_offset),
        tuple(put(exact, slope) for slope in found.upper),
        put(zero, found.upper_offset),
    )
    return relaxation, None if unknown is None else put(torch.zeros_like(affine), unknown)
