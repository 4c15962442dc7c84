"""What every search is: steps that close branches, until none is open or the time is over."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.report import Counterexample
from absolver.analyzer.search.leaf_log import in_few_arrays
from absolver.analyzer.search.probing import Prober
from absolver.analyzer.search.proof import Leaves, Root, TreeProof
from absolver.analyzer.search.tree import Splits, Tree


@dataclass(frozen=True)
class Resources:
    """What a search may use: memory for a batch, and somebody who tries points, if any."""

    memory_bytes: int
    prober: Prober[Counterexample] | None = None


@dataclass(frozen=True, eq=False)
class Branches:
    """Parts of a search that are open, as columns; what each search knows of them comes on top."""

    node: Int[Tensor, "branches"]
    """The branch's number in the tree."""
    margin: Float[Tensor, "branches"]
    """How far the parent was from being refuted."""
    share: Float[Tensor, "branches"]
    """Which share of the search it is, if both sides of each split are one half of it."""

    def __len__(self) -> int:
        """Return the number of branches."""
        return len(self.node)

    def select(self, index: Tensor | slice) -> Self:
        """Return the branches that an index tensor, a mask or a slice names."""
        return type(self)(**{f.name: _selected(getattr(self, f.name), index) for f in fields(self)})

    def followed_by(self, other: Self) -> Self:
        """Return these branches and others behind them; of mappings, what both of them know."""
        columns = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return type(self)(**{name: _joined(*pair) for name, pair in columns.items()})


Parts = TypeVar("Parts", bound=Branches)
# Of open branches, while some are added; a checkpoint may hold on to earlier ones.
_COPIES = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """Where a search is between two of its steps: enough to go on from there.

    Nothing in it is ever changed, so that taking one costs nothing. `root` and `leaves` are those
    of searches that have them.
    """

    branches: Branches
    splits: tuple[Splits, ...]
    batch: int
    bounded: int
    looked_ahead: int
    stuck: int
    closed: float
    narrow: bool
    root: Root | None = None
    leaves: tuple[Leaves, ...] = ()

    def compact(self) -> Self:
        """Return the same state in few arrays."""
        splits = (Splits.joined(self.splits),)
        return replace(self, splits=splits, leaves=in_few_arrays(self.leaves))


class Search(ABC):
    """A branch and bound over some sets of a specification, one step at a time."""

    name: str
    """What is split, for people."""
    narrow = False
    """Whether some leaf has a margin that executions in float32 may take up."""
    found = False
    """Whether a counterexample was found on the way."""
    closed = 0.0
    """Which share of the search is done, if both sides of each split are one half of it."""
    stuck = 0
    """How many branches could neither be refuted nor split."""
    bounded = 0
    """How many branches were bounded."""
    looked_ahead = 0
    """How many more were bounded to choose splits."""

    @property
    @abstractmethod
    def open(self) -> int:
        """How many branches are open."""

    @property
    @abstractmethod
    def worst(self) -> float:
        """The worst margin of an open branch, as far as it is known; 0 if there is none."""

    @property
    def done(self) -> bool:
        """Whether everything is refuted, or a counterexample was found."""
        return self.found or (self.open == 0 and not self.stuck)

    @property
    def over(self) -> bool:
        """Whether no step is left: `done`, or all that is open is stuck."""
        return self.found or self.open == 0

    @abstractmethod
    def step(self) -> None:
        """Bound some open branches, and split what stays open."""

    @abstractmethod
    def proofs(self) -> Sequence[TreeProof]:
        """Return what proves the clauses of the sets, once nothing is open."""

    @abstractmethod
    def state(self) -> State:
        """Return where the search is."""


class BranchAndBound(Search, Generic[Parts]):
    """A search that bounds open branches in batches, the last ones first, and logs its splits."""

    branches: Parts
    """Those that are open; the last ones are bounded next."""
    tree: Tree

    # A batch grows until one step takes so long: small enough to look up, large enough to pay.
    _step_seconds: ClassVar[float]
    # What a branch takes in a step, for each number of the network, and how many go at a time.
    _bytes_each: ClassVar[int]
    _most_at_once: ClassVar[int]

    def __init__(self, graph: Graph, resources: Resources) -> None:
        """Begin with one branch at a time; `branches` and `tree` are the subclass's to make."""
        self._graph = graph
        self._memory_bytes = resources.memory_bytes
        self._prober = resources.prober
        self._batch = 1

    @property
    def open(self) -> int:
        """How many branches are open."""
        return len(self.branches)

    @property
    def worst(self) -> float:
        """The worst margin of an open branch, as its parent knew it; 0 if there is none."""
        return float(self.branches.margin.min()) if len(self.branches) else 0.0

    def step(self) -> None:
        """Bound one batch of branches, the last ones first; split what stays open."""
        start, before = time.monotonic(), self.branches
        count = min(self._batch, self._most(), len(before))
        rest = len(before) - count
        self.branches = before.select(slice(0, rest))
        try:
            self._advance(before.select(slice(rest, None)))
        except BaseException:
            # Where a deadline cuts a step short, its branches are open still.
            self.branches = before
            raise
        self.bounded += count
        if time.monotonic() - start < self._step_seconds and count == self._batch:
            self._batch = min(2 * self._batch, self._most())

    def state(self) -> State:
        """Return where the search is."""
        return State(
            branches=self.branches,
            splits=self.tree.splits,
            batch=self._batch,
            bounded=self.bounded,
            looked_ahead=self.looked_ahead,
            stuck=self.stuck,
            closed=self.closed,
            narrow=self.narrow,
        )

    def restore(self, state: State) -> None:
        """Go on from where another search on the same problem was."""
        assert isinstance(state.branches, type(self.branches)), "it is a state of this search"
        self.branches = state.branches
        self.tree.restore(state.splits)
        self._batch = state.batch
        self.bounded, self.looked_ahead = state.bounded, state.looked_ahead
        self.stuck, self.closed, self.narrow = state.stuck, state.closed, state.narrow

    @abstractmethod
    def _advance(self, batch: Parts) -> None:
        """Bound a batch of branches, which are not open any more; split what is not refuted."""

    def _most(self) -> int:
        """Return how many branches may be bounded at a time.

        What is kept leaves less for a batch; with few branches at a time little more is kept, as
        the last ones are split first.
        """
        numbers = self._graph.size
        fit = (self._memory_bytes - self._kept_bytes()) // (self._bytes_each * numbers)
        return max(1, min(self._most_at_once, fit))

    def _kept_bytes(self) -> int:
        """Return how much memory is taken between two steps, copies in a step included."""
        return _COPIES * _size(self.branches)

    def _open(self, sides: Parts, of: Sequence[str], element: Tensor, threshold: Tensor) -> None:
        """Log some branches' splits, and put their sides on top: all the first, all the second."""
        left, right = self.tree.split(
            sides.node[: len(of)].cpu().numpy(),
            of,
            element.cpu().numpy(),
            threshold.double().cpu().numpy(),
        )
        numbers = torch.from_numpy(np.concatenate([left, right])).to(sides.node.device)
        children = replace(sides, node=numbers, share=sides.share / 2)
        self.branches = self.branches.followed_by(children) if len(self.branches) else children


def _selected(value: Any, index: Tensor | slice) -> Any:  # noqa: ANN401
    match value:
        case Tensor():
            return value[index]
        case Mapping():
            return {key: _selected(item, index) for key, item in value.items()}
        case tuple():
            return type(value)(*(_selected(item, index) for item in value))
    return value.select(index)


def _joined(first: Any, second: Any) -> Any:  # noqa: ANN401
    match first:
        case Tensor():
            return torch.cat([first, second])
        case Mapping():
            return {key: _joined(first[key], second[key]) for key in first if key in second}
        case tuple():
            return type(first)(*(_joined(*pair) for pair in zip(first, second, strict=True)))
    return first.followed_by(second)


def _size(value: Any) -> int:  # noqa: ANN401
    match value:
        case Tensor():
            return value.numel() * value.element_size()
        case Mapping():
            return sum(_size(item) for item in value.values())
        case tuple():
            return sum(_size(item) for item in value)
    return sum(_size(getattr(value, field.name)) for field in fields(value))
