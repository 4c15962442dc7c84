"""Branch and bound by splits of the input box, batched over branches, for every domain."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.analyzer.certify.regions import as_checked
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.engine import Given, Propagation, propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.region import Region
from absolver.analyzer.search.clipping import Limits, clip, outside
from absolver.analyzer.search.proof import TreeProof, Visited
from absolver.analyzer.search.search import BranchAndBound, Branches, Resources
from absolver.analyzer.search.tolerance import Tolerance
from absolver.analyzer.search.tree import INPUT, Levels, Tree
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval

# Bounds of hidden neurons are kept for a branch if they are at most so many bytes.
_KEPT_BYTES = 64 << 10
# A branch whose margin is worse than this share of its parent's has gained little by the split.
_STUCK = 0.9
_AHEAD = 2
# How many of the most promising points of a batch are tried against the network.
_PROBES = 32


@dataclass(frozen=True, eq=False)
class Boxes(Branches):
    """Boxes whose clauses are not all refuted yet; a margin is that of the worst open clause."""

    lower: Float[Tensor, "branches *shape"]
    upper: Float[Tensor, "branches *shape"]
    set: Int[Tensor, "branches"]
    open: Bool[Tensor, "branches clauses"]
    """Which of the set's clauses are open still."""
    hidden: Mapping[str, Interval]
    """What the parent knew of hidden neurons; empty if that is too much to keep."""

    @property
    def sides(self) -> tuple[Float[Tensor, "branches inputs"], Float[Tensor, "branches inputs"]]:
        """The flat lower and upper ends."""
        return self.lower.flatten(1), self.upper.flatten(1)


@dataclass(frozen=True, eq=False)
class Bounded:
    """What was found of branches: their specification, its bounds, and what cuts their sets."""

    part: Specification
    bounds: Propagation
    cuts: Polytope | None
    """None where there is nothing, or where bounds know of it."""


class InputSearch(BranchAndBound[Boxes]):
    """Splits input boxes until every clause of every set is refuted on all parts.

    Guarantee: if `done` and nothing was found, the bounds of the domain, up to their rounding,
    refute each wanted clause on all leaves of `tree`, whose splits and clippings lose no point
    that meets a clause.
    """

    name = "inputs"
    _step_seconds = 0.3
    _bytes_each = 256
    _most_at_once = 4096

    def __init__(
        self,
        graph: Graph,
        domain: Domain,
        specification: Specification,
        tolerance: Tolerance | None,
        resources: Resources,
    ) -> None:
        """Begin with the whole sets; the tolerance is what rounding may take.

        Without one, bounds are proved in spite of rounding over the reals, and boxes not clipped.
        """
        super().__init__(graph, resources)
        self._domain = domain
        self._whole = specification
        self._tolerance = tolerance
        self.tree = Tree(specification.sets)
        self.branches = self._roots()

    def _roots(self) -> Boxes:
        """Return the whole sets, of which nothing is known."""
        lower, upper = self._around().bounding_box()
        every = torch.arange(self._whole.sets, device=lower.device)
        return Boxes(
            node=every,
            margin=torch.full_like(every, -torch.inf, dtype=lower.dtype),
            share=torch.full_like(every, 1 / max(1, len(every)), dtype=torch.float64),
            lower=lower,
            upper=upper,
            set=every,
            open=self._whole.clause >= 0,
            hidden={},
        )

    def _around(self) -> Region:
        """Return the sets as boxes, which is how certificates begin; unless there will be none."""
        region = self._whole.region
        return region if self._tolerance is None else as_checked(region)

    def proofs(self) -> Sequence[TreeProof]:
        """Return the tree of each set."""
        trees = self.tree.levels()
        clauses = range(self._whole.clause.shape[1])
        return [
            TreeProof(
                set=root,
                clauses=tuple(clauses),
                levels=tree,
                domain=self._domain,
                revisit=partial(_revisited, self, root, tree),
                single=self._whole.rows.dtype == torch.float32,
            )
            for root, tree in trees.items()
        ]

    def _restricted(self, batch: Boxes) -> Specification:
        """Return the specification of the branches over their own boxes.

        Half-spaces that cut a set refute and clip its boxes, as a certificate's tree has it; only
        where there is none, rows take multiples of them.
        """
        part = self._whole.select(batch.set)
        box = Box(batch.lower, batch.upper)
        if self._tolerance is None and isinstance(part.region, Polytope):
            return replace(part, region=part.region.within(box))
        return replace(part, region=box)

    def _bounded(self, batch: Boxes) -> Bounded:
        """Bound branches, given what their parents knew."""
        part = self._restricted(batch)
        bounds = propagate(
            *(self._graph, self._domain, part.region, part.rows),
            memory_bytes=self._memory_bytes,
            given=Given(batch.hidden) if batch.hidden else None,
            forms=self._tolerance is not None,
            rounding=Rounding() if self._tolerance is None else None,
        )
        region, cuts = self._whole.region, None
        if self._tolerance is not None and isinstance(region, Polytope):
            cuts = region.select(batch.set)
        return Bounded(part, bounds, cuts)

    def _advance(self, batch: Boxes) -> None:
        found = self._bounded(batch)
        limits = self._limits(batch, found)
        known = self._known(batch, found, limits)
        left = known.open.any(dim=1) & (known.lower <= known.upper).flatten(1).all(dim=1)
        self.closed += float(batch.share[~left].sum())
        index = left.nonzero().squeeze(1)
        if not len(index):
            return
        if self._prober is not None and self._prober.due:
            self.found = self._prober(*self._promising(known, found, index))
            if self.found:
                return
        known = known.select(index)
        smear = self._smear(None if limits is None else limits.select(index), known)
        axes = smear.argmax(dim=1)
        stuck = (known.margin < _STUCK * batch.margin[index]).nonzero().squeeze(1)
        if len(stuck):
            axes[stuck] = self._look_ahead(known.select(stuck), smear[stuck])
        self._split(known, axes)

    def _limits(self, batch: Boxes, found: Bounded) -> Limits | None:
        """Return forms that clauses limit; None where no form depends on the input."""
        if found.bounds.forms is None or self._tolerance is None:
            return None
        loose = replace(found.part, bound=found.part.bound + self._tolerance.needed[batch.set])
        limits = Limits.of(loose, found.bounds.forms, batch.sides)
        return limits if found.cuts is None else limits.cut_by(found.cuts, batch.sides)

    def _known(self, batch: Boxes, found: Bounded, limits: Limits | None) -> Boxes:
        """Return the branches with what their bounds have shown; a clipped box may be empty."""
        part, bounds = found.part, found.bounds
        if self._tolerance is None:
            refuted = part.refuted(bounds.rows)
        else:
            refuted, narrow = self._tolerance.refuted(part, bounds.rows, batch.set)
            self.narrow |= bool((narrow & batch.open).any())
        open_, sides = batch.open & ~refuted, batch.sides
        if found.cuts is not None:
            open_ &= ~outside(found.cuts, sides).unsqueeze(1)
        if limits is not None:
            sides = clip(limits, sides, open_)
        lower, upper = (side.view_as(batch.lower) for side in sides)
        margin = _margins(part, bounds.rows, open_)
        size = sum(2 * b.lower[0].numel() * b.lower.element_size() for b in bounds.hidden.values())
        hidden = bounds.hidden if size <= _KEPT_BYTES else {}
        return replace(batch, lower=lower, upper=upper, open=open_, margin=margin, hidden=hidden)

    def _promising(
        self, known: Boxes, found: Bounded, index: Tensor
    ) -> tuple[Specification, Tensor, Tensor]:
        """Return the branches that look worst, and the points at which their forms are least."""
        chosen = index[known.margin[index].argsort()[:_PROBES]]
        worst, forms = found.part.select(chosen), found.bounds.forms
        low, high = worst.region.bounding_box()
        points = low / 2 + high / 2
        if forms is not None:
            slopes = forms.coefficients[chosen].sum(1)
            points = torch.where(slopes > 0, low, torch.where(slopes < 0, high, points))
        return worst, points, known.set[chosen]

    def _smear(self, limits: Limits | None, known: Boxes) -> Float[Tensor, "branches inputs"]:
        """Say how much is gained along each coordinate: the longest edge where nothing tells."""
        lower, upper = known.sides
        width = upper - lower
        if limits is None:
            return width
        smear = limits.smear(known.sides, known.open)
        flat = smear.amax(dim=1, keepdim=True) <= 0
        return torch.where(flat, width, smear)

    def _look_ahead(
        self, known: Boxes, smear: Float[Tensor, "branches inputs"]
    ) -> Int[Tensor, "branches"]:
        """Bound both halves along the best coordinates, and take the one whose worse half is best.

        Candidates are the largest smears, and the edge that is longest for the set's box: bounds
        of hidden neurons may hang on a coordinate that cancels in the forms.
        """
        lower, upper = self._around().bounding_box()
        whole = (upper - lower).flatten(1)[known.set]
        width = (known.upper - known.lower).flatten(1) / torch.where(whole > 0, whole, 1.0)
        most = min(_AHEAD, smear.shape[1])
        axes = torch.cat(
            [smear.topk(most, dim=1).indices, width.argmax(dim=1, keepdim=True)], dim=1
        )
        worst = []
        for column in axes.unbind(1):
            halves = _halved(known, column)
            self.looked_ahead += len(halves)
            part = self._restricted(halves)
            found = propagate(
                *(self._graph, self._domain, part.region, part.rows),
                memory_bytes=self._memory_bytes,
                given=Given(halves.hidden),
            )
            margins = _margins(part, found.rows, halves.open)
            worst.append(torch.minimum(*margins.chunk(2)))
        best = torch.stack(worst, dim=1).argmax(dim=1, keepdim=True)
        return axes.gather(1, best).squeeze(1)

    def _split(self, known: Boxes, axes: Tensor) -> None:
        """Halve each branch along its axis, and put both halves on top of the others."""
        known, axes = self._divisible(known, axes)
        if not len(known):
            return
        halves = _halved(known, axes)
        middle = halves.lower[len(known) :].flatten(1).gather(1, axes.unsqueeze(1)).squeeze(1)
        self._open(halves, [INPUT] * len(known), axes, middle)

    def _divisible(self, known: Boxes, axes: Tensor) -> tuple[Boxes, Tensor]:
        """Leave out branches whose edge holds no number between its ends: they are stuck."""
        lower, upper = known.lower.flatten(1), known.upper.flatten(1)
        low, high = (side.gather(1, axes.unsqueeze(1)).squeeze(1) for side in (lower, upper))
        middle = low / 2 + high / 2
        divisible = (low < middle) & (middle < high)
        if bool(divisible.all()):
            return known, axes
        self.stuck += int((~divisible).sum())
        return known.select(divisible), axes[divisible]


class _Revisit(InputSearch):
    """A finished search on one set once more, with the splits that it has chosen."""

    visited: Visited
    """The nodes of the last step."""

    def __init__(self, search: InputSearch, root: int, tree: Levels) -> None:
        """Begin at the root; a branch's number is its place in the tree here."""
        resources = Resources(search._memory_bytes)
        super().__init__(search._graph, search._domain, search._whole, search._tolerance, resources)
        start = self.branches.select(slice(root, root + 1))
        device = start.node.device
        self.branches = replace(start, node=torch.zeros_like(start.node))
        inner = tree.split >= 0
        number = np.where(inner, np.cumsum(inner) - 1, -1)
        self._number = torch.from_numpy(number).to(device)
        self._axis = torch.from_numpy(tree.element.astype(np.int64)).to(device)
        self._threshold = torch.tensor(tree.threshold, device=device, dtype=start.lower.dtype)

    def _advance(self, batch: Boxes) -> None:
        found = self._bounded(batch)
        self.visited = Visited(batch.node.cpu().numpy(), found.bounds.hidden)
        known = self._known(batch, found, self._limits(batch, found))
        # Rounding may differ from the search's: a node that was split there keeps its box.
        left = known.open.any(dim=1) & (known.lower <= known.upper).flatten(1).all(dim=1)
        kept = left.view(-1, *[1] * (batch.lower.dim() - 1))
        known = replace(
            known,
            lower=torch.where(kept, known.lower, batch.lower),
            upper=torch.where(kept, known.upper, batch.upper),
            open=torch.where(left.unsqueeze(1), known.open, batch.open),
        )
        number = self._number[batch.node]
        split = (number >= 0).nonzero().squeeze(1)
        if not len(split):
            return
        known, number = known.select(split), number[split]
        halves = _cut(known, self._axis[number], self._threshold[number])
        children = replace(halves, node=torch.cat([2 * number + 1, 2 * number + 2]))
        self.branches = self.branches.followed_by(children) if len(self.branches) else children


def _revisited(search: InputSearch, root: int, tree: Levels) -> Iterator[Visited]:
    """Bound the nodes of one tree again: to keep all that was found would take much memory."""
    again = _Revisit(search, root, tree)
    while again.open:
        again.step()
        yield again.visited


def _halved(known: Boxes, axes: Int[Tensor, "branches"]) -> Boxes:
    """Return the lower halves of boxes along their axes, and then the upper halves."""
    lower, upper = (
        side.flatten(1).gather(1, axes.unsqueeze(1)).squeeze(1)
        for side in (known.lower, known.upper)
    )
    # Halves first: the sum of two large bounds would overflow.
    return _cut(known, axes, lower / 2 + upper / 2)


def _cut(
    known: Boxes, axes: Int[Tensor, "branches"], threshold: Float[Tensor, "branches"]
) -> Boxes:
    """Return the parts of boxes below thresholds on their axes, and then those above."""
    lower, upper = known.lower.flatten(1), known.upper.flatten(1)
    rows = torch.arange(len(known), device=lower.device)
    middle = threshold.clamp(lower[rows, axes], upper[rows, axes])
    left_upper, right_lower = upper.clone(), lower.clone()
    left_upper[rows, axes] = middle
    right_lower[rows, axes] = middle
    shape = (-1, *known.lower.shape[1:])
    return replace(
        known.followed_by(known),
        lower=torch.cat([lower, right_lower]).view(shape),
        upper=torch.cat([left_upper, upper]).view(shape),
    )


def _margins(
    part: Specification, lower: Tensor, open_: Bool[Tensor, "branches clauses"]
) -> Float[Tensor, "branches"]:
    """Return how far each branch is from being refuted: the worst open clause's best row."""
    rows = torch.where(part.member, part.margins(lower).unsqueeze(1), -torch.inf).amax(dim=2)
    return torch.where(open_, rows, torch.inf).amin(dim=1)
