"""The kernel: bounds of linear forms of a network's values, by substitution back to the input.

Weak duality with residual folding: whatever slopes are proposed, each step replaces a node's value
by a line that holds over its operands' boxes, and every rounding is paid for at the size of what it
is multiplied with. Section 4 of the certificate format. All work is done for many branches of a
tree at once, which are the first axis of boxes; a row belongs to one branch, its owner.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from operator import is_

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.arithmetic import Array, Constants, Fast, cost, float_below, spread
from absolver.certificates.balls import Around, around, image, over_ball
from absolver.certificates.boxes import AffineNode, Lines, OperatorNode, Step, meet, size_of
from absolver.certificates.groups import GroupRequest, Groups, RowRequest, groups_of
from absolver.certificates.network import Affine, Ball, Broken, Floats, Ints, Network, Operator
from absolver.certificates.rounding import Box, add_down, add_up, down, mul_up, up
from absolver.certificates.semantics import Profile
from absolver.certificates.terms import CONSTANT, Cut, Terms

Coefficients = dict[int, Array]
Rows = tuple[Coefficients, Array]
"""Matrices of coefficients for nodes, and lower bounds of what is beside them."""
CHUNK, ROWS = 2**19, 1024
"""Numbers, and rows, in a matrix of rows: some six exist at a time, best in a cache."""


@dataclass(frozen=True, eq=False)
class Proposals:
    """The facts of a record: lines and groups of operators, and rows for each node.

    With `undecided`, rows also bound what may bend; with `balls` all nodes have balls from here on.
    """

    lines: Mapping[int, Lines] = field(default_factory=dict)
    rows: Mapping[int, Sequence[RowRequest]] = field(default_factory=dict)
    undecided: bool = False
    groups: Mapping[int, GroupRequest] = field(default_factory=dict)
    balls: bool = False


@dataclass(frozen=True, eq=False)
class Facts:
    """What holds at the points of some branches: boxes and steps of all nodes.

    `groups` hold for all branches. `case` bounds the input, exactly; `region` is its box, ready for
    `minimum`. Only the branches that are `alive` have points. `balls` are those of all nodes.
    """

    boxes: Sequence[Box]
    steps: Sequence[Step | None]
    lines: Mapping[int, Lines]
    groups: Mapping[int, Groups]
    case: Array
    region: Constants
    alive: NDArray[np.bool_]
    balls: Sequence[Around] | None = None


class Kernel:
    """A network, ready for a check with one arithmetic and one semantics."""

    def __init__(
        self, network: Network, arithmetic: Fast, profile: Profile, ball: Ball | None = None
    ) -> None:
        """Prepare the nodes; raises `Unsupported` where there is no rule."""
        profile.require(network)
        self.network, self.arithmetic, self.profile = network, arithmetic, profile
        self.operands = network.operands
        self.rows, self._last = 0, 0
        """How many rows were bounded so far, and the last of all operators."""
        used = [p for operands in self.operands for p in operands]
        self._uses = np.bincount(used, minlength=len(network.nodes)).tolist()
        self._nodes: list[AffineNode | OperatorNode | None] = []
        self._deciders: dict[int, list[tuple[OperatorNode, int, tuple[int, ...]]]] = {}
        for node, operands in zip(network.nodes, self.operands, strict=True):
            uses = [self._uses[p] for p in operands]
            if node is None:
                self._nodes.append(None)
            elif isinstance(node, Affine):
                self._nodes.append(AffineNode(node, uses, arithmetic, profile))
            else:
                operator = OperatorNode(node, uses, arithmetic, profile)
                self._last = len(self._nodes)
                self._nodes.append(operator)
                for p in operands:
                    entry = (operator, p, operands)
                    self._deciders.setdefault(network.bounded(p), []).append(entry)
        self._ball: Around | None = None
        if ball is not None:
            center, radius = np.array([ball.center], object), np.array([-float_below(-ball.radius)])
            self._ball = Around(Box(*_enclose(center)), radius, ball.norm)

    def root(self, lower: Sequence[Fraction | None], upper: Sequence[Fraction | None]) -> Facts:
        """Return what is known of a case before its first record: a box of the input."""
        case = np.empty((2, 1, len(lower)), object)
        case[0] = [-np.inf if q is None else q for q in lower]
        case[1] = [np.inf if q is None else q for q in upper]
        boxes = [Box(np.full((1, n), -np.inf), np.full((1, n), np.inf)) for n in self.network.sizes]
        boxes[0] = Box(_enclose(case[0])[0], _enclose(case[1])[1])
        region = self._region(boxes[0], case)
        return Facts(boxes, [None] * len(boxes), {}, {}, case, region, np.ones(1, np.bool_))

    def branches(self, facts: Facts, chosen: Ints) -> Facts:
        """Return what is known of some branches, which may occur repeatedly."""
        boxes = [Box(*(end[chosen] for end in box)) for box in facts.boxes]
        steps, region = [None] * len(boxes), self._region(boxes[0], facts.case)
        facts = replace(facts, balls=None if facts.balls is None else ())
        return replace(facts, boxes=boxes, steps=steps, region=region, alive=facts.alive[chosen])

    def cut(self, facts: Facts, cut: Cut) -> Facts:
        """Return what is known in the half-spaces, before boxes are computed again."""
        boxes = list(facts.boxes)
        for v in np.unique(cut.node):
            here, (lower, upper) = np.flatnonzero(cut.node == v), map(np.copy, boxes[v])
            place = here, cut.element[here]
            lower[place] = np.maximum(lower[place], cut.lower[here])
            upper[place] = np.minimum(upper[place], cut.upper[here])
            boxes[v] = Box(lower, upper)
        return replace(facts, boxes=boxes, region=self._region(boxes[0], facts.case))

    @np.errstate(all="ignore")
    def enter(self, parent: Facts, proposals: Proposals) -> Facts:
        """Return what holds at a record, where boxes are computed for every node in order.

        Guarantee: each box holds its node's value at all points of the parent, in every execution
        of the semantics.
        """
        boxes, steps, alive = list(parent.boxes), list(parent.steps), parent.alive.copy()
        lines, groups = {**parent.lines, **proposals.lines}, dict(parent.groups)
        balls: list[Around] | None = [] if proposals.balls or parent.balls is not None else None
        facts = replace(parent, boxes=boxes, steps=steps, lines=lines, groups=groups, alive=alive)
        for v, node in enumerate(self._nodes):
            before, operands = boxes[v], [boxes[p] for p in self.operands[v]]
            if v in proposals.groups:
                groups[v] = self._groups(facts, v, proposals.groups[v])
            step = steps[v]
            known = step is not None and all(map(is_, step.operands, operands))
            if node is not None and (v in proposals.lines or not known):
                steps[v] = step = node.step(operands, lines.get(v))
                boxes[v] = meet(before, step.box)
            boxes[v] = self._in_ball(boxes, v, balls)
            requests = list(proposals.rows.get(v, ()))
            if proposals.undecided:
                asked = self.undecided(facts, v)
                requests.append(RowRequest(np.nonzero([asked, asked]), {}))
            for request in requests:
                boxes[v] = meet(boxes[v], self._row_box(facts, v, request))
            empty = alive & (boxes[v].lower > boxes[v].upper).any(axis=1)
            if empty.any():
                # What has overflowed on the way here is in no box.
                self.require_range(steps[: v + 1], empty)
                alive[empty] = False
            if all(map(np.array_equal, before, boxes[v])):
                boxes[v] = before  # the same object, so that steps from it stay known
            elif v == 0:
                facts = replace(facts, region=self._region(boxes[0], facts.case))
        return replace(facts, balls=balls)

    def _in_ball(self, boxes: Sequence[Box], v: int, balls: list[Around] | None) -> Box:
        """Add the ball of a node, if there are any, and return the box of what is in it."""
        node, box = self._nodes[v], boxes[v]
        if balls is None:
            return box
        if not self.profile.real:
            raise Broken(f"balls say nothing of executions in {self.profile.name}")
        if node is not None:
            balls.append(image(node, [(balls[p], boxes[p]) for p in self.operands[v]], box))
        else:
            start = self._ball or Around(box, np.zeros(1))
            balls.append(around(start.center, (start.radius,), box))
        return meet(box, balls[v].box)

    def require_range(self, steps: Sequence[Step | None], branches: NDArray[np.bool_]) -> None:
        """Raise `Broken` where the first nodes may overflow, which is outside of the semantics."""
        for node, step in zip(self.network.nodes, steps, strict=False):
            if node is not None and step is not None:
                largest = step.largest[branches]
                if not (largest <= self.profile.limit).all():
                    raise Broken(
                        f"{node.name}: its values may reach {largest.max():.6g}, which overflows "
                        f"in {self.profile.name}"
                    )

    def in_range(self, steps: Sequence[Step | None]) -> NDArray[np.bool_]:
        """Return for which branches no node may overflow."""
        fits = [step.largest <= self.profile.limit for step in steps if step is not None]
        result: NDArray[np.bool_] = np.all(fits, axis=0)
        return result

    def undecided(self, facts: Facts, v: int) -> NDArray[np.bool_]:
        """Return where an operator on a bounded tensor is not known to be affine over the boxes."""
        mask = np.zeros(facts.boxes[v].lower.shape, np.bool_)
        for operator, p, operands in self._deciders.get(v, ()):
            asked = operator.bent([facts.boxes[q] for q in operands]).astype(np.float64)
            while p != v:
                node = self._nodes[p]
                assert isinstance(node, AffineNode)
                (p,), (asked, _) = self.operands[p], node.maps[0].backward(asked)
            mask |= asked != 0
        return mask

    @np.errstate(all="ignore")
    def bound(
        self, facts: Facts, terms: Terms, lines: Mapping[int, Lines], *, clip: bool = False
    ) -> tuple[Array, Box]:
        """Return lower bounds of rows over the points of their branches, as the tier's numbers.

        A row by nodes' boxes, once the affine nodes behind all operators are replaced; where that
        is not positive, the best of it and of the row with all nodes replaced. With `clip`, also a
        box for each row, that holds the points of its branch's box where the row may be 0 or less.
        """
        steps, a = self._with_lines(facts, lines), self.arithmetic
        bounds, count = [np.zeros(0)], len(terms.owner)
        width = self.network.sizes[0] if clip else 0
        box = Box(np.full((count, width), -np.inf), np.full((count, width), np.inf))
        for first, end in self._pieces(terms.owner, len(self.network.nodes) - 1):
            part = terms.part(slice(first, end))
            start = self._start(facts, part)
            rows, value = self._substitute(facts, steps, start, part.owner, self._last)
            direct = value
            for v, coefficients in rows.items():
                ends = facts.region if v == 0 else a.prepare(*facts.boxes[v])
                least = a.minimum(coefficients, ends, part.owner)
                if facts.balls:
                    ball = facts.balls[v], part.owner, a
                    least = np.maximum(least, over_ball(coefficients, *ball))
                direct = a.plus(direct, least)
            left = np.flatnonzero(~(direct > 0))
            if left.size:
                rows = {v: coefficients[left] for v, coefficients in rows.items()}
                owner, place = part.owner[left], first + left
                rows, value = self._substitute(facts, steps, (rows, value[left]), owner)
                found = self._over_input(facts, rows, value, owner)
                direct[left] = np.maximum(direct[left], found)
                if clip:
                    box.lower[place], box.upper[place] = self._clip(facts, rows, value, owner)
            bounds.append(direct)
        return np.concatenate(bounds), box

    def _start(self, facts: Facts, terms: Terms) -> Rows:
        """Return rows as matrices of coefficients for each node, and a lower bound of the rest."""
        a, rows, count = self.arithmetic, dict[int, Array](), len(terms.owner)
        value: Array = np.zeros(count)
        for v in np.unique(terms.node).tolist():
            chosen = terms.node == v
            row, element, number = (x[chosen] for x in (terms.row, terms.element, terms.number))
            box = Box(*np.ones((2, 1, 1))) if v == CONSTANT else facts.boxes[v]
            rows[v] = a.numbers(np.zeros((count, box.lower.shape[1]), order="F"))
            np.add.at(rows[v], (row, element), number)
            if a.rounds:
                # The roundings of the numbers and of their sum, before other uses are added.
                roundings = 2 + int(np.bincount(row).max()) + self._uses[max(v, 0)]
                size = size_of(box)[terms.owner[row] % len(box.lower), element]
                debt = np.zeros(count)
                np.add.at(debt, row, cost(np.abs(number), cost(a.charge(roundings), size)))
                value = a.plus(value, -a.above(debt, len(row)))
        if CONSTANT in rows:
            one = a.prepare(*np.ones((2, 1, 1)))
            value = a.plus(value, a.minimum(rows.pop(CONSTANT), one, terms.owner))
        return rows, value

    def _groups(self, facts: Facts, v: int, request: GroupRequest) -> Groups:
        """Return groups of an operator, for the boxes of its operand."""
        node, (p,) = self.network.nodes[v], self.operands[v]
        # The polytopes hold what is executed.
        assert isinstance(node, Operator)
        if self.profile.operator_error(node, facts.boxes[v]).any():
            raise Broken(f"{node.name} has groups, and is not exact in {self.profile.name}")
        forms = self._row_box(facts, p, request.bounds)
        return groups_of(node, request, facts.boxes[p], forms, self.arithmetic, self._uses[p])

    def _in_force(self, facts: Facts, v: int) -> Groups:
        if v not in facts.groups:
            raise Broken(f"node {v} has shares, but no groups are in force")
        return facts.groups[v]

    def _row_box(self, facts: Facts, v: int, request: RowRequest) -> Box:
        """Return the box of elements of a node, or of forms, by rows, else infinite."""
        a, (lower, upper), steps = self.arithmetic, facts.boxes[v], facts.steps
        each = np.arange(lower.shape[1])[:, None]
        elements, signs = request.forms or (each, np.ones_like(each))
        ends = np.full((2, len(lower), len(signs)), -np.inf)
        # A point is as small as it can be.
        moves = ((lower < upper)[:, elements] & (signs != 0)).any(axis=2) & facts.alive[:, None]
        wanted = np.flatnonzero(moves[request.rows[1:]])
        wanted = wanted[np.argsort(request.rows[1][wanted], kind="stable")]
        for first, end in self._pieces(request.rows[1][wanted], v):
            chosen, count = wanted[first:end], end - first
            place = side, owner, form = tuple(x[chosen] for x in request.rows)
            if request.lines:
                lines = {w: line.chosen(chosen) for w, line in request.lines.items()}
                steps, owner = self._with_lines(facts, lines), np.arange(count)
            rows = np.zeros((count, lower.shape[1]), order="F")
            signed = (1.0 - 2.0 * side)[:, None] * signs[form]
            np.add.at(rows, (np.arange(count)[:, None], elements[form]), signed)
            start = {v: a.numbers(rows)}, np.zeros(count)
            found = self._over_input(facts, *self._substitute(facts, steps, start, owner), owner)
            ends[place] = a.below(found)
        return Box(ends[0], -ends[1])

    def _substitute(
        self, facts: Facts, steps: Sequence[Step | None], start: Rows, owner: Ints, last: int = 0
    ) -> Rows:
        """Replace the nodes behind the `last` in rows, at all points and in all executions."""
        a, (rows, value) = self.arithmetic, start
        self.rows += 0 if last else len(value)
        for v in range(max(rows, default=0), last, -1):
            step, node, coefficients = steps[v], self._nodes[v], rows.pop(v, None)
            if coefficients is None or step is None or node is None:
                continue
            line, grouped, own = step.line(), None, step.lines
            if own is not None and own.share is not None:
                asked = own, line.slopes[0], a, coefficients, owner
                coefficients, grouped, least = self._in_force(facts, v).take(*asked)
                value = a.plus(value, least)
            value = a.plus(value, a.minimum(coefficients, line.constants, owner))
            for i, p in enumerate(self.operands[v]):
                slack: Array | float = 0.0
                if isinstance(node, AffineNode):
                    moved, slack = node.maps[i].backward(coefficients)
                elif (slopes := line.slopes[i]) is not None:
                    lower, upper = (spread(slope, owner) for slope in slopes)
                    moved = np.maximum(coefficients, 0) * lower
                    moved += np.minimum(coefficients, 0) * upper
                    # Before other uses are added, whose roundings are counted.
                    moved = moved if grouped is None else moved + grouped
                    slack = a.underflow
                elif grouped is None:
                    continue
                else:
                    moved = grouped
                if np.any(slack):
                    # Twice: for the roundings of the sums that it becomes a part of.
                    price = up(2 * slack * spread(line.sums[i], owner))
                    value = a.plus(value, -np.broadcast_to(price, len(value)))
                rows[p] = rows[p] + moved if p in rows else moved
        if not last and 0 not in rows:
            rows[0] = a.numbers(np.zeros((len(value), self.network.sizes[0])))
        return rows, value

    def _over_input(self, facts: Facts, all_rows: Coefficients, value: Array, owner: Ints) -> Array:
        """Return the least values over the input's box, or over the ball where that is better."""
        a, rows = self.arithmetic, all_rows[0]
        least = a.minimum(rows, facts.region, owner)
        if self._ball is not None:
            least = np.maximum(least, over_ball(rows, self._ball, owner, a))
        return a.plus(value, least)

    def _clip(self, facts: Facts, all_rows: Coefficients, value: Array, owner: Ints) -> Box:
        """Return for each form a box around the points of its branch where it is at most 0."""
        lower, upper = (spread(end, owner) for end in facts.boxes[0])
        rows, value = self.arithmetic.floats(all_rows[0], value, facts.region, owner)
        # In every tier by floats: a x is at most what the least values of all other terms leave.
        floats = Fast()
        least = add_down(value, floats.minimum(rows, floats.prepare(*facts.boxes[0]), owner))
        own = mul_up(rows, np.where(rows > 0, lower, upper))
        ends = add_up(own, -least[:, None]) / rows
        return Box(np.where(rows < 0, down(ends), -np.inf), np.where(rows > 0, up(ends), np.inf))

    def _with_lines(self, facts: Facts, lines: Mapping[int, Lines]) -> Sequence[Step | None]:
        """Return the steps, with other lines for some operators."""
        steps = list(facts.steps)
        for v, proposed in lines.items():
            node = self._nodes[v]
            if node is not None and steps[v] is not None:
                steps[v] = node.step([facts.boxes[p] for p in self.operands[v]], proposed)
        return steps

    def _pieces(self, owner: Ints, v: int) -> Iterator[tuple[int, int]]:
        """Cut rows into pieces whose matrices are not too large, back from node v.

        Branches of many rows have pieces of their own, which share what belongs to the branch.
        """
        width = max(self.network.sizes[: v + 1])
        ends = np.flatnonzero(np.diff(owner, append=-1)) + 1
        if 8 * len(owner) * width < CHUNK * len(ends):
            ends = ends[-1:]
        most, start = max(1, min(ROWS, CHUNK // width)), 0
        for end in ends.tolist():
            for first in range(start, end, most):
                yield first, min(first + most, end)
            start = end

    def _region(self, box: Box, case: Array) -> Constants:
        # The rational tier has the case's exact ends, where no split or row has moved them.
        exact = not self.arithmetic.rounds
        ends = (np.maximum(case[0], box.lower), np.minimum(case[1], box.upper)) if exact else box
        return self.arithmetic.prepare(*ends)


def _enclose(numbers: Array) -> tuple[Floats, Floats]:
    """Return floats below and above fractions."""
    below = np.vectorize(float_below, otypes=[np.float64])
    return below(numbers), -below(-numbers)
