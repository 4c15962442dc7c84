"""Operators of one operand: every fact is derived here, once, from the operator's pieces."""

from abc import abstractmethod
from collections.abc import Sequence
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from absolver.dsl.operators.piece import Bend, Piece, clamp_into
from absolver.dsl.operators.record import Interval, Operator, trusted
from absolver.dsl.operators.rounding import magnitude, product
from absolver.dsl.operators.shaving import shave
from absolver.dsl.operators.tangent import tangent_bound, tangent_point

# Halvings until a derivative is nearly straight, and secant steps until its root stands still.
HALVINGS, SECANTS = 6, 8


class Unary(Operator):
    """A continuous function of one neuron, described by adjacent pieces.

    The minimum of `a x + b f(x)` on a piece where `b f` is affine or concave lies at an end of
    it. Where `b f` is convex, the tangent at *any* point of the piece is below the graph, so the
    proposed stationary point decides tightness only (DESIGN, section 8).
    """

    operands: ClassVar[tuple[str, ...]] = ("x",)

    @property
    @abstractmethod
    def pieces(self) -> tuple[Piece, ...]:
        """The pieces in order; they touch, and cover the operator's domain."""

    def __call__(self, *operands: Tensor) -> Tensor:
        """Evaluate the value formula of the piece that each point lies in."""
        (x,) = operands
        value = self.pieces[0].value_at(x)
        for before, piece in zip(self.pieces, self.pieces[1:], strict=False):
            if piece.value is not before.value:
                value = torch.where(x >= piece.start, piece.value_at(x), value)
        return value

    @property
    def valley(self) -> float | None:
        """The float nearest to the one place before which the operator falls, then rises.

        None if it has no such place. The value there is off by a square of the rounding error.
        """
        return None

    def defined_on(self, lower: Tensor, upper: Tensor) -> Tensor | None:
        """Say where the operator is defined on the whole interval; None if it always is."""
        return None

    def support(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Bound `a x + b f(x)` from below, piece by piece."""
        (slope,), ((lower, upper),) = a, box
        joints = [clamp_into(piece.start, lower, upper) for piece in self.pieces[1:]]
        ends = [lower, *joints, upper]
        heights = [torch.addcmul(slope * x, b, self(x)) for x in ends]
        least: Tensor | None = None
        for i, piece in enumerate(self.pieces):
            chord = torch.minimum(heights[i], heights[i + 1])
            here = Interval(ends[i], ends[i + 1])
            on_piece = trusted(self._least_on(piece, here, slope, b, chord))
            least = on_piece if least is None else torch.minimum(least, on_piece)
        assert least is not None, "an operator has at least one piece"
        defined = self.defined_on(lower, upper)
        return least if defined is None else torch.where(defined, least, -inf)

    def derivative(self, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Enclose the derivative over the box: on a piece it is monotone."""
        ((lower, upper),) = box
        least, most = self._least_and_most_slope(lower, upper)
        known = ~(least.isnan() | most.isnan())
        defined = self.defined_on(lower, upper)
        known = known if defined is None else known & defined
        return (Interval(torch.where(known, least, -inf), torch.where(known, most, inf)),)

    def _least_and_most_slope(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        first, *others = self.pieces
        if all(p.slopes is None and p.derivative is first.derivative for p in self.pieces):
            # One formula, monotone on each piece: its extremes lie at ends and joints.
            least = most = first.slope_at(lower)
            for x in (*(clamp_into(p.start, lower, upper) for p in others), upper):
                slope = first.slope_at(x)
                least, most = torch.minimum(least, slope), torch.maximum(most, slope)
            return least, most
        least, most = torch.full_like(lower, inf), torch.full_like(lower, -inf)
        for piece in self.pieces:
            low, high = _slopes_on(piece, lower, upper)
            met = piece.met_by(lower, upper)
            least = torch.where(met, torch.minimum(least, low), least)
            most = torch.where(met, torch.maximum(most, high), most)
        return least, most

    def gradient(self, point: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Evaluate the derivative formula of the piece at the right of each point."""
        (x,) = point
        slope = self.pieces[0].slope_at(x)
        for before, piece in zip(self.pieces, self.pieces[1:], strict=False):
            if piece.derivative is not before.derivative:
                slope = torch.where(x >= piece.start, piece.slope_at(x), slope)
        return (slope,)

    def affine_on(self, box: Sequence[Interval]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Say where the box is a point, or lies in an affine piece."""
        ((lower, upper),) = box
        affine = lower == upper
        for piece in self.pieces:
            if piece.bend is Bend.AFFINE:
                affine = affine | piece.contains(lower, upper)
        if affine.device.type == "cpu" and not bool(affine.any()):
            return affine, (lower.new_zeros(()).expand_as(lower),)  # a slope that no neuron has
        (slope,) = self.gradient([lower])
        return affine, (torch.where(slope.isfinite(), slope, 0.0),)

    def curvature(self, box: Sequence[Interval]) -> Tensor:
        """Combine the pieces that the box meets with the kinks inside it."""
        ((lower, upper),) = box
        defined = self.defined_on(lower, upper)
        convex = torch.ones_like(lower, dtype=torch.bool) if defined is None else defined
        concave = convex
        for piece in self.pieces:
            missed = ~piece.met_by(lower, upper)
            if piece.bend not in (Bend.AFFINE, Bend.CONVEX):
                convex = convex & missed
            if piece.bend not in (Bend.AFFINE, Bend.CONCAVE):
                concave = concave & missed
        for before, piece in zip(self.pieces, self.pieces[1:], strict=False):
            if piece.derivative is before.derivative:
                continue
            joint = torch.full_like(lower, piece.start)
            kink = piece.slope_at(joint) - before.slope_at(joint)
            outside = (lower >= piece.start) | (upper <= piece.start)
            convex, concave = convex & (outside | (kink >= 0)), concave & (outside | (kink <= 0))
        return convex.to(lower.dtype) - (concave & ~convex).to(lower.dtype)

    def inverse(self, output: Interval, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Shave off both ends of the box whatever maps outside the output."""
        return (shave(self, output, box[0]),)

    def range(self, box: Sequence[Interval]) -> Interval:
        """Bound the values over the box: those of its ends, and of a valley between them."""
        if not self.monotone and self.valley is None:
            return super().range(box)
        ((lower, upper),) = box
        low, high = self(lower), self(upper)
        if self.valley is not None:
            bottom = self(clamp_into(self.valley, lower, upper))
            low, high = torch.minimum(torch.minimum(low, high), bottom), torch.maximum(low, high)
        most = torch.finfo(lower.dtype).max
        # A value that overflowed is at least the largest float, and no more is known of it.
        low = torch.nan_to_num(low, nan=-inf, posinf=most, neginf=-inf)
        high = torch.nan_to_num(high, nan=inf, posinf=inf, neginf=-most)
        defined = self.defined_on(lower, upper)
        if defined is None:
            return Interval(low, high)
        return Interval(torch.where(defined, low, -inf), torch.where(defined, high, inf))

    def _least_on(
        self, piece: Piece, here: Interval, slope: Tensor, b: Tensor, chord: Tensor
    ) -> Tensor:
        """Bound `slope x + b f(x)` on part of a piece; `chord` is the lesser value at its ends."""
        match piece.bend:
            case Bend.AFFINE:
                return chord
            case Bend.CONVEX:
                return torch.where(b > 0, self._tangent(piece, here, slope, b), chord)
            case Bend.CONCAVE:
                return torch.where(b < 0, self._tangent(piece, here, slope, b), chord)
            case Bend.UNKNOWN:
                assert piece.slopes is not None, "a sliver has an enclosure of its derivative"
                low, high = piece.slopes
                steepest = slope + torch.minimum(b * low, b * high)
                start = torch.addcmul(slope * here.lower, b, self(here.lower))
                return start + (steepest * (here.upper - here.lower)).clamp(max=0)

    def _tangent(self, piece: Piece, here: Interval, slope: Tensor, b: Tensor) -> Tensor:
        """Bound a convex `slope x + b f(x)` by the tangent at the proposed stationary point."""
        proposed = _proposed(piece, here, slope, b)
        return tangent_bound(slope, b, (self, piece.slope_at), here, proposed)

    def support_size(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Add up the sizes of what `support` adds, on the piece where that is most."""
        (slope,), ((lower, upper),) = a, box
        joints = [clamp_into(piece.start, lower, upper) for piece in self.pieces[1:]]
        ends = [lower, *joints, upper]
        sizes = [self._height_size(slope, b, x) for x in ends]
        most: Tensor | None = None
        for i, piece in enumerate(self.pieces):
            here = Interval(ends[i], ends[i + 1])
            chord = torch.maximum(sizes[i], sizes[i + 1])
            on_piece = self._size_on(piece, here, slope, b, chord)
            most = on_piece if most is None else torch.maximum(most, on_piece)
        assert most is not None, "an operator has at least one piece"
        return most

    def proved_range(self, box: Sequence[Interval]) -> Interval:
        """Bound the values over a box in float64, rounding included."""
        if self._range_by_ends:
            return super().proved_range(box)
        one = torch.ones_like(box[0].lower)
        zero = torch.zeros_like(one)
        low, high = (self.proved_support([zero], side, box) for side in (one, -one))
        return Interval(low, -high)

    @property
    def _range_by_ends(self) -> bool:
        """Whether `range` evaluates the operator at a few points, and nothing else."""
        return self.monotone or self.valley is not None

    def _height_size(self, slope: Tensor, b: Tensor, x: Tensor) -> Tensor:
        """Bound the error of `slope x + b f(x)` in units of the roundoff."""
        value = self(x).abs()
        f = 3 * value + self.roundings.value.size(value, x.abs())
        return 3 * product(slope.abs(), x.abs()) + product(b.abs(), f)

    def _steepness_size(self, slope: Tensor, b: Tensor, derivative: Tensor, x: Tensor) -> Tensor:
        """Bound the error of a slope of the form times a width, in units for each width."""
        f = 6 * derivative + self.roundings.slope.size(derivative, x.abs())
        return 6 * slope.abs() + product(b.abs(), f)

    def _size_on(
        self, piece: Piece, here: Interval, slope: Tensor, b: Tensor, chord: Tensor
    ) -> Tensor:
        """Do for sizes what `_least_on` does for values."""
        width = here.upper - here.lower
        match piece.bend:
            case Bend.AFFINE:
                return chord
            case Bend.UNKNOWN:
                assert piece.slopes is not None, "a sliver has an enclosure of its derivative"
                steepest = torch.full_like(b, max(abs(s) for s in piece.slopes))
                steepness = self._steepness_size(slope, b, steepest, magnitude(*here))
                return chord + product(steepness, width)
        x = tangent_point(here, _proposed(piece, here, slope, b))
        steepness = self._steepness_size(slope, b, piece.slope_at(x).abs(), x)
        tangent = self._height_size(slope, b, x) + product(steepness, width)
        bent = b > 0 if piece.bend is Bend.CONVEX else b < 0
        return torch.where(bent, tangent, chord)


@torch.no_grad()
def _proposed(piece: Piece, here: Interval, slope: Tensor, b: Tensor) -> Tensor:
    """Propose the point where `slope x + b f(x)` is stationary on a piece."""
    # Adding 0 turns -0 into 0, whose reciprocal a proposal may take.
    wanted = -slope / torch.where(b == 0, 1.0, b) + 0.0
    if piece.stationary is None:
        return _search(piece, here, wanted)
    return piece.stationary(wanted)


def _slopes_on(piece: Piece, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the largest derivative on the part of a piece inside the box."""
    if piece.slopes is not None:
        low, high = piece.slopes
        return torch.full_like(lower, low), torch.full_like(lower, high)
    start, end = (piece.slope_at(clamp_into(c, lower, upper)) for c in (piece.start, piece.end))
    return (end, start) if piece.bend is Bend.CONCAVE else (start, end)


def _search(piece: Piece, here: Interval, wanted: Tensor) -> Tensor:
    """Search the point of an interval where a monotone derivative takes the wanted value.

    Bisection, then regula falsi with the Illinois modification (Dowell, Jarratt 1971), which is
    slow where a derivative is flat over most of the interval. The result is a proposal.
    """
    left, right = here
    at_left, at_right = piece.slope_at(left) - wanted, piece.slope_at(right) - wanted
    # Without a change of sign the derivative comes nearest to the wanted value at an end.
    nearer = torch.where(at_left.abs() < at_right.abs(), left, right)
    crossing = at_left * at_right < 0
    for step in range(HALVINGS + SECANTS):
        if step < HALVINGS:
            x = (left + right) / 2
        else:
            # Where the root is met both values end as 0, and x stays.
            x = torch.where(
                at_right == 0, right, (left * at_right - right * at_left) / (at_right - at_left)
            )
        at_x = piece.slope_at(x) - wanted
        same = at_x * at_right > 0
        halved = at_left / 2 if step >= HALVINGS else at_left
        left, at_left = torch.where(same, left, right), torch.where(same, halved, at_right)
        right, at_right = x, at_x
    return torch.where(crossing & right.isfinite(), right, nearer)
