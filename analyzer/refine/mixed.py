"""Bounds of chosen neurons by mixed-integer programs, proved by split trees."""

import heapq
import time
from dataclasses import dataclass, field

import numpy as np

from absolver.analyzer.engines.known import tangents_domain
from absolver.analyzer.engines.prover import Guide, split_of
from absolver.analyzer.programs.build import build
from absolver.analyzer.programs.duals import Cut, Duals, Place
from absolver.analyzer.programs.mixed import Aim, Minimise
from absolver.analyzer.programs.relaxation import Gap
from absolver.analyzer.refine.evidence import Evidence, Found
from absolver.analyzer.refine.neurons import NeuronReducer, Question

# What a program has to promise over the linear one, as a share of the interval, to be proved.
_WORTH = 1e-2
# So many leaves are tried before a solver is asked how far it is worth to go on.
_FEW = 24
# Of a neuron's time, what the solver gets; the rest is the proof's.
_SOLVING = 0.4
# A solver's bound is not proved to the last digit.
_SLACK = 1e-6


class MixedReducer(NeuronReducer):
    """A mixed-integer program for each side of a neuron, with a share of the time each.

    Singh et al., ICLR 2019 (RefineZono): `Boosting Robustness Certification`; ERAN gives each a
    second. A tree of ours with linear programs in its leaves is enough for most neurons of early
    layers. For the others a solver says how far a bound may be raised, and the tree goes on as far
    as it can. What the multipliers of its leaves prove is the fact.
    """

    name = "milp"

    def __init__(self, evidence: Evidence, minimise: Minimise, *, each_s: float = 1.0) -> None:
        """Take where facts come from and go to, a solver, and the seconds for one neuron."""
        super().__init__(evidence, each_s=each_s)
        self._minimise = minimise

    def bound(self, question: Question, sign: int, seconds: float) -> bool:
        """Bound one side of a neuron."""
        end = time.monotonic() + seconds
        tree = _BoundTree(self._evidence, question, sign)
        low, up = self._evidence.interval(question.place)
        known = low if sign > 0 else -up
        if not tree.begin(seconds):
            return False
        tree.raise_to(np.inf, end, most=_FEW)
        left = end - time.monotonic()
        if tree.open and left > seconds / 2:
            program = build(question.encoding, question.form(sign), tangents_domain())
            each = _SOLVING * left
            found = self._minimise(program, Aim(program.objective, seconds=each))
            target = found.bound - _SLACK * (1 + abs(found.bound))
            least = max(tree.value, known) + _WORTH * (up - low)
            if np.isfinite(target) and target >= least:
                tree.raise_to(target, end)
        return self._evidence.learn(question.place, sign, tree.value, tree.guide())


@dataclass(eq=False)
class _Node:
    """A node of a tree: what is assumed there, and what is proved of the form."""

    cut: Cut
    value: float
    duals: Duals
    gap: Gap | None
    split: tuple[Place, float] | None = None
    sides: "list[_Node]" = field(default_factory=list)

    def guide(self) -> Guide:
        if self.split is None:
            return Guide(duals=self.duals)
        below, above = (side.guide() for side in self.sides)
        return Guide(self.split, below, above)


class _BoundTree:
    """Branch and bound for one side of a neuron: the leaf with the least bound is split next."""

    def __init__(self, evidence: Evidence, question: Question, sign: int) -> None:
        self._evidence = evidence
        self._question = question
        self._sign = sign
        self._leaves: list[tuple[float, int, _Node]] = []
        self._count = 0
        self._root: _Node | None = None
        question.relaxation.split({})
        question.relaxation.pose(question.form(sign))

    def begin(self, seconds: float) -> bool:
        """Solve the linear program without splits; say whether that went well."""
        self._root = self._solve({}, None, seconds)
        return self._root is not None

    @property
    def value(self) -> float:
        """What is proved by now."""
        return self._leaves[0][0]

    @property
    def open(self) -> bool:
        """Whether the leaf with the least bound may still be split."""
        return self._leaves[0][2].gap is not None

    def raise_to(self, target: float, end: float, *, most: float = np.inf) -> None:
        """Split until a target is reached, no split helps, or it is enough."""
        while self.value < target and len(self._leaves) < most:
            if (gap := self._leaves[0][2].gap) is None:
                return
            _, _, node = self._leaves[0]
            sides = []
            place, threshold = split_of(gap)
            low, up = node.cut.get(place, (-np.inf, np.inf))
            for ends in ((low, min(up, threshold)), (max(low, threshold), up)):
                left = end - time.monotonic()
                side = self._solve({**node.cut, place: ends}, node, left) if left > 0 else None
                if side is None:
                    self._leaves = [leaf for leaf in self._leaves if leaf[2] not in sides]
                    heapq.heapify(self._leaves)
                    return
                sides.append(side)
            self._leaves = [leaf for leaf in self._leaves if leaf[2] is not node]
            heapq.heapify(self._leaves)
            node.split, node.sides = (place, threshold), sides

    def guide(self) -> Guide:
        """Return what proves the value."""
        assert self._root is not None, "a tree that has begun has a root"
        return self._root.guide()

    def _solve(self, cut: Cut, parent: _Node | None, seconds: float) -> _Node | None:
        """Bound one leaf; its parent's multipliers stand where its own are worse."""
        question = self._question
        question.relaxation.split(cut)
        solved = question.relaxation.solve(seconds)
        if solved is None:
            return None
        found = Found(cut, question.relaxation.duals(solved))
        proved = self._evidence.prove(question.part, question.place, self._sign, found)
        gaps = question.relaxation.gaps(solved) if solved.feasible else []
        gap = gaps[0] if gaps else None
        value, duals = proved.value, proved.duals
        if parent is not None and not value > parent.value:
            value, duals = parent.value, parent.duals
        node = _Node(cut, value, duals, gap)
        self._count += 1
        heapq.heappush(self._leaves, (value, self._count, node))
        return node
