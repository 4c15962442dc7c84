"""A split tree with a linear program in every leaf: what proves that no run meets a clause.

Depth first, one operand of an operator after the other, the linear program warm from the leaf
before. On piecewise linear networks it ends, unless a clause is only just met or missed. No word
of a solver counts: its multipliers are evaluated anew, and the checker does it once more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.engines.engine import Control
from absolver.analyzer.engines.known import Goal
from absolver.analyzer.programs.duals import Cut, Duals, Place, evaluate, exact_slopes
from absolver.analyzer.programs.program import Array
from absolver.analyzer.programs.relaxation import Gap, Relaxation
from absolver.analyzer.report import Counterexample, Kind
from absolver.analyzer.search.proof import LeafPassage, Leaves, TreeProof
from absolver.analyzer.search.tree import Tree
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear

# Points that miss a clause by no more than this are tried: runs round, too.
_NEAR = 1e-6
# How far points are moved away from boundaries of half-spaces, as shares of the way inside.
_INWARD = (1e-6, 1e-4, 1e-2)


@dataclass(frozen=True)
class Step:
    """One side of a split: `sign * (operand - threshold) <= 0`."""

    place: Place
    sign: int
    threshold: float


Path = tuple[Step, ...]
NEVER = Deadline()


@dataclass(frozen=True, eq=False)
class Guide:
    """What somebody else has found: a split and what is below it, or what refutes a leaf.

    Nothing of it is believed. A guide of neither is a leaf of which nothing is known.
    """

    split: tuple[Place, float] | None = None
    below: "Guide | None" = None
    above: "Guide | None" = None
    duals: Duals | None = None


@dataclass(frozen=True, eq=False)
class _Leaf:
    node: int
    path: Path
    duals: Duals
    slopes: Mapping[str, tuple[Array, ...]]


class TreeProver:
    """Refutes one clause on one set by splits and linear programs, or meets it."""

    def __init__(self, goal: Goal, relaxation: Relaxation, control: Control) -> None:
        """Pose the clause in the set's relaxation."""
        self.found: Counterexample | None = None
        self.narrow = False
        self.margin = -np.inf
        """The value of the first linear program: the clause is refuted where it is positive."""
        self.stuck = 0
        """How many leaves could neither be refuted nor split."""
        self.solved = 0
        """How many linear programs were solved."""
        self._goal = goal
        self._relaxation = relaxation
        self._control = control
        self._tree = Tree(1)
        self._leaves: list[_Leaf] = []
        relaxation.pose(goal.forms)

    def prove(
        self,
        guide: Guide | None = None,
        *,
        most: float = np.inf,
        deadline: Deadline = NEVER,
        tell: Callable[[float], None] = lambda share: None,
    ) -> TreeProof | None:
        """Split until every leaf is refuted, or the clause is met, or it is enough.

        That is where `most` leaves were tried, or a deadline before the run's own is over.
        """
        timeline = self._control.timeline
        with timeline.during(Kind.PROOF, "split tree", lambda: {"linear programs": self.solved}):
            return self._prove(guide, most, deadline, tell)

    def _prove(
        self, guide: Guide | None, most: float, deadline: Deadline, tell: Callable[[float], None]
    ) -> TreeProof | None:
        todo: list[tuple[int, Path, Guide | None, float]] = [(0, (), guide, 1.0)]
        done = 0.0
        while todo:
            self._control.deadline.check()
            if deadline.remaining == 0:
                return None
            node, path, hint, share = todo.pop()
            if hint is not None and hint.split is not None:
                split = hint.split
                sides: Sequence[Guide | None] = (hint.below, hint.above)
            else:
                chosen = self._visit(node, path, hint)
                if self.found is not None or (chosen is not None and self.solved >= most):
                    return None
                if chosen is None:
                    done += share
                    tell(done)
                    continue
                split, sides = chosen, (None, None)
            todo += self._children(node, path, split, sides, share)
        return self._proof() if not self.stuck else None

    def _children(
        self,
        node: int,
        path: Path,
        split: tuple[Place, float],
        guides: Sequence[Guide | None],
        share: float,
    ) -> list[tuple[int, Path, Guide | None, float]]:
        (name, element), threshold = split
        numbers = self._tree.split(
            np.array([node]), [name], np.array([element]), np.array([threshold])
        )
        return [
            (int(number[0]), (*path, Step(split[0], sign, threshold)), guide, share / 2)
            for number, sign, guide in zip(numbers, (1, -1), guides, strict=True)
        ]

    def _visit(self, node: int, path: Path, hint: Guide | None) -> tuple[Place, float] | None:
        """Refute a leaf, or say what to split; None where it is refuted, or stuck."""
        cut = cut_of(path)
        if (
            hint is not None
            and hint.duals is not None
            and self._closed(node, path, cut, hint.duals)
        ):
            return None
        self._relaxation.split(cut)
        solved = self._relaxation.solve(self._control.deadline.remaining)
        self.solved += 1
        if not path and solved is not None:
            self.margin = solved.value
        gaps: Sequence[Gap] = ()
        if solved is not None:
            if not solved.feasible or solved.value > (-_NEAR if self._goal.strict else 0):
                if self._closed(node, path, cut, self._relaxation.duals(solved)):
                    return None
            if solved.feasible:
                gaps = self._relaxation.gaps(solved)
                if solved.value <= _NEAR and self.meets(self._relaxation.input(solved)):
                    return None
        gaps = gaps or self._relaxation.widest()
        if not gaps:
            self.stuck += 1
            return None
        return split_of(gaps[0])

    def _closed(self, node: int, path: Path, cut: Cut, duals: Duals) -> bool:
        """Keep what refutes a leaf, if it does."""
        needed, wide = self._goal.needed
        duals = duals.rounded()
        ground = self._goal.ground
        boxes = ground.cut(cut)
        bound = evaluate(ground, cut, duals, boxes)
        enough = bound.positive and bound.value > needed * duals.weights.sum()
        # What may be missed by nothing at all is for the checker to tell.
        if not enough and not (self._goal.strict and bound.touches):
            return False
        self.narrow |= bound.value <= wide * duals.weights.sum()
        slopes = exact_slopes(ground, cut, duals, boxes)
        self._leaves.append(_Leaf(node, path, duals, slopes))
        return True

    def meets(self, x: Array) -> bool:
        """Say whether a run from near a point meets the clause."""
        inside = self._goal.known.inside
        moved = [] if inside is None else [x + share * (inside - x) for share in _INWARD]
        return any(self._meets(near) for near in (x, *moved))

    def _meets(self, x: Array) -> bool:
        known, forms = self._goal.known, self._goal.forms
        point = torch.from_numpy(x).view(1, *known.graph.input.shape)
        point = known.region.project(point)
        y = known.graph(point).flatten().numpy()
        if len(forms.bound) and float((forms.coefficients @ y - forms.bound).max()) > _NEAR:
            return False
        self.found = known.task.replay(self._goal.clause, point)
        return self.found is not None

    def _proof(self) -> TreeProof:
        levels = self._tree.levels()[0]
        known = self._goal.known
        return TreeProof(
            set=known.number,
            root_set=0,
            clauses=(self._goal.column,),
            levels=levels,
            domain=known.root.lines,
            root=known.root,
            leaves=_leaves(self._leaves, max(len(leaf.path) for leaf in self._leaves)),
        )


def cut_of(path: Path) -> Cut:
    """Return between which numbers the splits of a path say that operands are."""
    cut: dict[Place, tuple[float, float]] = {}
    for step in path:
        low, up = cut.get(step.place, (-np.inf, np.inf))
        own = (low, min(up, step.threshold)) if step.sign > 0 else (max(low, step.threshold), up)
        cut[step.place] = own
    return cut


def split_of(gap: Gap) -> tuple[Place, float]:
    """Split an element's widest operand: at the kink that is nearest to its middle, or there."""
    operator, widths = gap.one.node.operator, [float(i.upper - i.lower) for i in gap.box]
    operand = int(np.argmax(widths))
    lower, upper = (float(side) for side in gap.box[operand])
    place = (gap.one.node.inputs[operand], int(gap.one.places[gap.number]))
    middle = lower / 2 + upper / 2
    kinks: list[float] = []
    if isinstance(operator, PiecewiseLinear):
        kinks = [p.start for p in operator.pieces[1:] if lower < p.start < upper]
    return place, min(kinks, key=lambda kink: abs(kink - middle), default=middle)


def _leaves(leaves: Sequence[_Leaf], depth: int) -> Leaves:
    """Put together what refutes leaves, each split's multiplier where the split is on the path."""
    multipliers = np.zeros((len(leaves), depth), np.float32)
    for row, leaf in enumerate(leaves):
        for place, multiplier in leaf.duals.splits.items():
            ends = cut_of(leaf.path).get(place)
            end = None if ends is None else ends[1 if multiplier > 0 else 0]
            sign = 1 if multiplier > 0 else -1
            for level, step in enumerate(leaf.path):
                if step.place == place and step.sign == sign and step.threshold == end:
                    multipliers[row, level] = abs(multiplier)
                    break
    most = max(len(leaf.duals.cuts) for leaf in leaves)
    slopes = {}
    for name in leaves[0].slopes:
        operands = zip(*(leaf.slopes[name] for leaf in leaves), strict=True)
        sides = tuple(np.stack(operand).astype(np.float32) for operand in operands)
        shares = _shares([leaf.duals.shares.get(name) for leaf in leaves])
        slopes[name] = LeafPassage(sides, sides, shares)
    return Leaves(
        node=np.array([leaf.node for leaf in leaves]),
        slopes=slopes,
        multipliers=multipliers,
        combination=np.stack([leaf.duals.weights for leaf in leaves]).astype(np.float32),
        cuts=np.stack([_padded(leaf.duals.cuts, most) for leaf in leaves]).astype(np.float32),
    )


def _shares(found: Sequence[tuple[Array, Array] | None]) -> tuple[Array, ...]:
    """Put together what leaves give to the groups of one operator: nothing where they do not."""
    some = next((shares for shares in found if shares is not None), None)
    if some is None:
        return ()
    nothing = np.zeros_like(some[0]), np.zeros_like(some[1])
    parts = zip(*(shares or nothing for shares in found), strict=True)
    return tuple(np.stack(part).astype(np.float32) for part in parts)


def _padded(cuts: Array, count: int) -> Array:
    return np.pad(cuts, (0, count - len(cuts)))
