"""Branch and bound by splits of operators' operands, with slopes and multipliers by dual ascent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.certify.words import Word
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.search.ascent import Dual, ascend
from absolver.analyzer.search.choice import Candidates, candidates
from absolver.analyzer.search.instance import Instance
from absolver.analyzer.search.lagrangian import Point
from absolver.analyzer.search.leaf_log import LeafLog
from absolver.analyzer.search.linear_program import optimise
from absolver.analyzer.search.paths import Paths
from absolver.analyzer.search.proof import LeafPassage, Leaves, Root, Sides, TreeProof
from absolver.analyzer.search.search import BranchAndBound, Branches, Resources, State
from absolver.analyzer.search.slopes import Passage, Slopes, slopes_at
from absolver.analyzer.search.tolerance import Tolerance
from absolver.analyzer.search.tree import Tree
from absolver.dsl.domain import Domain

_ROOT_STEPS, _STEPS = 40, 12
_PROBES = 8
# Single precision is for searches whose first bounds it moves by at most this share of themselves.
_COMPARED, _MOVED = 16, 1e-3


@dataclass(frozen=True, eq=False)
class Cuts(Branches):
    """Parts of input sets, cut by splits, on each of which one clause is open.

    A margin is the bound of the parent.
    """

    problem: Int[Tensor, "branches"]
    """Which pair of a set and a clause."""
    paths: Paths
    parameters: Mapping[tuple[str, str], Tensor]
    """Where the parent's search of slopes has ended, in binary16 to save memory; else NaN."""
    combination: Float[Tensor, "branches rows constraints"]

    def followed_by(self, other: Self) -> Self:
        """Return these branches and others behind them."""
        joined = super().followed_by(other)
        return replace(joined, parameters=_parameters_of_both(self, other))


class ActivationSearch(BranchAndBound[Cuts]):
    """Splits operands of operators until the clause of every branch is refuted.

    Hidden bounds are those of the root, cut by each branch's splits; slopes, multipliers of splits
    and combinations of a clause's constraints are searched in every branch, from where the
    parent's search has ended.
    """

    name = "activations"
    _step_seconds = 0.4
    _bytes_each = 400
    _most_at_once = 2048

    def __init__(
        self,
        graph: Graph,
        domain: Domain,
        specification: Specification,
        root: Root,
        tolerance: Tolerance,
        resources: Resources,
    ) -> None:
        """Begin with the open clauses of the sets, whose hidden bounds `root` has."""
        super().__init__(graph, resources)
        self._domain = domain
        self._whole = specification
        self._root = root
        self._tolerance = tolerance
        every = torch.arange(specification.sets, device=specification.clause.device)
        refuted, narrow = tolerance.refuted(specification, root.rows, every)
        self.narrow = bool((narrow & (specification.clause >= 0)).any())
        present = (specification.clause >= 0) & ~refuted
        self._set, self._clause = present.nonzero(as_tuple=True)
        pairs = (self._set, self._clause)
        self._exact = Instance.of(graph, domain, specification, root, pairs)
        self._quick = _in_single(self._exact)
        self._splittable = self._exact.splittable
        count = len(self._set)
        self.tree = Tree(count)
        # A share of the memory: most of it is for batches.
        self._leaves = LeafLog(resources.memory_bytes // 8)
        numbers = torch.arange(count, device=self._set.device)
        like, member = self._quick.rows.bound, self._exact.rows.member
        self.branches = Cuts(
            node=numbers,
            margin=like.new_full((count,), -torch.inf),
            share=torch.full_like(numbers, 1 / max(1, count), dtype=torch.float64),
            problem=numbers,
            paths=Paths.none(count, like),
            parameters={},
            combination=member.to(like) / member.sum(2, keepdim=True),
        )

    def proofs(self) -> Sequence[TreeProof]:
        """Return the tree of each clause of each set."""
        trees = self.tree.levels()
        leaves = Leaves.joined(self._leaves.parts) if trees else None
        return [
            TreeProof(
                set=int(self._set[root]),
                clauses=(int(self._clause[root]),),
                levels=tree,
                domain=self._domain,
                root=self._root,
                leaves=leaves,
            )
            for root, tree in trees.items()
        ]

    def state(self) -> State:
        """Return where the search is, and what it began with."""
        return replace(super().state(), root=self._root, leaves=self._leaves.parts)

    def _kept_bytes(self) -> int:
        return super()._kept_bytes() + self._leaves.memory_bytes

    def restore(self, state: State) -> None:
        """Go on from where another search with the same root was."""
        super().restore(state)
        self._leaves.restore(state.leaves)

    def _advance(self, batch: Cuts) -> None:
        dual = self._quick.dual(batch.problem, batch.paths)
        needed, _ = self._tolerances(batch)
        steps = _STEPS if batch.paths.depth else _ROOT_STEPS
        start = self._start(dual, batch)
        enough = needed.to(start.combination).unsqueeze(1)
        best, bound, at = ascend(dual, start, steps=steps, enough=enough)
        left = self._closed(batch, dual, best, bound)
        if not len(left):
            return
        if self._due and self._tried(batch, at.values[self._graph.input.name], bound, left):
            return
        choices = candidates(self._splittable, dual, at).select(left)
        known = self._known(batch, best, bound).select(left)
        full = (choices.score < 0).all(1)
        index, exact = (~full).nonzero().squeeze(1), full.nonzero().squeeze(1)
        if len(index):
            self._branch(known.select(index), choices.select(index))
        if len(exact):
            self._settle(known.select(exact))

    def _settle(self, batch: Cuts) -> None:
        """Bound branches on which nothing is inexact: splits of them would tell nothing new.

        What is left of each is a linear program. One that leaves its branch open shows where the
        clause is met, up to rounding; if no run confirms that, the branch is stuck.
        """
        dual = self._exact.dual(batch.problem, batch.paths)
        found = optimise(dual, self._start(dual, batch))
        left = self._closed(batch, dual, found.point, found.bound)
        if len(left) and not self._tried(batch, found.x, found.bound, left):
            self.stuck += len(left)

    def _closed(self, batch: Cuts, dual: Dual, best: Point, bound: Tensor) -> Int[Tensor, "left"]:
        """Keep what proves those branches that are refuted; return the others.

        What single precision has found is evaluated once more in double.
        """
        needed, wide = self._tolerances(batch)
        margin = bound.squeeze(1).to(needed)
        done = (margin > needed).nonzero().squeeze(1)
        if bound.dtype != self._exact.dtype and len(done):
            exact = self._exact.dual(batch.problem[done], batch.paths.select(done))
            found = exact.start(best.select(done).to(exact.dtype))
            margin[done] = torch.minimum(margin[done], exact.evaluate(found).bound.squeeze(1))
        closed = margin > needed
        self.narrow |= bool((closed & (margin <= wide)).any())
        done = closed.nonzero().squeeze(1)
        if len(done):
            self._leaves.add(self._leaf(batch, dual, best, done))
            self.closed += float(batch.share[done].sum())
        return (~closed).nonzero().squeeze(1)

    def _known(self, batch: Cuts, best: Point, bound: Tensor) -> Cuts:
        """Return the branches with what their children begin with."""
        multipliers = {name: m.squeeze(1) for name, m in best.multipliers.items()}
        return replace(
            batch,
            paths=batch.paths.with_multipliers(self._splittable.names, multipliers),
            parameters={key: value.half() for key, value in best.parameters.items()},
            combination=best.combination,
            margin=bound.squeeze(1),
        )

    def _start(self, dual: Dual, batch: Cuts) -> Point:
        """Begin where the parents have ended."""
        _, multipliers = batch.paths.splits(self._splittable.names, self._splittable.shapes)
        known = Point({}, multipliers, batch.combination).to(dual.dtype)
        first = dual.start(known)
        parameters = {
            key: torch.where(batch.parameters[key].isnan(), value, batch.parameters[key].to(value))
            for key, value in first.parameters.items()
            if key in batch.parameters
        }
        return dual.start(replace(known, parameters=parameters))

    def _branch(self, known: Cuts, choices: Candidates) -> None:
        """Split each branch by its best candidate, and put both sides on top of the others."""
        column = self._look_ahead(known, choices)
        of, element, threshold = choices.pick(column)
        sides = [known.paths.extended(of, element, sign, threshold) for sign in (1.0, -1.0)]
        both = replace(known.followed_by(known), paths=sides[0].followed_by(sides[1]))
        self._open(both, [self._splittable.names[i] for i in of.tolist()], element, threshold)

    def _look_ahead(self, known: Cuts, choices: Candidates) -> Int[Tensor, "branches"]:
        """Bound both sides of every candidate once, without a search; take the best worse side.

        Filtered smart branching (De Palma et al., "Improved Branch and Bound", 2021).
        """
        count, width = choices.of.shape
        if width == 1:
            return torch.zeros(count, dtype=torch.long, device=choices.of.device)
        index = torch.arange(count, device=choices.of.device).repeat_interleave(width)
        places = torch.arange(count * width, device=index.device)
        worse, better = [], []
        for part in torch.split(places, self._most()):
            sides = self._sides(known.select(index[part]), choices, part)
            worse.append(torch.minimum(*sides))
            better.append(torch.maximum(*sides))
        self.looked_ahead += 2 * len(places)
        gain = (torch.cat(worse) + 0.01 * torch.cat(better)).view(count, width)
        return torch.where(choices.score >= 0, gain, -torch.inf).argmax(1)

    def _sides(self, many: Cuts, choices: Candidates, part: Tensor) -> list[Tensor]:
        """Bound both sides of some candidates, each of a branch of its own."""
        of, element = choices.of.flatten()[part], choices.element.flatten()[part]
        threshold = choices.threshold.flatten()[part]
        bounds = []
        for sign in (1.0, -1.0):
            side = replace(many, paths=many.paths.extended(of, element, sign, threshold))
            dual = self._quick.dual(side.problem, side.paths)
            bounds.append(dual.evaluate(self._start(dual, side)).bound.squeeze(1))
        return bounds

    @property
    def _due(self) -> bool:
        return self._prober is not None and self._prober.due

    def _tried(self, batch: Cuts, points: Tensor, bound: Tensor, left: Tensor) -> bool:
        """Try the points of the worst branches; say whether one of them is a counterexample."""
        if self._prober is None:
            return False
        chosen = left[bound[left, 0].argsort()[:_PROBES]]
        sets = self._set[batch.problem[chosen]]
        part = self._whole.select(sets)
        clause = self._clause[batch.problem[chosen]].unsqueeze(1)
        only = torch.full_like(part.clause, -1).scatter(1, clause, part.clause.gather(1, clause))
        self.found = self._prober(replace(part, clause=only), points[chosen, 0], sets)
        return self.found

    def _leaf(self, batch: Cuts, dual: Dual, best: Point, done: Tensor) -> Leaves:
        """Keep what proves some leaves."""
        paths = batch.paths.with_multipliers(
            self._splittable.names, {n: m.squeeze(1) for n, m in best.multipliers.items()}
        )
        cuts = dual.half_spaces(best)
        return Leaves(
            node=batch.node[done].cpu().numpy(),
            slopes={
                name: _of_leaves(passage, done) for name, passage in slopes_at(dual, best).items()
            },
            multipliers=paths.multiplier[done].float().cpu().numpy(),
            combination=best.combination[done, 0].float().cpu().numpy(),
            cuts=None if cuts is None else cuts[done, 0].double().cpu().numpy(),
        )

    def _tolerances(self, batch: Cuts) -> tuple[Tensor, Tensor]:
        """Return what rounding may take of a branch's margin: the most of its constraints.

        Where all of these are strict the checker is asked of what is nearer than that, as in
        `Tolerance.refuted`.
        """
        sets = self._set[batch.problem]
        member = self._whole.member[sets, self._clause[batch.problem]]
        needed, wide = self._tolerance.needed[sets], self._tolerance.float32[sets]
        least, wide = (needed * member).amax(1), (wide * member).amax(1)
        strict = member.any(1) & (self._tolerance.strict[sets] | ~member).all(1)
        return torch.where(strict, -least, least), wide


def _in_single(exact: Instance) -> Instance:
    """Return the instance in single precision, or as it is where that moves the first bounds."""
    some = torch.arange(min(_COMPARED, len(exact.set)), device=exact.set.device)
    if exact.dtype == torch.float32 or not len(some):
        return exact
    single, bounds = exact.to(torch.float32), []
    for instance in (exact, single):
        dual = instance.dual(some, Paths.none(len(some), instance.rows.bound))
        bounds.append(dual.evaluate(dual.start()).bound.to(exact.dtype))
    near = (bounds[0] - bounds[1]).abs() <= _MOVED * bounds[0].abs()
    return single if bool(near.all()) else exact


def _of_leaves(passage: Passage, done: Tensor) -> LeafPassage:
    """Return how some leaves pass an operator."""
    shares = tuple(s for s in _side_of_leaves(passage.shares, done) if isinstance(s, np.ndarray))
    lower, upper = (_side_of_leaves(side, done) for side in (passage.lower, passage.upper))
    return LeafPassage(lower, upper, shares)


def _side_of_leaves(slopes: Slopes, done: Tensor) -> Sides:
    """Return one side's word, or its slopes in some leaves."""
    sides: list[NDArray[np.float32] | Word] = []
    for slope in slopes:
        if isinstance(slope, Tensor):
            own = slope[:, 0] if len(slope) == 1 else slope[done, 0]
            sides.append(own.expand(len(done), *own.shape[1:]).float().cpu().numpy())
        else:
            sides.append(slope)
    return tuple(sides)


def _parameters_of_both(first: Cuts, second: Cuts) -> Mapping[tuple[str, str], Tensor]:
    """Join what is known of parameters; what one of the two does not know is NaN."""
    joined = {}
    for key in dict.fromkeys([*first.parameters, *second.parameters]):
        known = first.parameters[key] if key in first.parameters else second.parameters[key]
        joined[key] = torch.cat(
            [
                part.parameters.get(key, known.new_full((len(part), *known.shape[1:]), torch.nan))
                for part in (first, second)
            ]
        )
    return joined
