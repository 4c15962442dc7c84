"""The search of an exact star set: depth first, one piece of an operator after the other.

At each neuron in turn the star is on one piece of its operator, which a bound has to prove, or it
is split (nnenum: Bak, Tran, Hobbs, Johnson, CAV 2020). Before each split the rest of the network
is over-approximated: results between lines are new noise. What is found is a guide for the tree
prover: splits, and multipliers for its leaves. A neuron that a star keeps on one side is a split
as well, whose other side is refuted at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.engines.errors import NotPiecewiseLinearError
from absolver.analyzer.engines.known import Goal, tangents_domain
from absolver.analyzer.engines.prover import Guide
from absolver.analyzer.graph.graph import Affine, Nonlinear
from absolver.analyzer.programs.duals import Cut, Duals, Place, cut_box, evaluate
from absolver.analyzer.programs.facts import Alternatives, LineSet, alternatives, lines, restricted
from absolver.analyzer.programs.highs import Solved
from absolver.analyzer.programs.program import Array
from absolver.analyzer.stars.star import Predicate, Tensors, confined, through
from absolver.dsl.operators.record import Interval, Operator

Values = dict[str, Tensors]
_Key = tuple[str, int, tuple[tuple[float, float], ...]]
"""An element of an operator's node, and the boxes of its operands."""
# Where a star is nearer to the clause, a float solver does not say whether it meets it.
_NEAR = 1e-9


@dataclass(frozen=True)
class _Closed:
    """A side of a split that a star does not reach, and why."""

    place: Place
    threshold: float
    sign: int
    duals: Duals


@dataclass(frozen=True)
class _At:
    """Where a walk is: a node by number, and an element of its result."""

    node: int
    element: int = 0


class StarSearch:
    """Refutes a clause on one set, or finds a run that meets it."""

    def __init__(
        self,
        goal: Goal,
        deadline: Deadline,
        meets: Callable[[Array], bool],
        progress: Callable[[float], None],
    ) -> None:
        """Take who confirms a run from near a point, and who is told how much is done."""
        known = goal.known
        self.met = False
        self.open = 0
        """How many stars touch the clause in floating point, which no run confirms."""
        self.stars = self.programs = 0
        self._goal = goal
        self._graph = known.graph
        self._deadline = deadline
        self._meets = meets
        self._progress = progress
        self._done, self._share = 0.0, 1.0
        self._touching = False
        self._domain = tangents_domain()
        self._boxes = {
            name: Interval(box.lower.flatten(), box.upper.flatten())
            for name, box in known.boxes.items()
        }
        self._pieces: dict[_Key, Alternatives] = {}
        self._around: dict[_Key, tuple[LineSet, LineSet]] = {}
        self._sizes = {
            node.name: (len(node.inputs), node.size)
            for node in self._graph.nodes
            if isinstance(node, Nonlinear)
        }
        places = [(name, e) for name, (_, size) in self._sizes.items() for e in range(size)]
        first = self._graph.input.size
        self._noise = {place: first + i for i, place in enumerate(places)}
        self._predicate = Predicate(known.inputs, len(places))
        if known.half_spaces is not None:
            self._predicate.half_spaces(known.half_spaces.coefficients, known.half_spaces.bound)

    def run(self) -> Guide | None:
        """Search; None once a run has met the clause."""
        guide = self._follow({self._graph.input.name: self._predicate.start}, _At(1), {})
        return None if self.met else guide

    def _follow(self, values: Values, at: _At, cut: Cut) -> Guide:
        """Refute what a star leaves of the network from some neuron on."""
        self.stars += 1
        closed = self._over_approximated(values, at, cut)
        if closed is not None or self.met:
            return self._leaf(closed)
        sides: list[_Closed] = []
        for number in range(at.node, len(self._graph.nodes)):
            node = self._graph.nodes[number]
            match node:
                case Affine():
                    values[node.name] = through(node, [values[name] for name in node.inputs])
                case Nonlinear():
                    first = at.element if number == at.node else 0
                    if not first:
                        values[node.name] = self._blank(node)
                    for element in range(first, node.size):
                        neuron = _Neuron(node, element)
                        cut = self._confine(neuron, values, cut, sides)
                        if not self._take(neuron, values, cut):
                            split = self._split(neuron, _At(number, element), values, cut)
                            return _wrapped(split, sides)
        found = self._refuted(values, cut)
        self.open += self._touching and found is None
        return _wrapped(self._leaf(found), sides)

    def _confine(self, neuron: "_Neuron", values: Values, cut: Cut, sides: list[_Closed]) -> Cut:
        """Cut the operand's box by kinks beyond which the star does not go."""
        while True:
            kinks = self._kinks(neuron, cut)
            for kink, sign in ((kinks[0], 1), (kinks[-1], -1)) if kinks else ():
                duals = self._excluded(neuron.place, sign, kink, values, cut)
                if duals is not None:
                    sides.append(_Closed(neuron.place, kink, sign, duals))
                    cut = confined(cut, neuron.place, -sign, kink)
                    break
            else:
                return cut

    def _excluded(
        self, place: Place, sign: int, kink: float, values: Values, cut: Cut
    ) -> Duals | None:
        """Return multipliers that prove that a star is not on one side of a kink.

        First those of a zonotope, which are none but the side's own; then a linear program's.
        """
        operand = values[place[0]]
        center, form = sign * operand.center[place[1]], sign * operand.basis[place[1]]
        lower, upper = self._goal.known.inputs
        own = form[: len(lower)]
        count = len(self._goal.forms.bound)
        if center + np.minimum(own * lower, own * upper).sum() > sign * kink:
            alone = Duals({}, {place: float(sign)}, np.zeros(count))
            if self._holds(alone, confined(cut, place, sign, kink)):
                return alone
        solved = self._solved(self._predicate.least(center, form, self._seconds))
        if solved is None or (solved.feasible and solved.value <= sign * kink):
            return None
        found = self._predicate.duals(solved, self._sizes, count)
        splits = dict(found.splits)
        if solved.feasible:
            splits[place] = splits.get(place, 0.0) + sign
        duals = Duals({}, splits, np.zeros(count), found.cuts)
        return duals if self._holds(duals, confined(cut, place, sign, kink)) else None

    def _take(self, neuron: "_Neuron", values: Values, cut: Cut) -> bool:
        """Set a result where the operator is on one piece; say whether it is."""
        found = self._alternatives(neuron, cut)
        met = found.met[:, 0].nonzero().flatten().tolist()
        if len(met) > 1:
            return False
        self._set(neuron, found, met[0], values)
        return True

    def _set(self, neuron: "_Neuron", found: Alternatives, piece: int, values: Values) -> None:
        operands = [values[name] for name in neuron.node.inputs]
        slope, offset = found.slope[piece, :, 0].numpy(), float(found.offset[piece, 0])
        values[neuron.node.name].take(neuron.element, slope, offset, operands)

    def _split(self, neuron: "_Neuron", at: _At, values: Values, cut: Cut) -> Guide:
        """Follow both sides of a kink, or each operand that may be the largest."""
        kinks = self._kinks(neuron, cut)
        if not kinks:
            return self._winners(neuron, at, values, cut)
        lower, upper = self._box(neuron, cut)[0]
        kink = min(kinks, key=lambda k: abs(k - (lower + upper) / 2))
        operand, guides = values[neuron.place[0]], []
        for sign in (1, -1):
            mark, share = self._predicate.mark(), self._share
            self._share = share / 2
            self._predicate.side(operand, neuron.place, sign, kink)
            own = {**values, neuron.node.name: values[neuron.node.name].copy()}
            guides.append(self._follow(own, at, confined(cut, neuron.place, sign, kink)))
            self._predicate.undo(mark)
            self._share = share
            if self.met:
                return Guide()
        return Guide(split=(neuron.place, kink), below=guides[0], above=guides[1])

    def _winners(self, neuron: "_Neuron", at: _At, values: Values, cut: Cut) -> Guide:
        """Follow each operand that may be the largest; a tree has no split that says so."""
        found = self._alternatives(neuron, cut)
        pieces = found.met[:, 0].nonzero().flatten().tolist()
        operands = [values[name] for name in neuron.node.inputs]
        share = self._share
        for piece in pieces:
            mark = self._predicate.mark()
            self._share = share / len(pieces)
            for other in pieces:
                if other != piece:
                    pair = (operands[other], operands[piece])
                    self._order(pair, found.sign, neuron.element)
            own = {**values, neuron.node.name: values[neuron.node.name].copy()}
            self._set(neuron, found, piece, own)
            self._follow(own, _At(at.node, at.element + 1), cut)
            self._predicate.undo(mark)
            if self.met:
                break
        self._share = share
        return Guide()

    def _order(self, pair: tuple[Tensors, Tensors], sign: int, element: int) -> None:
        """Have the first tensor's element lose to the second one's."""
        smaller, larger = pair if sign > 0 else pair[::-1]
        self._predicate.order(smaller, larger, element)

    def _over_approximated(self, values: Values, at: _At, cut: Cut) -> Duals | None:
        """Return multipliers that refute a star whose other neurons lie between lines."""
        values, mark = dict(values), self._predicate.mark()
        for number in range(at.node, len(self._graph.nodes)):
            node = self._graph.nodes[number]
            match node:
                case Affine():
                    values[node.name] = through(node, [values[name] for name in node.inputs])
                case Nonlinear():
                    first = at.element if number == at.node else 0
                    own = values[node.name].copy() if first else self._blank(node)
                    values[node.name] = own
                    for element in range(first, node.size):
                        neuron = _Neuron(node, element)
                        if not self._take(neuron, values, cut):
                            self._relax(neuron, values, cut)
        found = self._refuted(values, cut)
        self._predicate.undo(mark)
        return found

    def _relax(self, neuron: "_Neuron", values: Values, cut: Cut) -> None:
        """Have a result be new noise between lines around the operator."""
        node, element = neuron.node, neuron.element
        number = self._noise[node.name, element]
        values[node.name].basis[element, number] = 1.0
        sides = self._lines(neuron, cut)
        operands = [values[name] for name in node.inputs]
        self._predicate.between(number, operands, (node.name, element), sides)

    def _refuted(self, values: Values, cut: Cut) -> Duals | None:
        """Return multipliers that refute the clause on a star; where there are none, try a run."""
        output, forms = values[self._graph.output.name], self._goal.forms
        mark = self._predicate.mark()
        solved = self._solved(self._predicate.excess(output, forms, self._seconds))
        found = None
        self._touching = solved is None or (solved.feasible and solved.value <= _NEAR)
        if solved is not None:
            if not solved.feasible or solved.value > 0:
                found = self._predicate.duals(solved, self._sizes, len(forms.bound))
                found = found if self._holds(found, cut) else None
            if found is None and solved.feasible:
                self.met = self._meets(self._predicate.input(solved))
        self._predicate.undo(mark)
        return found

    def _holds(self, duals: Duals, cut: Cut) -> bool:
        """Say whether multipliers prove that there is no run, by an evaluation of their own."""
        return evaluate(self._goal.ground, cut, duals.rounded()).positive

    def _leaf(self, duals: Duals | None) -> Guide:
        self._done += self._share
        self._progress(self._done)
        return Guide(duals=duals)

    def _solved(self, solved: Solved | None) -> Solved | None:
        self.programs += 1
        return solved

    @property
    def _seconds(self) -> float:
        return self._deadline.remaining

    def _blank(self, node: Nonlinear) -> Tensors:
        size = node.size
        return Tensors(np.zeros(size), np.zeros((size, self._predicate.noise)))

    def _box(self, neuron: "_Neuron", cut: Cut) -> tuple[tuple[float, float], ...]:
        """Return the boxes of a neuron's operands."""
        return tuple(
            cut_box(self._boxes[name], neuron.element, cut.get((name, neuron.element)))
            for name in neuron.node.inputs
        )

    def _alternatives(self, neuron: "_Neuron", cut: Cut) -> Alternatives:
        box = self._box(neuron, cut)
        key = (neuron.node.name, neuron.element, box)
        if key not in self._pieces:
            found = alternatives(neuron.operator, _intervals(box))
            if found is None:
                raise NotPiecewiseLinearError("star", neuron.node)
            self._pieces[key] = found
        return self._pieces[key]

    def _lines(self, neuron: "_Neuron", cut: Cut) -> tuple[LineSet, LineSet]:
        box = self._box(neuron, cut)
        key = (neuron.node.name, neuron.element, box)
        if key not in self._around:
            self._around[key] = lines(neuron.operator, self._domain, _intervals(box))
        return self._around[key]

    def _kinks(self, neuron: "_Neuron", cut: Cut) -> list[float]:
        """Return the kinks of an operator of one operand inside its box, in order."""
        found = self._alternatives(neuron, cut)
        if found.start is None:
            return []
        met = found.met[:, 0].nonzero().flatten().tolist()
        return [float(found.start[piece]) for piece in met[1:]]


@dataclass(frozen=True)
class _Neuron:
    """One element of an operator's node."""

    node: Nonlinear
    element: int

    @property
    def place(self) -> Place:
        """Its first operand."""
        return self.node.inputs[0], self.element

    @property
    def operator(self) -> Operator:
        """The operator on this element."""
        return restricted(self.node.operator, self.node.shape, np.array([self.element]))


def _intervals(box: Sequence[tuple[float, float]]) -> list[Interval]:
    """Return boxes of one element each."""
    return [Interval(*torch.tensor(ends, dtype=torch.float64).view(2, 1)) for ends in box]


def _wrapped(guide: Guide, sides: Sequence[_Closed]) -> Guide:
    """Put splits of which one side is refuted around what is left."""
    for one in reversed(sides):
        closed, split = Guide(duals=one.duals), (one.place, one.threshold)
        below, above = (closed, guide) if one.sign > 0 else (guide, closed)
        guide = Guide(split=split, below=below, above=above)
    return guide
