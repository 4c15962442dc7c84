"""Branch and bound by splits of the input box, batched over branches, for every domain."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.engine import Given, Propagation, propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.region import Region
from absolver.analyzer.search.clipping import clip
from absolver.analyzer.search.proof import TreeProof
from absolver.analyzer.search.search import Resources, Search
from absolver.analyzer.search.tolerance import Tolerance
from absolver.analyzer.search.tree import INPUT, Tree
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval

# A batch grows until one step takes so long: small enough to look up, large enough to pay.
_STEP_SECONDS = 0.3
# Bounds of hidden neurons are kept for a branch if they are at most so many bytes.
_KEPT_BYTES = 64 << 10
# A branch whose margin is worse than this share of its parent's has gained little by the split.
_STUCK = 0.9
_AHEAD = 2
# How many of the most promising points of a batch are tried against the network.
_PROBES = 32


@dataclass(frozen=True, eq=False)
class Branches:
    """Boxes whose clauses are not all refuted yet."""

    lower: Float[Tensor, "branches *shape"]
    upper: Float[Tensor, "branches *shape"]
    set: Int[Tensor, "branches"]
    open: Bool[Tensor, "branches clauses"]
    """Which of the set's clauses are open still."""
    node: Int[Tensor, "branches"]
    """The branch's number in the tree."""
    margin: Float[Tensor, "branches"]
    """How far the parent was from being refuted: its worst open clause's best margin."""
    hidden: Mapping[str, Interval]
    """What the parent knew of hidden neurons; empty if that is too much to keep."""

    def __len__(self) -> int:
        """Return the number of branches."""
        return len(self.set)

    def select(self, index: Tensor | slice) -> "Branches":
        """Return the branches that an index tensor, a mask or a slice names."""
        return Branches(
            self.lower[index],
            self.upper[index],
            self.set[index],
            self.open[index],
            self.node[index],
            self.margin[index],
            {n: Interval(b.lower[index], b.upper[index]) for n, b in self.hidden.items()},
        )

    def followed_by(self, other: "Branches") -> "Branches":
        """Return these branches and others behind them."""
        return Branches(
            torch.cat([self.lower, other.lower]),
            torch.cat([self.upper, other.upper]),
            torch.cat([self.set, other.set]),
            torch.cat([self.open, other.open]),
            torch.cat([self.node, other.node]),
            torch.cat([self.margin, other.margin]),
            {
                name: Interval(
                    torch.cat([bounds.lower, other.hidden[name].lower]),
                    torch.cat([bounds.upper, other.hidden[name].upper]),
                )
                for name, bounds in self.hidden.items()
                if name in other.hidden
            },
        )


class InputSearch(Search):
    """Splits input boxes until every clause of every set is refuted on all parts.

    Guarantee: if `done` and nothing was found, the bounds of the domain, up to their rounding,
    refute each wanted clause on all leaves of `tree`, whose splits and clippings lose no point
    that meets a clause.
    """

    name = "inputs"

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
        self._graph = graph
        self._domain = domain
        self._whole = specification
        self._tolerance = tolerance
        self._memory_bytes = resources.memory_bytes
        self._prober = resources.prober
        self._batch = 1
        self.tree = Tree(specification.sets)
        lower, upper = specification.region.bounding_box()
        every = torch.arange(specification.sets, device=lower.device)
        self.branches = Branches(
            lower,
            upper,
            every,
            specification.clause >= 0,
            every,
            torch.full_like(every, -torch.inf, dtype=lower.dtype),
            {},
        )
        self._share = torch.full((specification.sets,), 1 / max(1, specification.sets))

    @property
    def open(self) -> int:
        """How many branches are open."""
        return len(self.branches)

    @property
    def worst(self) -> float:
        """The worst margin of an open branch, as its parent knew it."""
        return float(self.branches.margin.min()) if len(self.branches) else 0.0

    def proofs(self) -> Sequence[TreeProof]:
        """Return the tree of each set."""
        trees = self.tree.levels()
        clauses = range(self._whole.clause.shape[1])
        return [
            TreeProof(set=root, clauses=tuple(clauses), levels=tree, domain=self._domain)
            for root, tree in trees.items()
        ]

    def step(self) -> None:
        """Bound one batch of branches, the last ones first; split what stays open."""
        start = time.monotonic()
        count = min(self._batch, len(self.branches))
        batch = self.branches.select(torch.arange(len(self.branches))[-count:])
        share = self._share[-count:]
        part = self._restricted(batch)
        given = Given(batch.hidden) if batch.hidden else None
        bounds = propagate(
            *(self._graph, self._domain, part.region, part.rows),
            memory_bytes=self._memory_bytes,
            given=given,
            forms=self._tolerance is not None,
            rounding=Rounding() if self._tolerance is None else None,
        )
        self.branches = self.branches.select(slice(0, len(self.branches) - count))
        self._share = self._share[:-count]
        self.bounded += count
        self._advance(batch, part, bounds, share)
        if time.monotonic() - start < _STEP_SECONDS and count == self._batch:
            self._batch = min(2 * self._batch, self._most())

    def _most(self) -> int:
        """Return how many branches may be bounded at a time."""
        floats = sum(torch.Size(node.shape).numel() for node in self._graph.nodes)
        return max(1, min(4096, self._memory_bytes // (256 * floats)))

    def _restricted(self, batch: Branches) -> Specification:
        """Return the specification of the branches: their own boxes, cut as their sets are."""
        part = self._whole.select(batch.set)
        box = Box(batch.lower, batch.upper)
        cut = part.region
        region: Region = cut.within(box) if isinstance(cut, Polytope) else box
        return replace(part, region=region)

    def _advance(
        self, batch: Branches, part: Specification, bounds: Propagation, share: Tensor
    ) -> None:
        if self._tolerance is None:
            refuted = part.refuted(bounds.rows)
        else:
            refuted, narrow = self._tolerance.refuted(part, bounds.rows, batch.set)
            self.narrow |= bool((narrow & batch.open).any())
        open_ = batch.open & ~refuted
        margin = _margins(part, bounds.rows, open_)
        left = open_.any(dim=1)
        lower, upper = batch.lower.flatten(1), batch.upper.flatten(1)
        if bounds.forms is not None and self._tolerance is not None:
            loose = replace(part, bound=part.bound + self._tolerance.needed[batch.set])
            lower, upper = clip(loose, bounds.forms, (lower, upper), open_)
            left &= (lower <= upper).all(dim=1)
        self.closed += float(share[~left.cpu()].sum())
        if not bool(left.any()):
            return
        index = left.nonzero().squeeze(1)
        if self._prober is not None and self._prober.due:
            sets, points, numbers = self._promising(batch, part, bounds, margin[index], index)
            if self._prober(sets, points, numbers):
                self.found = True
                return
        kept = self._kept(bounds.hidden, index)
        known = Branches(
            lower[index].view(-1, *batch.lower.shape[1:]),
            upper[index].view(-1, *batch.lower.shape[1:]),
            batch.set[index],
            open_[index],
            batch.node[index],
            margin[index],
            kept,
        )
        smear = self._smear(part, bounds, known, index)
        axes = smear.argmax(dim=1)
        stuck = (known.margin < _STUCK * batch.margin[index]).nonzero().squeeze(1)
        if len(stuck):
            axes[stuck] = self._look_ahead(known.select(stuck), smear[stuck])
        self._split(known, axes, share[index.cpu()])

    def _kept(self, hidden: Mapping[str, Interval], index: Tensor) -> Mapping[str, Interval]:
        size = sum(2 * b.lower[0].numel() * b.lower.element_size() for b in hidden.values())
        if size > _KEPT_BYTES:
            return {}
        return {name: Interval(b.lower[index], b.upper[index]) for name, b in hidden.items()}

    def _promising(
        self,
        batch: Branches,
        part: Specification,
        bounds: Propagation,
        margin: Tensor,
        index: Tensor,
    ) -> tuple[Specification, Tensor, Tensor]:
        """Return the branches that look worst, and the points at which their forms are least."""
        chosen = index[margin.argsort()[:_PROBES]]
        worst = part.select(chosen)
        low, high = worst.region.bounding_box()
        points = low / 2 + high / 2
        if bounds.forms is not None:
            slopes = bounds.forms.coefficients[chosen].sum(1)
            points = torch.where(slopes > 0, low, torch.where(slopes < 0, high, points))
        return worst, points, batch.set[chosen]

    def _smear(
        self, part: Specification, bounds: Propagation, known: Branches, index: Tensor
    ) -> Float[Tensor, "branches inputs"]:
        """Say how much the forms of open clauses vary along each coordinate of the boxes.

        The smear of the forms' coefficients (Kearfott, "Rigorous Global Search", 1996), summed
        over constraints; the edges' lengths where no form depends on the input.
        """
        width = (known.upper - known.lower).flatten(1)
        if bounds.forms is None:
            return width
        member = part.member[index] & known.open.unsqueeze(2)
        used = member.any(dim=1).unsqueeze(2)
        slopes = bounds.forms.coefficients[index].flatten(2)
        smear = torch.where(used, slopes.abs(), 0.0).sum(dim=1) * width
        smear = torch.nan_to_num(smear, nan=0.0, posinf=0.0)
        # Where the forms are flat, the longest edge decides.
        flat = smear.amax(dim=1, keepdim=True) <= 0
        return torch.where(flat, width, smear)

    def _look_ahead(
        self, known: Branches, smear: Float[Tensor, "branches inputs"]
    ) -> Int[Tensor, "branches"]:
        """Bound both halves along the best coordinates, and take the one whose worse half is best.

        Candidates are the largest smears, and the edge that is longest for the set's box: bounds
        of hidden neurons may hang on a coordinate that cancels in the forms.
        """
        lower, upper = self._whole.region.bounding_box()
        whole = (upper - lower).flatten(1)[known.set]
        width = (known.upper - known.lower).flatten(1) / torch.where(whole > 0, whole, 1.0)
        most = min(_AHEAD, smear.shape[1])
        axes = torch.cat(
            [smear.topk(most, dim=1).indices, width.argmax(dim=1, keepdim=True)], dim=1
        )
        worst = []
        for column in axes.unbind(1):
            halves = _halved(known, column)
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

    def _split(self, known: Branches, axes: Tensor, share: Tensor) -> None:
        """Halve each branch along its axis, and put both halves on top of the others."""
        known, axes, share = self._divisible(known, axes, share)
        if not len(known):
            return
        children = _halved(known, axes)
        middle = children.lower[len(known) :].flatten(1).gather(1, axes.unsqueeze(1)).squeeze(1)
        left, right = self.tree.split(
            known.node.cpu().numpy(),
            [INPUT] * len(known),
            axes.cpu().numpy(),
            middle.double().cpu().numpy(),
        )
        numbers = torch.from_numpy(np.concatenate([left, right])).to(known.node.device)
        children = replace(children, node=numbers)
        self.branches = self.branches.followed_by(children) if len(self.branches) else children
        self._share = torch.cat([self._share, share / 2, share / 2])

    def _divisible(
        self, known: Branches, axes: Tensor, share: Tensor
    ) -> tuple[Branches, Tensor, Tensor]:
        """Leave out branches whose edge holds no number between its ends: they are stuck."""
        lower, upper = known.lower.flatten(1), known.upper.flatten(1)
        low, high = (side.gather(1, axes.unsqueeze(1)).squeeze(1) for side in (lower, upper))
        middle = low / 2 + high / 2
        divisible = (low < middle) & (middle < high)
        if bool(divisible.all()):
            return known, axes, share
        self.stuck += int((~divisible).sum())
        return known.select(divisible), axes[divisible], share[divisible.cpu()]


def _halved(known: Branches, axes: Int[Tensor, "branches"]) -> Branches:
    """Return the lower halves of boxes along their axes, and then the upper halves."""
    lower, upper = known.lower.flatten(1), known.upper.flatten(1)
    rows = torch.arange(len(known), device=lower.device)
    # Halves first: the sum of two large bounds would overflow.
    middle = lower[rows, axes] / 2 + upper[rows, axes] / 2
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
