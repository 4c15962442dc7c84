"""Interval steps: the box of a node from the boxes of its operands, and the node as lines.

Everything is rounded outwards. A term that is not there costs nothing, so that 0 * inf = 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.arithmetic import Array, Constants, Fast, cost, inflate
from absolver.certificates.linear import Linear
from absolver.certificates.network import Affine, Floats, Move, Operator
from absolver.certificates.rounding import Box, down, gamma, up
from absolver.certificates.rules import rule_for
from absolver.certificates.semantics import Profile

Slope = Floats | str


class Lines(NamedTuple):
    """Proposed slopes of an operator, one entry for each operand: numbers, or "chord"."""

    lower: Sequence[Slope]
    upper: Sequence[Slope]


@dataclass(frozen=True, eq=False)
class Line:
    """How a row gets from a node h to its operands p: `h - sum of M_p p` lies in `constants`.

    M_p is the affine node's map, or the diagonal matrix of an operator's slopes, None if all are 0:
    for positive coefficients the lower ones, and the constants' lower ends; for negative ones the
    upper ones.
    The constants pay for all roundings that are bounded relative to the coefficients; `sums`, which
    bound the sum of |p| over the elements of p that are bounded, are the price of a slack.
    """

    constants: Constants
    slopes: Sequence[tuple[Array, Array] | None]
    sums: Sequence[Floats]


@dataclass(frozen=True, eq=False)
class Step:
    """An interval step: a node's box, and how rows get past the node, found when it is needed.

    No number that an execution meets in computing the node is larger than `largest`.
    """

    box: Box
    largest: float
    line: Callable[[], Line]


def size_of(box: Box) -> Floats:
    """Return the largest absolute value of each element."""
    return np.maximum(np.abs(box.lower), np.abs(box.upper))


def meet(a: Box, b: Box) -> Box:
    """Return the intersection; an end that is NaN says nothing."""
    return Box(np.fmax(a.lower, b.lower), np.fmin(a.upper, b.upper))


def moved_from(node: Affine | Operator | None) -> Move | None:
    """Return the map of a node that only moves data, None for all others."""
    if isinstance(node, Affine) and len(node.terms) == 1 and not node.roundings:
        linear = node.terms[0][1]
        if isinstance(linear, Move) and node.bias is None and node.bias_error is None:
            return linear
    return None


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
        node = self._node
        center, radius, reach, slack, forward_error, backward_error = np.zeros((6, node.size))
        missing, sums, operand = np.zeros(node.size, np.bool_), [], 0.0
        for linear, box in zip(self.maps, boxes, strict=True):
            bounded = np.isfinite(box.lower) & np.isfinite(box.upper)
            lower, upper = (np.where(bounded, end, 0.0) for end in box)
            middle, size = lower / 2 + upper / 2, np.maximum(np.abs(lower), np.abs(upper))
            half = np.where(bounded, up(np.maximum(upper - middle, middle - lower)), 0.0)
            sums.append(inflate(size.sum(), size.size))
            moved, slack_of_center = linear.forward(middle[None])
            sizes, slack_of_sizes = linear.forward(np.stack([half, size]), absolute=True)
            center, radius, reach = center + moved[0], radius + sizes[0], reach + sizes[1]
            slack = slack + np.max(slack_of_center) + np.max(slack_of_sizes)
            if not bounded.all():
                missing |= linear.reaches(~bounded)
                size = np.where(bounded, size, np.inf)
            operand = max(operand, float(size.max(initial=0.0)))
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
            image = Box(*(np.where(moves.index < 0, 0.0, end[moves.index]) for end in boxes[0]))
        largest = float(inflate(reach + bias + executed, 4).max(initial=0.0))

        def line() -> Line:
            costs = cost(self._charge, reach), backward_error, self._doubt, executed
            exact = Box(self._bias, self._bias)
            return Line(_constants(self._arithmetic, exact, (costs, costs)), (), sums)

        return Step(image, largest, cache(line))


class OperatorNode:
    """An operator, ready for a check. `uses` says how often each operand is used in all."""

    def __init__(
        self, node: Operator, uses: Sequence[int], arithmetic: Fast, profile: Profile
    ) -> None:
        """Find its rule."""
        self._node, self._arithmetic, self._profile = node, arithmetic, profile
        self._rule = rule_for(node.function)
        self._charges = [arithmetic.charge(1 + n) for n in uses]

    def step(self, boxes: Sequence[Box], lines: Lines | None = None) -> Step:
        """Find the range."""
        image = self._rule.range(boxes, self._node.attributes)
        error = self._profile.operator_error(self._node, image)
        if error.any():
            image = Box(down(image.lower - error), up(image.upper + error))
        largest = float(size_of(image).max(initial=0.0))
        return Step(image, largest, cache(partial(self._line, boxes, lines, error)))

    def _line(self, boxes: Sequence[Box], lines: Lines | None, error: Floats) -> Line:
        """Find the offsets of the proposed slopes, of exact ones where f is affine."""
        attributes = self._node.attributes
        affine = self._rule.affine(boxes, attributes)
        lower, upper = (self._slopes(side, boxes, affine) for side in lines or (None, None))
        below = self._rule.offset_below(lower, boxes, attributes)
        above = self._rule.offset_above(upper, boxes, attributes)
        line = Box(np.fmax(below, -np.inf), np.fmin(above, np.inf))
        sizes = [size_of(box) for box in boxes]
        # The product of a coefficient and a slope is rounded, and then added to other uses.
        costs = [
            [error]
            + [
                cost(charge, cost(np.abs(slope), size))
                for charge, slope, size in zip(self._charges, slopes, sizes, strict=True)
            ]
            for slopes in (lower, upper)
        ]
        constants = _constants(self._arithmetic, line, costs)
        finite = [np.where(np.isfinite(size), size, 0.0) for size in sizes]
        sums = [inflate(size.sum(), size.size) for size in finite]
        numbers = self._arithmetic.numbers
        exact = [
            (numbers(s), numbers(t)) if s.any() or t.any() else None
            for s, t in zip(lower, upper, strict=True)
        ]
        return Line(constants, exact, sums)

    def bent(self, boxes: Sequence[Box]) -> NDArray[np.bool_]:
        """Return where the function is not known to be affine over the boxes."""
        affine = self._rule.affine(boxes, self._node.attributes)
        return np.ones(self._node.size, np.bool_) if affine is None else ~affine[0]

    def _slopes(
        self,
        proposed: Sequence[Slope] | None,
        boxes: Sequence[Box],
        affine: tuple[NDArray[np.bool_], tuple[Floats, ...]] | None,
    ) -> list[Floats]:
        node, slopes = self._node, []
        for i, box in enumerate(boxes):
            slope = np.zeros(node.size) if proposed is None else proposed[i]
            if isinstance(slope, str):
                slope = self._rule.chord(box, node.attributes)
            slopes.append(slope if affine is None else np.where(affine[0], affine[1][i], slope))
        return slopes


def _constants(arithmetic: Fast, line: Box, costs: Sequence[Sequence[Floats]]) -> Constants:
    """Return the constants of lines that lie lower, and higher, by all of the costs."""
    below, above = (np.sum(side, axis=0) for side in costs)
    lower = np.where(below > 0, down(line.lower - inflate(below, len(costs[0]))), line.lower)
    upper = np.where(above > 0, up(line.upper + inflate(above, len(costs[1]))), line.upper)
    return arithmetic.prepare(lower, upper)
