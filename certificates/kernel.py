"""The kernel: bounds of linear forms of a network's values, by substitution back to the input.

Weak duality with residual folding: whatever slopes are proposed, each step replaces a node's value
by a line that holds over its operands' boxes, and every rounding is paid for at the size of what it
is multiplied with. Section 4 of the certificate format.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.arithmetic import Array, Constants, Fast, cost, float_below
from absolver.certificates.boxes import (
    AffineNode,
    Lines,
    OperatorNode,
    Step,
    meet,
    moved_from,
    size_of,
)
from absolver.certificates.network import Affine, Ball, Broken, Floats, Network, Operator
from absolver.certificates.rounding import Box, up
from absolver.certificates.semantics import Profile

CHUNK = 2**19
"""Numbers in a matrix of rows: some six of its size exist at a time, best in a cache."""


@dataclass(frozen=True)
class Form:
    """A linear form of nodes' elements: `constant + sum of coefficient * (node, element)`."""

    constant: Fraction
    coefficients: Mapping[tuple[int, int], Fraction]


@dataclass(frozen=True, eq=False)
class RowRequest:
    """Which elements of a node are to be bounded by rows, with lines for these rows only."""

    lower: NDArray[np.bool_]
    upper: NDArray[np.bool_]
    lines: Mapping[int, Lines]


@dataclass(frozen=True, eq=False)
class Proposals:
    """The facts of a record: lines of operators, and rows for each node."""

    lines: Mapping[int, Lines] = field(default_factory=dict)
    rows: Mapping[int, Sequence[RowRequest]] = field(default_factory=dict)


@dataclass(frozen=True)
class Half:
    """The half-space of points where an element is at most the threshold, or at least."""

    node: int
    element: int
    threshold: Fraction
    at_most: bool


@dataclass(frozen=True, eq=False)
class Facts:
    """What holds at the points of a record: boxes and steps of all nodes.

    `case` bounds the input, exactly; `region` is its box, ready for `minimum`.
    """

    boxes: Sequence[Box]
    steps: Sequence[Step | None]
    lines: Mapping[int, Lines]
    case: Array
    region: Constants


class Kernel:
    """A network, ready for a check with one arithmetic and one semantics."""

    def __init__(
        self, network: Network, arithmetic: Fast, profile: Profile, ball: Ball | None = None
    ) -> None:
        """Prepare the nodes; raises `Unsupported` where there is no rule."""
        profile.require(network)
        self.network, self.arithmetic, self.profile = network, arithmetic, profile
        self.operands = [operands_of(node) for node in network.nodes]
        self.rows = 0
        """How many rows were bounded so far."""
        used = [p for operands in self.operands for p in operands]
        self._uses = np.bincount(used, minlength=len(network.nodes)).tolist()
        self._nodes: list[AffineNode | OperatorNode | None] = []
        for node, operands in zip(network.nodes, self.operands, strict=True):
            uses = [self._uses[p] for p in operands]
            if node is None:
                self._nodes.append(None)
            elif isinstance(node, Affine):
                self._nodes.append(AffineNode(node, uses, arithmetic, profile))
            else:
                self._nodes.append(OperatorNode(node, uses, arithmetic, profile))
        self._ball: tuple[Ball, Constants] | None = None
        if ball is not None:
            center = np.array(ball.center, object)
            lower, upper = (center, center) if not arithmetic.rounds else _enclose(center)
            self._ball = ball, arithmetic.prepare(lower, upper)

    def root(self, lower: Sequence[Fraction | None], upper: Sequence[Fraction | None]) -> Facts:
        """Return what is known of a case before its first record: a box of the input."""
        case = np.empty((2, len(lower)), object)
        case[0] = [-np.inf if q is None else q for q in lower]
        case[1] = [np.inf if q is None else q for q in upper]
        boxes = [Box(np.full(n, -np.inf), np.full(n, np.inf)) for n in self.network.sizes]
        boxes[0] = Box(_enclose(case[0])[0], _enclose(case[1])[1])
        region = self._region(boxes[0], case)
        return Facts(boxes, [None] * len(boxes), {}, case, region)

    @np.errstate(all="ignore")
    def enter(self, parent: Facts, proposals: Proposals, half: Half | None = None) -> Facts | None:
        """Return what holds at a record, None where no point is left.

        Guarantee: each box holds its node's value at all points of the parent, in the half-space,
        in every execution of the semantics.
        """
        boxes, steps = list(parent.boxes), list(parent.steps)
        facts = replace(parent, boxes=boxes, steps=steps, lines={**parent.lines, **proposals.lines})
        changed: set[int] = set()
        for v, node in enumerate(self._nodes):
            before = boxes[v]
            fresh = steps[v] is None or v in proposals.lines
            if node is not None and (fresh or not changed.isdisjoint(self.operands[v])):
                step = node.step([boxes[p] for p in self.operands[v]], facts.lines.get(v))
                steps[v], boxes[v] = step, meet(before, step.box)
            if half is not None and half.node == v:
                boxes[v] = _cut(boxes[v], half)
            for request in proposals.rows.get(v, ()):
                if not (boxes[v].lower > boxes[v].upper).any():
                    boxes[v] = meet(boxes[v], self._row_box(facts, v, request))
            if (boxes[v].lower > boxes[v].upper).any():
                # What has overflowed on the way here is in no box.
                self.require_range(steps[: v + 1])
                return None
            if any(not np.array_equal(x, y) for x, y in zip(before, boxes[v], strict=True)):
                changed.add(v)
            if v == 0 and changed:
                facts = replace(facts, region=self._region(boxes[0], facts.case))
        return facts

    def require_range(self, steps: Sequence[Step | None]) -> None:
        """Raise `Broken` where the first nodes may overflow, which is outside of the semantics."""
        for node, step in zip(self.network.nodes, steps, strict=False):
            if self.profile.real:
                break
            if node is not None and step is not None and not step.largest <= self.profile.limit:
                raise Broken(
                    f"{node.name}: its values may reach {step.largest:.6g}, which overflows in "
                    f"{self.profile.name}"
                )

    def bent(self, facts: Facts) -> dict[int, NDArray[np.bool_]]:
        """Return, for each bounded tensor, where some operator is not affine over the boxes.

        An operand that was moved asks for all elements of its bounded tensor.
        """
        masks: dict[int, NDArray[np.bool_]] = {}
        for node, operands in zip(self._nodes, self.operands, strict=True):
            if isinstance(node, OperatorNode):
                mask = node.bent([facts.boxes[p] for p in operands])
                for p in operands:
                    v = bounded(self.network, p)
                    asked = mask if v == p else np.full(self.network.sizes[v], mask.any())
                    masks[v] = masks.get(v, False) | asked
        return masks

    @np.errstate(all="ignore")
    def bound(self, facts: Facts, forms: Sequence[Form], lines: Mapping[int, Lines]) -> Array:
        """Return lower bounds of forms over the points of a record, as the tier's numbers.

        The form by its nodes' boxes; where that is not positive, the best of it and of the form
        with all nodes replaced back to the input.
        """
        steps, a = self._with_lines(facts, lines), self.arithmetic
        bounds = [np.zeros(0)]
        for part in self._pieces(np.arange(len(forms)), len(self.network.nodes) - 1):
            rows, value = self._start([forms[i] for i in part], facts)
            direct = value
            for v, coefficients in rows.items():
                ends = facts.region if v == 0 else a.prepare(*facts.boxes[v])
                direct = a.plus(direct, a.minimum(coefficients, ends))
            left = np.flatnonzero(~(direct > 0))
            if left.size:
                rows = {v: coefficients[left] for v, coefficients in rows.items()}
                found = self._substitute(facts, steps, rows, value[left])
                direct[left] = np.maximum(direct[left], found)
            bounds.append(direct)
        return np.concatenate(bounds)

    def _start(self, forms: Sequence[Form], facts: Facts) -> tuple[dict[int, Array], Array]:
        """Return forms as matrices of coefficients for each node, and a lower bound of the rest."""
        a, rows = self.arithmetic, {}
        value = a.constants([form.constant for form in forms])
        for i, form in enumerate(forms):
            for v in {v for v, _ in form.coefficients}:
                if v not in rows:
                    rows[v] = a.numbers(np.zeros((len(forms), self.network.sizes[v])))
                terms = [(j, q) for (node, j), q in form.coefficients.items() if node == v]
                rows[v][i, [j for j, _ in terms]] = a.coefficients([q for _, q in terms])
        for v, coefficients in rows.items():
            # The nearest coefficient is one rounding away, and is then added to other uses.
            doubt = cost(a.charge(1 + self._uses[v]), size_of(facts.boxes[v]))
            if doubt.any():
                value = a.plus(value, a.minimum(coefficients, a.prepare(-doubt, doubt)))
        return rows, value

    def _row_box(self, facts: Facts, v: int, request: RowRequest) -> Box:
        """Return the box of a node's elements by rows, infinite where none is asked for."""
        steps, size, a = (
            self._with_lines(facts, request.lines),
            self.network.sizes[v],
            self.arithmetic,
        )
        ends = []
        for sign, mask in ((1.0, request.lower), (-1.0, request.upper)):
            end = np.full(size, -np.inf)
            # A point is as small as it can be.
            named = np.flatnonzero(mask & (facts.boxes[v].lower < facts.boxes[v].upper))
            for part in self._pieces(named, v):
                rows = np.zeros((part.size, size))
                rows[np.arange(part.size), part] = sign
                value = np.repeat(a.constants([Fraction(0)]), part.size)
                end[part] = a.below(self._substitute(facts, steps, {v: a.numbers(rows)}, value))
            ends.append(sign * end)
        return Box(*ends)

    def _substitute(
        self, facts: Facts, steps: Sequence[Step | None], rows: dict[int, Array], value: Array
    ) -> Array:
        """Return lower bounds of `value + sum of rows[v] . h_v`, all replaced back to the input."""
        a = self.arithmetic
        self.rows += len(value)
        for v in range(max(rows, default=0), 0, -1):
            step, node, coefficients = steps[v], self._nodes[v], rows.pop(v, None)
            if coefficients is None or step is None or node is None:
                continue
            line = step.line()
            value = a.plus(value, a.minimum(coefficients, line.constants))
            for i, p in enumerate(self.operands[v]):
                slack: Array | float = 0.0
                if isinstance(node, AffineNode):
                    moved, slack = node.maps[i].backward(coefficients)
                elif (slopes := line.slopes[i]) is not None:
                    moved = coefficients * np.where(coefficients > 0, *slopes)
                    slack = a.underflow
                else:
                    continue
                if np.any(slack):
                    # Twice: for the roundings of the sums that it becomes a part of.
                    price = np.broadcast_to(up(2 * slack * line.sums[i]), len(value))
                    value = a.plus(value, -price)
                rows[p] = rows[p] + moved if p in rows else moved
        if 0 in rows:
            value = a.plus(value, self._over_input(facts, rows[0]))
        return value

    def _over_input(self, facts: Facts, rows: Array) -> Array:
        """Return the least values over the input's box, or over the ball where that is better."""
        a = self.arithmetic
        value = a.minimum(rows, facts.region)
        if self._ball is None:
            return value
        ball, center = self._ball
        # Hölder: |a . (x - center)| is at most the radius times the dual norm of a.
        if ball.norm == 1:
            norm = a.above(abs(rows).max(axis=1), 0)
        else:
            norm = up(np.sqrt(a.above((rows * rows).sum(axis=1), rows.shape[1])))
        reach = up(norm * -float_below(-ball.radius))
        return np.maximum(value, a.plus(a.minimum(rows, center), -reach))

    def _with_lines(self, facts: Facts, lines: Mapping[int, Lines]) -> Sequence[Step | None]:
        """Return the steps, with other lines for some operators."""
        steps = list(facts.steps)
        for v, proposed in lines.items():
            node = self._nodes[v]
            if node is not None and steps[v] is not None:
                steps[v] = node.step([facts.boxes[p] for p in self.operands[v]], proposed)
        return steps

    def _pieces(self, indices: NDArray[np.intp], v: int) -> Iterator[NDArray[np.intp]]:
        """Cut indices of rows into pieces whose matrices are not too large, back from node v."""
        most = max(1, CHUNK // max(self.network.sizes[: v + 1]))
        for first in range(0, indices.size, most):
            yield indices[first : first + most]

    def _region(self, box: Box, case: Array) -> Constants:
        # The rational tier has the case's exact ends, where no split or row has moved them.
        exact = not self.arithmetic.rounds
        ends = (np.maximum(case[0], box.lower), np.minimum(case[1], box.upper)) if exact else box
        return self.arithmetic.prepare(*ends)


def place(network: Network, variable: int) -> tuple[int, int]:
    """Return the node and the element of a property's variable: inputs count before outputs."""
    inputs = network.sizes[0]
    return (0, variable) if variable < inputs else (network.output, variable - inputs)


def bounded(network: Network, node: int) -> int:
    """Return the bounded tensor of an operand: back through nodes that only move data."""
    while moved_from(network.nodes[node]) is not None:
        (node,) = operands_of(network.nodes[node])
    return node


def operands_of(node: Affine | Operator | None) -> tuple[int, ...]:
    """Return the nodes that a node is computed from, none for the input."""
    if node is None:
        return ()
    return tuple(p for p, _ in node.terms) if isinstance(node, Affine) else node.operands


def _cut(box: Box, half: Half) -> Box:
    """Return the part of a box in the half-space."""
    lower, upper = box.lower.copy(), box.upper.copy()
    if half.at_most:
        upper[half.element] = min(upper[half.element], -float_below(-half.threshold))
    else:
        lower[half.element] = max(lower[half.element], float_below(half.threshold))
    return Box(lower, upper)


def _enclose(numbers: Array) -> tuple[Floats, Floats]:
    """Return floats below and above fractions."""
    below = [float_below(q) for q in numbers], [-float_below(-q) for q in numbers]
    return np.array(below[0]), np.array(below[1])
