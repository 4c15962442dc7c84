"""Operators in a tableau: what holds of their variables on some of their pieces."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from absolver.analyzer.simplex.rationals import ZERO, Number
from absolver.analyzer.simplex.tableau import Side

Options = tuple[int, ...]
"""Which pieces are still possible, in order."""
Limit = tuple[int, Side, Number]
"""A bound of a variable."""


@dataclass(frozen=True)
class Place:
    """An element of a tensor, by the node's name."""

    node: str
    element: int


@dataclass(frozen=True)
class Split:
    """Two parts of some pieces; the first has the lower values of an operand where there is one.

    `threshold` is where the operand lies between them; None where no operand says it.
    """

    first: Options
    second: Options
    threshold: Number | None


@dataclass(frozen=True, kw_only=True)
class AbstractChoice(ABC):
    """One neuron of an operator: on each of its pieces the result is linear in the operands.

    Guarantee: the operator's graph over the box is the union, over all options, of the points
    that meet the limits of that option alone; it meets the limits of all options together.
    """

    place: Place
    """The result."""
    operands: tuple[int, ...]
    """Variables, one for each operand that matters."""
    positions: tuple[int, ...] = (0,)
    """Which ones of the node's operands these are."""
    result: int

    @property
    @abstractmethod
    def options(self) -> Options:
        """All pieces that the box meets."""

    @property
    @abstractmethod
    def variables(self) -> tuple[int, ...]:
        """Every variable that limits are about."""

    @abstractmethod
    def limits(self, options: Options) -> Iterator[Limit]:
        """Say what holds of the variables if one of these pieces has the point."""

    @abstractmethod
    def evaluate(self, operands: Sequence[Number]) -> Number:
        """Return the operator's value."""

    @abstractmethod
    def operand_for(self, operands: Sequence[Number], result: Number) -> tuple[int, Number] | None:
        """Return an operand's variable and the value that would give a result, if one can."""

    @abstractmethod
    def options_at(self, operands: Sequence[Number]) -> Options:
        """Return the pieces that have a point of the operator's graph."""

    @abstractmethod
    def splits(self, options: Options) -> Iterator[Split]:
        """Yield the ways to divide some pieces in two."""


@dataclass(frozen=True)
class Slack:
    """A variable `result - slope * operand`."""

    slope: Number
    variable: int


@dataclass(frozen=True, kw_only=True)
class Bent(AbstractChoice):
    """A continuous piecewise-linear function of one operand on an interval.

    `corners` are the points of the graph at both ends of the interval and at the breakpoints
    between. The limits are lines with the slopes of all chords between corners: over any
    adjacent pieces they leave the convex hull of the graph.
    """

    corners: tuple[tuple[Number, Number], ...]
    slacks: tuple[Slack, ...]

    @property
    def options(self) -> Options:
        """One piece between each two corners."""
        return tuple(range(len(self.corners) - 1))

    @property
    def variables(self) -> tuple[int, ...]:
        """The operand, and what lies between result and lines."""
        return (*self.operands, *(slack.variable for slack in self.slacks))

    def limits(self, options: Options) -> Iterator[Limit]:
        """Bound the operand where that cuts the box, and the height over every line."""
        first, last = options[0], options[-1] + 1
        (operand,) = self.operands
        if first > 0:
            yield operand, Side.LOWER, self.corners[first][0]
        if last < len(self.corners) - 1:
            yield operand, Side.UPPER, self.corners[last][0]
        here = self.corners[first : last + 1]
        for slack in self.slacks:
            heights = [y - slack.slope * x for x, y in here]
            # A line is a side of the hull where it meets two corners.
            for side, height in ((Side.LOWER, min(heights)), (Side.UPPER, max(heights))):
                if heights.count(height) > 1:
                    yield slack.variable, side, height

    def slope(self, piece: int) -> Number:
        """Return the slope of one piece."""
        (left, low), (right, high) = self.corners[piece : piece + 2]
        return (high - low) / (right - left)

    def evaluate(self, operands: Sequence[Number]) -> Number:
        """Interpolate between the corners, and go straight on outside."""
        (x,) = operands
        piece = max((i for i in self.options if self.corners[i][0] <= x), default=0)
        left, low = self.corners[piece]
        return low + self.slope(piece) * (x - left)

    def operand_for(self, operands: Sequence[Number], result: Number) -> tuple[int, Number] | None:
        """Return the nearest point that has the value."""
        found = []
        for (left, low), (right, high) in zip(self.corners, self.corners[1:], strict=False):
            if low != high and min(low, high) <= result <= max(low, high):
                found.append(left + (right - left) * (result - low) / (high - low))
        (x,) = operands
        return min(
            ((self.operands[0], p) for p in found), key=lambda o: abs(o[1] - x), default=None
        )

    def options_at(self, operands: Sequence[Number]) -> Options:
        """Return one piece, or the two that meet in the point."""
        (x,) = operands
        pairs = zip(self.corners, self.corners[1:], strict=False)
        return tuple(i for i, ((a, _), (b, _)) in enumerate(pairs) if a <= x <= b)

    def splits(self, options: Options) -> Iterator[Split]:
        """Divide at each breakpoint."""
        for place in range(1, len(options)):
            kink = self.corners[options[place]][0]
            yield Split(options[:place], options[place:], kink)


@dataclass(frozen=True, kw_only=True)
class Extreme(AbstractChoice):
    """The largest of some operands (`sign` 1), or the smallest (-1).

    `distances` are variables `sign * (result - operand)`, of those operands only that may win.
    """

    sign: int
    distances: tuple[int, ...]
    reach: tuple[Number, ...]
    """How large `sign * operand` may be."""

    @property
    def options(self) -> Options:
        """One for each operand."""
        return tuple(range(len(self.distances)))

    @property
    def variables(self) -> tuple[int, ...]:
        """The result, and its distances from operands."""
        return (self.result, *self.distances)

    def limits(self, options: Options) -> Iterator[Limit]:
        """No operand goes beyond the result; the only one that is left is the result."""
        for distance in self.distances:
            yield distance, Side.LOWER, ZERO
        if len(options) == 1:
            yield self.distances[options[0]], Side.UPPER, ZERO
        most = max(self.reach[i] for i in options)
        yield self.result, Side.UPPER if self.sign > 0 else Side.LOWER, self.sign * most

    def evaluate(self, operands: Sequence[Number]) -> Number:
        """Take the largest or smallest operand."""
        return max(operands) if self.sign > 0 else min(operands)

    def operand_for(self, operands: Sequence[Number], result: Number) -> tuple[int, Number] | None:
        """Move the winner."""
        best = self.evaluate(operands)
        return self.operands[list(operands).index(best)], result

    def options_at(self, operands: Sequence[Number]) -> Options:
        """Return every operand that wins."""
        best = self.evaluate(operands)
        return tuple(i for i, value in enumerate(operands) if value == best)

    def splits(self, options: Options) -> Iterator[Split]:
        """Let one operand win, or none but the others."""
        for option in options:
            yield Split((option,), tuple(o for o in options if o != option), None)
            if len(options) == 2:
                return
