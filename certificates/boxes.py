"""Interval steps: the box of a node from the boxes of its operands, and the node as lines.

Arrays have an axis of branches and one of elements. Everything is rounded outwards. A term that is
not there costs nothing, so that 0 * inf = 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.arithmetic import Array, Constants, Fast, cost, inflate
from absolver.certificates.linear import Linear
from absolver.certificates.network import Affine, Floats, Ints, Operator, moved_from
from absolver.certificates.rounding import Box, down, gamma, up
from absolver.certificates.rules import rule_for
from absolver.certificates.semantics import Profile

Slope = NDArray[Any] | str


class Lines(NamedTuple):
    """Proposed slopes of an operator, for each operand: numbers, "chord" or "adaptive".

    Groups take a share of a row, and tilt the slopes of what they take.
    """

    lower: Sequence[Slope]
    upper: Sequence[Slope]
    share: NDArray[Any] | None = None
    tilt: NDArray[Any] | None = None

    def chosen(self, places: Ints) -> "Lines":
        """Return the lines of some nodes of a tree, or rows, where arrays have an axis of them."""
        lower, upper = (
            [s if isinstance(s, str) or s.ndim == 1 else s[places].astype(np.float64) for s in side]
            for side in self[:2]
        )
        groups = (x if x is None or x.ndim == 2 else x[places] for x in self[2:])
        return Lines(lower, upper, *groups)


@dataclass(frozen=True, eq=False)
class Line:
    """How a row gets from a node h to its operands p: `h - sum of M_p p` lies in `constants`.

    M_p is the affine node's map, or the diagonal matrix of an operator's slopes, None if all are 0:
    for positive coefficients the lower ones, and the constants' lower ends; for negative ones the
    upper ones.
    The constants pay for all roundings that are bounded relative to the coefficients; `sums`, of
    |p| over the elements of p that are bounded, for each branch, are the price of a slack.
    """

    constants: Constants
    slopes: Sequence[tuple[Array, Array] | None]
    sums: Sequence[Floats]


@dataclass(frozen=True, eq=False)
class Step:
    """An interval step: a node's box, and how rows get past the node, found when it is needed.

    No number that an execution meets in computing the node is larger than the branch's `largest`.
    """

    operands: Sequence[Box]
    box: Box
    largest: Floats
    line: Callable[[], Line]
    lines: Lines | None = None


def size_of(box: Box) -> Floats:
    """Return the largest absolute value of each element."""
    return np.maximum(np.abs(box.lower), np.abs(box.upper))


def meet(a: Box, b: Box) -> Box:
    """Return the intersection; an end that is NaN says nothing."""
    return Box(np.fmax(a.lower, b.lower), np.fmin(a.upper, b.upper))


class AffineNode:
    """An affine node, ready for a check. `uses` says how often each operand is used in all."""

    def __init__(
        self, node: Affine, uses: Sequence[int], arithmetic: Fast, profile: Profile
    ) -> None:
        """Prepare the maps."""
        self._node, self._arithmetic, self._profile = node, arithmetic, profile
        self.maps = [Linear(linear, arithmetic) for _, linear in node.terms]
        # A few operations more for the sums over the terms, the bias, and the slacks.
        most = max((m.forward_roundings for m in self.maps), default=0)
        self._forward = most + len(self.maps) + 4
        # A coefficient of an operand is a sum over its uses: as many roundings come on top of the
        # map's (Higham, lemma 3.3: gamma_j + gamma_k + gamma_j gamma_k <= gamma_j+k).
        counts = [m.backward_roundings + n for m, n in zip(self.maps, uses, strict=True)]
        self._charge = arithmetic.charge(max(counts, default=0))
        self._bias = np.zeros(node.size) if node.bias is None else node.bias
        self._doubt = np.zeros(node.size) if node.bias_error is None else node.bias_error

    def step(self, boxes: Sequence[Box], lines: Lines | None = None) -> Step:
        """Evaluate the maps at the boxes' centres, radii and sizes.

        With `reach` >= sum of |M| |p|, any k roundings cost at most gamma_k (reach + |bias|).
        """
        node, count = self._node, len(boxes[0].lower) if boxes else 1
        center, radius, reach, forward_error, backward_error = np.zeros((5, count, node.size))
        missing, sums, (slack, operand) = center != 0, [], np.zeros((2, count, 1))
        for linear, box in zip(self.maps, boxes, strict=True):
            bounded = np.isfinite(box.lower) & np.isfinite(box.upper)
            lower, upper = (np.where(bounded, end, 0.0) for end in box)
            middle, size = lower / 2 + upper / 2, np.maximum(np.abs(lower), np.abs(upper))
            half = np.where(bounded, up(np.maximum(upper - middle, middle - lower)), 0.0)
            sums.append(inflate(size.sum(axis=1), size.shape[1]))
            for x, total in (middle, center), (half, radius), (size, reach):
                moved, missed = linear.forward(x, absolute=total is not center)
                total += moved
                slack = slack + np.broadcast_to(missed, count)[:, None]
            if not bounded.all():
                missing |= linear.reaches(~bounded)
                size = np.where(bounded, size, np.inf)
            operand = np.maximum(operand, size.max(axis=1, initial=0.0, keepdims=True))
            if linear.forward_error is not None and linear.backward_error is not None:
                forward_error = forward_error + cost(linear.forward_error, size)
                backward_error = backward_error + cost(linear.backward_error, size)
        reach = inflate(reach + slack, self._forward) + forward_error
        reach = np.where(missing, np.inf, up(reach))
        bias = up(np.abs(self._bias) + self._doubt)
        executed = self._profile.affine_error(node, reach, bias, operand)
        rounded = up(gamma(2 * self._forward) * up(reach + bias))
        margin = radius + slack + rounded + forward_error + self._doubt + executed
        center = center + self._bias
        # Where a sum overflowed on the way, inf - inf is no bound.
        margin = np.where(np.isfinite(center), inflate(margin, self._forward), np.inf)
        moves = moved_from(node)
        if moves is None:
            image = Box(down(center - margin), up(center + margin))
        else:
            image = Box(*(np.where(moves.index < 0, 0.0, end[:, moves.index]) for end in boxes[0]))
        largest = inflate(reach + bias + executed, 4).max(axis=1, initial=0.0)

        def line() -> Line:
            costs = cost(self._charge, reach), backward_error, self._doubt, executed
            exact = Box(self._bias, self._bias)
            return Line(_constants(self._arithmetic, exact, (costs, costs)), (), sums)

        return Step(boxes, image, largest, cache(line))


class OperatorNode:
    """An operator, ready for a check. `uses` says how often each operand is used in all."""

    def __init__(
        self, node: Operator, uses: Sequence[int], arithmetic: Fast, profile: Profile
    ) -> None:
        """Find its rule."""
        self.node, self._arithmetic, self._profile = node, arithmetic, profile
        self._rule = rule_for(node.function)
        # A product, what groups have, and the other uses.
        self._charges = [arithmetic.charge(2 + n) for n in uses]

    def step(self, boxes: Sequence[Box], lines: Lines | None = None) -> Step:
        """Find the range."""
        image = self._rule.range(boxes, self.node.attributes)
        error = self._profile.operator_error(self.node, image)
        if error.any():
            image = Box(down(image.lower - error), up(image.upper + error))
        largest = size_of(image).max(axis=1, initial=0.0)
        return Step(boxes, image, largest, cache(partial(self._line, boxes, lines, error)), lines)

    def _line(self, boxes: Sequence[Box], lines: Lines | None, error: Floats) -> Line:
        """Find the offsets of the proposed slopes; where f is affine, it is its own line."""
        nothing = [np.zeros(self.node.size)] * len(boxes)
        lower, below = self._side(boxes, lines.lower if lines else nothing, above=False)
        upper, above = self._side(boxes, lines.upper if lines else nothing, above=True)
        sizes = [size_of(box) for box in boxes]
        # The product of a coefficient and a slope is rounded, and then added to others.
        costs = [
            [error]
            + [
                cost(charge, cost(np.abs(slope), size))
                for charge, slope, size in zip(self._charges, slopes, sizes, strict=True)
            ]
            for slopes in (lower, upper)
        ]
        constants = _constants(self._arithmetic, Box(below, above), costs)
        finite = [np.where(np.isfinite(size), size, 0.0) for size in sizes]
        sums = [inflate(size.sum(axis=1), size.shape[1]) for size in finite]
        numbers = self._arithmetic.numbers
        exact = [
            (numbers(s), numbers(t)) if s.any() or t.any() else None
            for s, t in zip(lower, upper, strict=True)
        ]
        return Line(constants, exact, sums)

    def _side(
        self, boxes: Sequence[Box], proposed: Sequence[Slope], *, above: bool
    ) -> tuple[list[Floats], Floats]:
        """Return the slopes of the lines on one side, and their offsets."""
        # Rows may have slopes of their own over the boxes of their branch.
        several = [np.shape(slope) for slope in proposed if not isinstance(slope, str)]
        rule, shape = self._rule, np.broadcast_shapes(boxes[0].lower.shape, *several)
        bent = np.broadcast_to(self.bent(boxes), shape)
        exact = rule.affine(boxes, self.node.attributes)
        flat = np.zeros(shape)
        known, offset = ([flat] * len(boxes), flat) if exact is None else exact[1:]
        attributes = {
            key: np.broadcast_to(x, shape)[bent] for key, x in self.node.attributes.items()
        }
        curved, slopes = [], list[Floats]()
        for slope, whole in zip(proposed, boxes, strict=True):
            box = Box(*(np.broadcast_to(end, shape)[bent] for end in whole))
            curved.append(box)
            if not isinstance(slope, str):
                slopes.append(np.broadcast_to(slope, shape)[bent])
            elif slope == "chord":
                slopes.append(rule.chord(box, attributes))
            else:
                slopes.append((box.lower + box.upper > 0).astype(np.float64))
        if above:
            ends = np.fmin(rule.offset_above(slopes, curved, attributes), np.inf)
        else:
            ends = np.fmax(rule.offset_below(slopes, curved, attributes), -np.inf)
        return [_put(x, bent, slope) for x, slope in zip(known, slopes, strict=True)], _put(
            offset, bent, ends
        )

    def bent(self, boxes: Sequence[Box]) -> NDArray[np.bool_]:
        """Return where the function is not known to be affine over the boxes."""
        affine = self._rule.affine(boxes, self.node.attributes)
        return np.ones(boxes[0].lower.shape, np.bool_) if affine is None else ~affine[0]


def _put(x: Floats, where: NDArray[np.bool_], values: Floats) -> Floats:
    """Return x, with other values at some places."""
    result = np.array(np.broadcast_to(x, where.shape))
    result[where] = values
    return result


def _constants(arithmetic: Fast, line: Box, costs: Sequence[Sequence[Floats]]) -> Constants:
    """Return the constants of lines that lie lower, and higher, by all of the costs."""
    below, above = (sum(side[1:], side[0]) for side in costs)
    lower = np.where(below > 0, down(line.lower - inflate(below, len(costs[0]))), line.lower)
    upper = np.where(above > 0, up(line.upper + inflate(above, len(costs[1]))), line.upper)
    return arithmetic.prepare(lower, upper)
