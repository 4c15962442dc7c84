"""A star set: every tensor of a network as an affine form over noise that meets linear rows.

Stars are those of Tran et al. ("Star-Based Reachability Analysis of Deep Neural Networks", FM
2019) and nnenum (Bak et al., CAV 2020). Affine nodes and single pieces of operators are exact; an
operator that is on several pieces is split, or its result is new noise between lines. Bounds come
from linear programs, and none of them is believed: they give multipliers, which `Duals` hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from absolver.analyzer.graph.graph import Affine
from absolver.analyzer.programs.duals import Cut, Duals, Forms, Place
from absolver.analyzer.programs.facts import LineSet
from absolver.analyzer.programs.highs import LinearProgram, Solved
from absolver.analyzer.programs.program import Array, Rows

_INFINITE = np.full(1, np.inf)


@dataclass(frozen=True, eq=False)
class Tensors:
    """The elements of one tensor: `center + basis @ noise`."""

    center: Array
    """`[elements]`."""
    basis: Array
    """`[elements, noise]`."""

    def copy(self) -> "Tensors":
        """Return the same in arrays of its own."""
        return Tensors(self.center.copy(), self.basis.copy())

    def take(self, element: int, slope: Array, offset: float, of: Sequence["Tensors"]) -> None:
        """Set an element to an affine function of the same element of other tensors."""
        self.center[element] = offset + sum(
            s * one.center[element] for s, one in zip(slope, of, strict=True)
        )
        self.basis[element] = sum(
            (s * one.basis[element] for s, one in zip(slope, of, strict=True)),
            start=np.zeros(self.basis.shape[1]),
        )


def through(node: Affine, operands: Sequence[Tensors]) -> Tensors:
    """Map tensors through an affine node."""
    size, noise = node.size, operands[0].basis.shape[1]
    center, basis = np.zeros(size), np.zeros((noise, size))
    for linear, operand in zip(node.maps, operands, strict=True):
        stacked = torch.from_numpy(np.vstack([operand.center, operand.basis.T]))
        mapped = linear.apply(stacked.view(-1, *linear.input_shape)).flatten(1).numpy()
        center += mapped[0]
        basis += mapped[1:]
    if node.bias is not None:
        center += node.bias.double().expand(node.shape).flatten().numpy()
    return Tensors(center, basis.T.copy())


@dataclass(frozen=True)
class _Line:
    """A row between an operator's result and its operands."""

    node: str
    element: int
    slope: tuple[float, ...]
    sign: int
    """1 where it is above the result, -1 where below."""


@dataclass(frozen=True)
class _Side:
    """A row that says on which side of a split an operand is: `sign * (operand - end) <= 0`."""

    place: Place
    sign: int


@dataclass(frozen=True)
class _Cut:
    """A half-space that cuts the input set, by number."""

    number: int


_Meaning = _Line | _Side | _Cut | int | None
"""What a row says of the network; a number is that of a clause's constraint."""


class Predicate:
    """The noise of stars: a box, and rows that are added and taken back in turn.

    The first noise is the input itself; then comes what results of operators may have.
    """

    def __init__(self, box: tuple[Array, Array], results: int) -> None:
        """Begin with a box of inputs and free noise for some results."""
        lower, upper = box
        free = np.full(results + 1, np.inf)
        self.noise = len(lower) + results
        self._lower, self._upper = lower, upper
        self._objective = self.noise
        self._cuts = 0
        self._program = LinearProgram(
            np.concatenate([lower, -free]), np.concatenate([upper, free]), Rows.joined([])
        )
        self._meanings: list[_Meaning] = []

    @property
    def start(self) -> Tensors:
        """The input, as noise."""
        size = len(self._lower)
        return Tensors(np.zeros(size), np.eye(size, self.noise))

    def mark(self) -> int:
        """Return how many rows there are."""
        return len(self._meanings)

    def undo(self, mark: int) -> None:
        """Take back all later rows."""
        if mark < len(self._meanings):
            self._program.remove_last(len(self._meanings) - mark)
            del self._meanings[mark:]

    def side(self, operand: Tensors, place: Place, sign: int, end: float) -> None:
        """Confine an operand to one side of a split."""
        center, basis = operand.center[place[1]], operand.basis[place[1]]
        self._at_most(sign * basis, sign * (end - center), _Side(place, sign))

    def order(self, smaller: Tensors, larger: Tensors, element: int) -> None:
        """Say that an element of one tensor is at most that of another one."""
        difference = smaller.basis[element] - larger.basis[element]
        self._at_most(difference, larger.center[element] - smaller.center[element], None)

    def between(
        self, result: int, operands: Sequence[Tensors], place: Place, sides: tuple[LineSet, LineSet]
    ) -> None:
        """Keep a result's noise between the lines around an operator of this one element."""
        for side, sign in zip(sides, (-1, 1), strict=True):
            for number in side.used[:, 0].nonzero().flatten().tolist():
                slope = side.slope[number, :, 0].numpy()
                row = np.zeros(self.noise)
                row[result] = 1.0
                limit = float(side.offset[number, 0])
                for s, operand in zip(slope, operands, strict=True):
                    row -= s * operand.basis[place[1]]
                    limit += float(s * operand.center[place[1]])
                line = _Line(*place, tuple(slope.tolist()), sign)
                self._at_most(sign * row, sign * limit, line)

    def half_spaces(self, matrix: Array, bound: Array) -> None:
        """Cut the inputs."""
        for number, (row, limit) in enumerate(zip(matrix, bound, strict=True)):
            self._at_most(np.pad(row, (0, self.noise - len(row))), limit, _Cut(number))
        self._cuts = len(bound)

    def least(self, center: float, form: Array, seconds: float) -> Solved | None:
        """Minimise a form of the noise."""
        self._program.minimise(np.arange(self.noise), form)
        found = self._program.solve(seconds)
        if found is None or not found.feasible:
            return found
        return Solved(True, found.value + center, found.x, found.duals)

    def excess(self, output: Tensors, forms: Forms, seconds: float) -> Solved | None:
        """Minimise the largest excess of a clause's constraints, which are rows from then on."""
        for number, (form, bound) in enumerate(zip(forms.coefficients, forms.bound, strict=True)):
            self._at_most(form @ output.basis, bound - form @ output.center, number, rise=-1.0)
        # A clause that asks nothing is met by anything.
        cost = np.ones(1) if len(forms.bound) else np.zeros(1)
        self._program.minimise(np.array([self._objective]), cost)
        return self._program.solve(seconds)

    def input(self, solved: Solved) -> Array:
        """Return the input of a solution."""
        return np.clip(solved.x[: len(self._lower)], self._lower, self._upper)

    def duals(self, solved: Solved, sizes: Mapping[str, tuple[int, int]], count: int) -> Duals:
        """Say what a program's multipliers mean for a network of operators of these sizes.

        Lines of weights w and slopes s, those above with negative weights, replace a result by a
        multiple of its operands as the one line of slope `sum w s / sum w` does.
        """
        splits: dict[Place, float] = {}
        weights, cuts = np.zeros(count), np.zeros(self._cuts)
        total = {name: np.zeros(size) for name, (_, size) in sizes.items()}
        moved = {name: np.zeros(shape) for name, shape in sizes.items()}
        for dual, meaning in zip(-solved.duals, self._meanings, strict=True):
            match meaning:
                case int():
                    weights[meaning] = max(dual, 0.0)
                case _Cut(number):
                    cuts[number] = max(dual, 0.0)
                case _Side(place, sign) if dual > 0:
                    splits[place] = splits.get(place, 0.0) + sign * dual
                case _Line(node, element, slope, sign) if dual > 0:
                    signed = -sign * dual
                    total[node][element] += signed
                    moved[node][:, element] += signed * np.array(slope)
        slopes = {}
        for name, sum_ in total.items():
            some = np.abs(sum_) > 1e-12
            whole = np.where(some, sum_, 1.0)
            slopes[name] = tuple(np.where(some, row / whole, 0.0) for row in moved[name])
        return Duals(slopes, splits, weights, cuts)

    def _at_most(self, form: Array, limit: float, meaning: _Meaning, *, rise: float = 0.0) -> None:
        columns = np.nonzero(form)[0]
        terms = (columns, form[columns])
        if rise:
            terms = (np.append(columns, self._objective), np.append(form[columns], rise))
        self._program.add(Rows.of([terms], -_INFINITE, np.array([limit])))
        self._meanings.append(meaning)


def confined(cut: Cut, place: Place, sign: int, end: float) -> dict[Place, tuple[float, float]]:
    """Return splits with one side of one more."""
    low, high = cut.get(place, (-np.inf, np.inf))
    return {**cut, place: (low, min(high, end)) if sign > 0 else (max(low, end), high)}
