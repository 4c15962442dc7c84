"""The linear relaxation of a network over a set, whose lines move as operands are split."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from absolver.analyzer.graph.graph import Nonlinear
from absolver.analyzer.programs.build import excess_rows
from absolver.analyzer.programs.duals import Cut, Duals, Forms, Place, cut_box
from absolver.analyzer.programs.encoding import Encoding, Undecided
from absolver.analyzer.programs.facts import LineSet, lines, restricted
from absolver.analyzer.programs.group_hulls import GroupHulls
from absolver.analyzer.programs.highs import LinearProgram, Solved
from absolver.analyzer.programs.program import Array, Numbers, Rows
from absolver.analyzer.search.groups import Groups
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval

# A result this near to what its operator gives is there, and a split elsewhere tells more.
_CLOSE, _LEAST_PRICE = 1e-9, 1e-3


@dataclass(frozen=True, eq=False)
class Gap:
    """An element on which lines leave something open: how much, which one, and its box."""

    score: float
    one: Undecided
    number: int
    box: tuple[Interval, ...]


class Relaxation:
    """A linear program: affine nodes, lines around operators, splits, and one clause or form.

    Operands are bounded by nothing but lines, splits and the input set, so that duals are what a
    certificate can say.
    """

    def __init__(
        self, encoding: Encoding, domain: Domain, groups: Mapping[str, Groups] | None = None
    ) -> None:
        """Draw the lines that the encoding's boxes allow, and hulls of groups, by node's name."""
        self._encoding = encoding
        self._domain = domain
        count = len(encoding.lower)
        lower, upper = np.full(count + 1, -np.inf), np.full(count + 1, np.inf)
        inputs = encoding.inputs
        lower[inputs], upper[inputs] = encoding.lower[inputs], encoding.upper[inputs]
        self._program = LinearProgram(lower, upper, encoding.rows)
        self._objective = count
        self._around = [_Around(one, domain, self._program) for one in encoding.undecided]
        views, nodes = encoding.views, encoding.graph.by_name
        self._hulls: dict[str, GroupHulls] = {}
        for name, found in (groups or {}).items():
            node = nodes.get(name)
            if isinstance(node, Nonlinear):
                about = views[node.inputs[0]], views[name]
                self._hulls[name] = GroupHulls(node, found, about, self._program)
        self._users: dict[Place, list[tuple[_Around, int, int]]] = {}
        for around in self._around:
            for operand, name in enumerate(around.one.node.inputs):
                for number, place in enumerate(around.one.places.tolist()):
                    users = self._users.setdefault((name, place), [])
                    users.append((around, number, operand))
        self._cut: dict[Place, tuple[float, float]] = {}
        self._split_rows: dict[Place, int] = {}
        self._constraints: Numbers = np.zeros(0, np.int64)

    def pose(self, forms: Forms) -> None:
        """Minimise the largest excess of constraints; those of an earlier clause are let go."""
        for row in self._constraints.tolist():
            self._program.bound(row, -np.inf, np.inf)
        output = self._encoding.views[self._encoding.graph.output.name]
        self._constraints = self._program.add(excess_rows(forms, output, self._objective))
        # A clause without constraints on outputs is met wherever there is an input.
        cost = np.ones(1) if len(forms.bound) else np.zeros(1)
        self._program.minimise(np.array([self._objective]), cost)

    def split(self, cut: Cut) -> None:
        """Have exactly these splits, and lines around operators on the boxes that they leave."""
        changed = [p for p in {*cut, *self._cut} if cut.get(p) != self._cut.get(p)]
        self._cut = dict(cut)
        for place in changed:
            self._bound(place, cut.get(place))
        moved: dict[_Around, set[int]] = {}
        for place in changed:
            for around, number, _ in self._users.get(place, ()):
                moved.setdefault(around, set()).add(number)
        for around, numbers in moved.items():
            around.move(sorted(numbers), self._cut, self._program)

    def solve(self, seconds: float) -> Solved | None:
        """Solve the program of the clause that was posed, with the splits that it has."""
        return self._program.solve(seconds)

    def duals(self, solved: Solved) -> Duals:
        """Say what a program's duals mean for the network."""
        slopes, shares = {}, {}
        for around in self._around:
            name = around.one.node.name
            slopes[name], lines = around.slopes(solved.duals)
            if name in self._hulls:
                shares[name] = self._hulls[name].shares(solved.duals, lines, slopes[name][0])
        splits = {
            place: -float(solved.duals[row])
            for place, row in self._split_rows.items()
            if place in self._cut and solved.duals[row] != 0
        }
        weights = np.maximum(-solved.duals[self._constraints], 0.0)
        cuts = np.maximum(-solved.duals[: self._encoding.half_spaces], 0.0)
        return Duals(slopes, splits, weights, cuts, shares)

    def input(self, solved: Solved) -> Array:
        """Return the input of a program's solution."""
        found: Array = solved.x[self._encoding.inputs]
        return found

    def gaps(self, solved: Solved) -> list["Gap"]:
        """Return how far results are from what operators give there, the costliest first."""
        found = [gap for around in self._around for gap in around.gaps(solved)]
        return sorted(found, key=lambda gap: -gap.score)[:1]

    def widest(self) -> list["Gap"]:
        """Return an element whose operator is not affine, the widest one, if there is any left."""
        found = [gap for around in self._around for gap in around.widest()]
        return sorted(found, key=lambda gap: -gap.score)[:1]

    def _bound(self, place: Place, sides: tuple[float, float] | None) -> None:
        """Change the row that says what splits say of an operand."""
        if place not in self._split_rows:
            view = self._encoding.views[place[0]].at(np.array([place[1]]))
            terms = [(view.column, view.sign)]
            (row,) = self._program.add(Rows.of(terms, np.full(1, -np.inf), np.full(1, np.inf)))
            self._split_rows[place] = int(row)
        self._program.bound(self._split_rows[place], *(sides or (-np.inf, np.inf)))


class _Around:
    """The lines around the elements of one operator's node, in rows that stay where they are."""

    def __init__(self, one: Undecided, domain: Domain, program: LinearProgram) -> None:
        self.one = one
        self._domain = domain
        found = self._lines(np.arange(len(one.places)), list(one.box))
        self._sides = [side.compact() for side in found]
        self.box = [Interval(*(side.clone() for side in each)) for each in one.box]
        self._rows = [
            program.add(_rows(one, side, below)).reshape(side.offset.shape)
            for side, below in zip(self._sides, (True, False), strict=True)
        ]

    def move(self, numbers: list[int], cut: Cut, program: LinearProgram) -> None:
        """Draw the lines anew of elements whose operands' splits have changed."""
        index = torch.tensor(numbers)
        for operand, name in enumerate(self.one.node.inputs):
            for number in numbers:
                place = (name, int(self.one.places[number]))
                for side, end in zip(
                    self.box[operand],
                    cut_box(self.one.box[operand], number, cut.get(place)),
                    strict=True,
                ):
                    side[number] = end
        here = [Interval(i.lower[index], i.upper[index]) for i in self.box]
        found = self._lines(np.array(numbers), here)
        for known, fresh, rows, below in zip(
            self._sides, found, self._rows, (True, False), strict=True
        ):
            fresh = fresh.compact(len(known.offset))
            known.slope[:, :, index], known.offset[:, index] = fresh.slope, fresh.offset
            known.used[:, index] = fresh.used
            for number, element in enumerate(numbers):
                for slot, row in enumerate(rows[:, element].tolist()):
                    self._draw(row, element, (fresh, slot, number), below, program)

    def slopes(self, duals: Array) -> tuple[tuple[Array, ...], Array]:
        """Return the slopes with which the row of some duals passes each element of the node.

        Beside them, the coefficients of the row that the lines take.

        Lines below with multipliers m and above with n replace `(sum m - sum n) y` by a multiple
        of the operands, which is what one line of the mean slope does.
        """
        lower, upper = (
            np.maximum(sign * duals[rows], 0.0) * side.used.numpy()
            for sign, rows, side in zip((1, -1), self._rows, self._sides, strict=True)
        )
        total = lower.sum(0) - upper.sum(0)
        size = lower.sum(0) + upper.sum(0)
        some = np.abs(total) > 1e-9 * size
        result = []
        for operand in range(len(self.one.operands)):
            below, above = (side.slope[:, operand].numpy() for side in self._sides)
            moved = (lower * below).sum(0) - (upper * above).sum(0)
            whole = np.zeros(self.one.node.size)
            whole[self.one.places] = np.where(some, moved / np.where(some, total, 1.0), below[0])
            result.append(whole)
        taken = np.zeros(self.one.node.size)
        taken[self.one.places] = total
        return tuple(result), taken

    def gaps(self, solved: Solved) -> list["Gap"]:
        """Name the element whose result is farthest from what its operator gives, if one is.

        Distances count as much as the multipliers of the lines on which they depend.
        """
        operator = restricted(self.one.node.operator, self.one.node.shape, self.one.places)
        values = [torch.from_numpy(view.values(solved.x)) for view in self.one.operands]
        confined = [
            torch.minimum(torch.maximum(x, i.lower), i.upper)
            for x, i in zip(values, self.box, strict=True)
        ]
        gap = np.abs(solved.x[self.one.result] - operator(*confined).numpy())
        exact = operator.affine_on(self.box)[0].numpy()
        price = np.sum([np.abs(solved.duals[rows]).sum(0) for rows in self._rows], axis=0)
        score = np.where(exact | (gap <= _CLOSE), -1.0, gap * (_LEAST_PRICE + price))
        return self._best(score)

    def widest(self) -> list["Gap"]:
        """Name the element with the widest operand on which the operator is not affine."""
        operator = restricted(self.one.node.operator, self.one.node.shape, self.one.places)
        width = torch.stack([i.upper - i.lower for i in self.box]).amax(0).numpy()
        return self._best(np.where(operator.affine_on(self.box)[0].numpy(), -1.0, width))

    def _best(self, score: Array) -> list["Gap"]:
        number = int(score.argmax())
        if score[number] < 0:
            return []
        # A copy: the boxes are moved in place.
        box = tuple(Interval(i.lower[number].clone(), i.upper[number].clone()) for i in self.box)
        return [Gap(float(score[number]), self.one, number, box)]

    def _lines(self, numbers: Numbers, box: list[Interval]) -> tuple[LineSet, LineSet]:
        operator = restricted(self.one.node.operator, self.one.node.shape, self.one.places[numbers])
        return lines(operator, self._domain, box)

    def _draw(
        self,
        row: int,
        element: int,
        line: tuple[LineSet, int, int],
        below: bool,
        program: LinearProgram,
    ) -> None:
        side, place, number = line
        if not bool(side.used[place, number]):
            program.bound(row, -np.inf, np.inf)
            return
        offset = float(side.offset[place, number])
        coefficients: dict[int, float] = {}
        for operand, view in enumerate(self.one.operands):
            column, slope = int(view.column[element]), float(side.slope[place, operand, number])
            here = -slope * float(view.sign[element])
            coefficients[column] = coefficients.get(column, 0.0) + here
        for column, coefficient in coefficients.items():
            program.change(row, column, coefficient)
        program.bound(row, *((offset, np.inf) if below else (-np.inf, offset)))


def _rows(one: Undecided, side: LineSet, below: bool) -> Rows:
    """Return a row for each place of a line, used or not."""
    slope, offset, used = side.slope.numpy(), side.offset.numpy(), side.used.numpy()
    places, elements = offset.shape
    terms = []
    for place in range(places):
        for element in range(elements):
            pairs = [
                (int(view.column[element]), -slope[place, k, element] * view.sign[element])
                for k, view in enumerate(one.operands)
                if view.sign[element]
            ]
            columns = [int(one.result[element]), *(column for column, _ in pairs)]
            terms.append((columns, [1.0, *(coefficient for _, coefficient in pairs)]))
    free = np.full(offset.shape, np.inf)
    low = np.where(used, offset, -free) if below else -free
    high = free if below else np.where(used, offset, free)
    return Rows.of(terms, low.flatten(), high.flatten())
