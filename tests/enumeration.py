"""Small piecewise-linear networks, decided by listing all of their linear pieces in rationals.

A cell is a polytope of inputs on which everything so far is affine, given by its vertices. Each
neuron cuts it into the parts on which the neuron is on one piece. What is left at the end are the
cells of the network, on each of which a property is a question about a polytope. Nothing of the
analyzer is used here: this is what its exact engines are compared with.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

Form = tuple[Fraction, ...]
"""Coefficients of the inputs, and then a constant."""
Matrix = Sequence[Sequence[Fraction]]


@dataclass(frozen=True)
class HalfSpace:
    """The points x with `form(x) <= 0`, or `< 0`."""

    form: Form
    strict: bool = False


@dataclass(frozen=True)
class Polytope:
    """The convex hull of vertices, and how many half-spaces have made it.

    Each vertex comes with the numbers of all half-spaces on whose boundary it lies.
    """

    vertices: tuple[tuple[tuple[Fraction, ...], frozenset[int]], ...]
    count: int

    @staticmethod
    def box(sides: Sequence[tuple[Fraction, Fraction]]) -> "Polytope":
        """Return a box."""
        vertices = []
        for point in product(*(dict.fromkeys(side) for side in sides)):
            tight = [
                2 * i + j for i, side in enumerate(sides) for j in range(2) if point[i] == side[j]
            ]
            vertices.append((point, frozenset(tight)))
        return Polytope(tuple(vertices), 2 * len(sides))

    def cut(self, form: Form) -> "Polytope":
        """Return the part on which the form is at most 0, by the double description method."""
        heights = [value(form, point) for point, _ in self.vertices]
        kept = [
            (point, tight | {self.count} if height == 0 else tight)
            for (point, tight), height in zip(self.vertices, heights, strict=True)
            if height <= 0
        ]
        if len(kept) < len(self.vertices):
            inside = [i for i, height in enumerate(heights) if height < 0]
            outside = [i for i, height in enumerate(heights) if height > 0]
            for i, j in product(inside, outside):
                common = self.vertices[i][1] & self.vertices[j][1]
                if self._neighbours(i, j, common):
                    share = heights[i] / (heights[i] - heights[j])
                    point = tuple(
                        a + share * (b - a)
                        for a, b in zip(self.vertices[i][0], self.vertices[j][0], strict=True)
                    )
                    kept.append((point, common | {self.count}))
        return Polytope(tuple(kept), self.count + 1)

    def _neighbours(self, first: int, second: int, common: frozenset[int]) -> bool:
        return not any(
            common <= tight
            for k, (_, tight) in enumerate(self.vertices)
            if k not in (first, second)
        )


def value(form: Form, point: Sequence[Fraction]) -> Fraction:
    """Evaluate a form at a point."""
    return sum((c * x for c, x in zip(form, point, strict=False)), start=form[-1])


def plus(first: Form, second: Form, factor: Fraction = Fraction(1)) -> Form:
    """Add a multiple of a form to another one."""
    return tuple(a + factor * b for a, b in zip(first, second, strict=True))


def times(form: Form, factor: Fraction) -> Form:
    """Multiply a form."""
    return tuple(factor * a for a in form)


Piece = tuple[Form, list[Form]]
"""A result, and forms that are at most 0 where it is that."""
Pieces = Callable[[Sequence[Form]], Iterator[Piece]]
"""Yields what an operator's result is, by parts of the inputs, from its operands."""


@dataclass(frozen=True)
class Affine:
    """`matrix @ x + bias` of earlier values, by number."""

    matrix: Matrix
    bias: Sequence[Fraction]
    of: int


@dataclass(frozen=True)
class Sum:
    """The sum of two earlier values."""

    first: int
    second: int


@dataclass(frozen=True)
class Operator:
    """An operator on groups of elements of an earlier value: one result for each group."""

    pieces: Pieces
    groups: Sequence[Sequence[int]]
    of: int


Step = Affine | Sum | Operator


@dataclass(frozen=True)
class Network:
    """Steps, each of which makes one more value; value 0 is the input, the last one the output."""

    inputs: int
    steps: tuple[Step, ...]

    @property
    def neurons(self) -> int:
        """How many results operators have."""
        return sum(len(step.groups) for step in self.steps if isinstance(step, Operator))


@dataclass(frozen=True)
class Disjunct:
    """One way to be unsafe: half-spaces of inputs and of outputs, all of which hold."""

    on_inputs: tuple[HalfSpace, ...] = ()
    on_outputs: tuple[HalfSpace, ...] = ()


@dataclass(frozen=True)
class Question:
    """A box of inputs, and what must not be."""

    box: tuple[tuple[Fraction, Fraction], ...]
    disjuncts: tuple[Disjunct, ...] = field(default_factory=tuple)


def cells(network: Network, polytope: Polytope) -> Iterator[tuple[Polytope, Sequence[Form]]]:
    """Yield every piece of a network on a polytope, with the outputs as forms of the inputs."""
    size = network.inputs
    inputs = [tuple(Fraction(i == j) for j in range(size + 1)) for i in range(size)]
    yield from _follow(network.steps, 0, polytope, [inputs])


def _follow(
    steps: Sequence[Step], number: int, polytope: Polytope, known: list[list[Form]]
) -> Iterator[tuple[Polytope, Sequence[Form]]]:
    if number == len(steps):
        yield polytope, known[-1]
        return
    match steps[number]:
        case Affine(matrix, bias, of):
            zero = tuple(Fraction(0) for _ in known[0][0])
            results = []
            for row, constant in zip(matrix, bias, strict=True):
                total: Form = (*zero[:-1], constant)
                for coefficient, form in zip(row, known[of], strict=True):
                    if coefficient:
                        total = plus(total, form, coefficient)
                results.append(total)
            yield from _follow(steps, number + 1, polytope, [*known, results])
        case Sum(first, second):
            results = [plus(a, b) for a, b in zip(known[first], known[second], strict=True)]
            yield from _follow(steps, number + 1, polytope, [*known, results])
        case Operator(pieces, groups, of):
            for part, results in _operate(pieces, groups, known[of], polytope):
                yield from _follow(steps, number + 1, part, [*known, results])


def _operate(
    pieces: Pieces, groups: Sequence[Sequence[int]], known: Sequence[Form], polytope: Polytope
) -> Iterator[tuple[Polytope, list[Form]]]:
    if not groups:
        yield polytope, []
        return
    parts: list[tuple[Form, Polytope]] = []
    for result, conditions in pieces([known[i] for i in groups[0]]):
        part = polytope
        for condition in conditions:
            part = part.cut(condition)
        parts.append((result, part))
    # A part that is the face of another one has nothing new: operators are continuous.
    points = [{point for point, _ in part.vertices} for _, part in parts]
    for number, (result, part) in enumerate(parts):
        own = points[number]
        if not own or any(own < other for other in points) or own in points[:number]:
            continue
        for smaller, others in _operate(pieces, groups[1:], known, part):
            yield smaller, [result, *others]


def unsafe(network: Network, question: Question) -> bool:
    """Say whether some input of the box is unsafe, exactly."""
    for disjunct in question.disjuncts:
        polytope = Polytope.box(question.box)
        for half_space in disjunct.on_inputs:
            polytope = polytope.cut(half_space.form)
        for cell, outputs in cells(network, polytope) if polytope.vertices else ():
            composed = [HalfSpace(compose(h.form, outputs), h.strict) for h in disjunct.on_outputs]
            if _meets(cell, (*composed, *disjunct.on_inputs)):
                return True
    return False


def compose(form: Form, outputs: Sequence[Form]) -> Form:
    """Return a form of outputs as one of inputs."""
    total: Form = (*(Fraction(0) for _ in outputs[0][:-1]), form[-1])
    for coefficient, output in zip(form, outputs, strict=False):
        total = plus(total, output, coefficient)
    return total


def _meets(cell: Polytope, half_spaces: Sequence[HalfSpace]) -> bool:
    """Say whether a cell has a point in all half-spaces, strictly where they are strict."""
    for half_space in half_spaces:
        cell = cell.cut(half_space.form)
    # The mean of all vertices meets strictly whatever some vertex meets strictly.
    return bool(cell.vertices) and all(
        any(value(h.form, point) < 0 for point, _ in cell.vertices) for h in half_spaces if h.strict
    )


def extremes(
    network: Network, box: Sequence[tuple[Fraction, Fraction]], form: Form
) -> list[tuple[Fraction, tuple[Fraction, ...]]]:
    """Return a form's values at all vertices of all cells, the least first, and where they are."""
    return sorted(
        (value(compose(form, outputs), point), point)
        for cell, outputs in cells(network, Polytope.box(box))
        for point, _ in cell.vertices
    )


def bent(*lines: tuple[Fraction, Fraction], kinks: Sequence[Fraction]) -> Pieces:
    """Return an operator of one operand: lines `slope, offset` between kinks, in order."""

    def pieces(operands: Sequence[Form]) -> Iterator[Piece]:
        (x,) = operands
        one = (*(Fraction(0) for _ in x[:-1]), Fraction(1))
        for i, (slope, offset) in enumerate(lines):
            conditions = []
            if i > 0:
                conditions.append(times(plus(x, one, -kinks[i - 1]), Fraction(-1)))
            if i < len(kinks):
                conditions.append(plus(x, one, -kinks[i]))
            yield plus(times(x, slope), one, offset), conditions

    return pieces


def largest(operands: Sequence[Form]) -> Iterator[Piece]:
    """Yield the largest operand."""
    for i, winner in enumerate(operands):
        yield (
            winner,
            [plus(x, winner, Fraction(-1)) for j, x in enumerate(operands) if j != i],
        )


def evaluate(network: Network, point: Sequence[Fraction]) -> list[Fraction]:
    """Run a network on one exact point."""
    box = [(x, x) for x in point]
    _, outputs = next(cells(network, Polytope.box(box)))
    return [value(form, point) for form in outputs]
