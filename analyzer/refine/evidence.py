"""Evidence: bounds of operands that multipliers prove, in the order in which they were found.

A bound `x >= t` of a hidden neuron becomes part of a certificate as a split: the side `x <= t` is
refuted by what proves the bound, on the other side the proof goes on. So whatever a split tree with
multipliers in its leaves can prove of a neuron, a checker can be shown, mixed-integer bounds
included, although certificates know no such bounds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from absolver.analyzer.engines.known import Goal, KnownSet
from absolver.analyzer.engines.prover import Guide
from absolver.analyzer.graph.graph import Graph, Nonlinear
from absolver.analyzer.programs.duals import Cut, Duals, Forms, Ground, Place, evaluate
from absolver.dsl.operators.record import Interval

# By how much of its size a bound is weakened, so that its other side is refuted with room.
_ROOM = 1e-9


@dataclass(frozen=True, eq=False)
class Lemma:
    """A bound of one operand, `sign * x >= sign * threshold`, and what refutes all beyond it."""

    place: Place
    sign: int
    threshold: float
    refutation: Guide


@dataclass(frozen=True, eq=False)
class Found:
    """Multipliers that a solver has found where some splits hold."""

    cut: Cut
    duals: Duals


@dataclass(frozen=True, eq=False)
class Refuted:
    """What multipliers prove of one operand where some splits hold: a lower bound of `sign * x`.

    It is infinite where the splits contradict each other.
    """

    value: float
    duals: Duals


@dataclass(eq=False)
class Evidence:
    """What is known of one set's operands, as a certificate can be shown it.

    Guarantee: every run of the set lies in `boxes`, up to rounding: each lemma was refuted on the
    boxes that the lemmas before it leave, by an evaluation of its own multipliers.
    """

    known: KnownSet
    worth: float = 0.0
    """Which share of an interval a bound has to take away to be kept."""
    lemmas: list[Lemma] = field(default_factory=list)
    cut: dict[Place, tuple[float, float]] = field(default_factory=dict)
    """All lemmas together, as splits say them."""
    proposals: dict[int, Duals] = field(default_factory=dict)
    """By number of a row of the outputs: multipliers that may refute its constraint."""
    seen: dict[str, int] = field(default_factory=dict)
    """By name of an operand: how many lemmas there were when it was last substituted back."""
    _boxes: Mapping[str, Interval] = field(default_factory=dict)
    _moved: set[str] = field(default_factory=set)
    """Operands of which more is known than when the boxes were found."""

    def __post_init__(self) -> None:
        """Find the boxes for the first time."""
        self._find()

    @property
    def boxes(self) -> Mapping[str, Interval]:
        """By name of an operator's operand, `[1, *shape]`: as the checker finds them."""
        if self._moved:
            self._find()
        return self._boxes

    @property
    def size(self) -> float:
        """How wide all operands are together."""
        return sum(float((box.upper - box.lower).sum()) for box in self.boxes.values())

    def interval(self, place: Place) -> tuple[float, float]:
        """Return what is known of one operand."""
        name, element = place
        lower, upper = (float(side.reshape(-1)[element]) for side in self._boxes[name])
        low, up = self.cut.get(place, (-np.inf, np.inf))
        return max(lower, low), min(upper, up)

    def before(self, part: Graph) -> Mapping[str, Interval]:
        """Return the boxes of the operands in a part of the network."""
        names = {o for node in part.nodes if isinstance(node, Nonlinear) for o in node.inputs}
        if names & self._moved:
            self._find()
        return {name: self._boxes[name] for name in names}

    def _find(self) -> None:
        """Find all boxes, by interval steps from where lemmas say more."""
        known, nothing = self.known, Forms(np.zeros((0, 1)), np.zeros(0))
        ground = Ground(known.graph, known.region, known.boxes, nothing)
        # Splits that say nothing have the boxes found as those of a leaf are.
        whole = {(name, 0): (-np.inf, np.inf) for name in known.boxes}
        self._boxes = ground.cut({**whole, **self.cut})
        self._moved = set()

    def prove(self, part: Graph, place: Place, sign: int, found: Found) -> "Refuted":
        """Evaluate what multipliers prove of `sign * x`, as a certificate will hold them.

        In a certificate `sign * x <= sign * t` is a split, whose multiplier takes the form's place.
        """
        splits = dict(found.duals.splits)
        splits[place] = splits.get(place, 0.0) + sign * float(found.duals.weights.sum())
        duals = replace(found.duals, splits=splits, weights=np.zeros(1)).rounded()
        weight = sign * duals.splits.get(place, 0.0)
        beside = {other: m for other, m in duals.splits.items() if other != place}
        form = np.zeros((1, part.output.size))
        form[0, place[1]] = sign
        known, forms = self.known, Forms(form, np.zeros(1))
        about = (part, known.region, self.before(part), forms)
        ground = Ground(*about, known.half_spaces, known.root.points)
        own = replace(duals, splits=beside, weights=np.full(1, max(weight, 0.0)))
        bound = evaluate(ground, found.cut, own)
        if weight <= 0:
            return Refuted(np.inf if bound.positive else -np.inf, duals)
        room = _ROOM * (bound.size + abs(bound.value))
        value = (bound.value - room) / weight
        return Refuted(value if np.isfinite(value) else -np.inf, duals)

    def learn(self, place: Place, sign: int, value: float, refutation: Guide) -> bool:
        """Take a lower bound of `sign * x`, with what refutes the rest; say if it is news."""
        low, up = self.interval(place)
        threshold = sign * value
        least = self.worth * (up - low)
        if not (low + least < threshold < up if sign > 0 else low < threshold < up - least):
            return False
        self.lemmas.append(Lemma(place, sign, threshold, refutation))
        side = (threshold, np.inf) if sign > 0 else (-np.inf, threshold)
        old = self.cut.get(place, (-np.inf, np.inf))
        self.cut[place] = max(old[0], side[0]), min(old[1], side[1])
        self._moved.add(place[0])
        return True

    def guide(self, goal: Goal) -> Guide:
        """Return all lemmas as splits, one below the other, and what is proposed for a clause."""
        constraints = len(goal.forms.bound)
        member = self.known.specification.member[0, goal.column]
        rows = member.nonzero().squeeze(1).tolist()
        rest = Guide(duals=self.proposals.get(rows[0]) if len(rows) == 1 else None)
        for lemma in reversed(self.lemmas):
            refuted = _for_clause(lemma.refutation, constraints)
            sides = (refuted, rest) if lemma.sign > 0 else (rest, refuted)
            rest = Guide((lemma.place, lemma.threshold), *sides)
        return rest


def _for_clause(guide: Guide, constraints: int) -> Guide:
    """Give every leaf multipliers of a clause's constraints: none."""
    sides = [
        None if side is None else _for_clause(side, constraints)
        for side in (guide.below, guide.above)
    ]
    duals = guide.duals and replace(guide.duals, weights=np.zeros(constraints))
    return replace(guide, below=sides[0], above=sides[1], duals=duals)
