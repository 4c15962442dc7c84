"""What a finished search leaves behind for the certificate of one input set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.certify.group_entries import GroupFacts
from absolver.analyzer.certify.rehearsal import Masks
from absolver.analyzer.certify.row_lines import RowLines
from absolver.analyzer.certify.words import Word
from absolver.analyzer.search.groups import Groups
from absolver.analyzer.search.tree import Levels
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval

Array = NDArray[np.floating]
Sides = tuple[Array | Word, ...]
"""Slopes `[leaves, n]` in each operand, or the word that names them in every leaf."""


@dataclass(frozen=True, eq=False)
class Root:
    """What one pass has found on whole sets, as a certificate can say it."""

    lines: Domain
    """Whose slopes the rows of hidden neurons have used."""
    boxes: Mapping[str, Interval]
    """By name of an operator's operand, `[sets, *shape]`."""
    masks: Mapping[str, Masks]
    rows: Float[Tensor, "sets rows"]
    own: Mapping[str, RowLines] = field(default_factory=dict)
    """By name of a bounded tensor: slopes of its rows that are not those of `lines`."""
    groups: Mapping[str, Sequence[GroupFacts]] = field(default_factory=dict)
    """By name of an operator's node, for each set: groups of its neurons."""
    points: Mapping[str, Groups] = field(default_factory=dict)
    """The same groups, with the points of their octahedra."""


class LeafPassage(NamedTuple):
    """How the rows of leaves pass an operator; shares and tilts are `[leaves, groups, k]`."""

    lower: Sides
    upper: Sides
    shares: tuple[Array, ...] = ()


@dataclass(frozen=True, eq=False)
class Leaves:
    """Proposals that refute some leaves, by their numbers in the search."""

    node: NDArray[np.int64]
    slopes: Mapping[str, LeafPassage]
    """By name of an operator's node."""
    multipliers: Array
    """Of the splits on each leaf's path, the root's first."""
    combination: Array
    """Of the clause's constraints."""
    cuts: Array | None = None
    """Multiples of the half-spaces that cut the input set."""

    @staticmethod
    def joined(parts: "Sequence[Leaves]") -> "Leaves":
        """Return all leaves, multipliers padded to the longest path."""
        depth = max((part.multipliers.shape[1] for part in parts), default=0)
        padded = [
            np.pad(part.multipliers, ((0, 0), (0, depth - part.multipliers.shape[1])))
            for part in parts
        ]
        names = dict.fromkeys(name for part in parts for name in part.slopes)
        cuts = [part.cuts for part in parts if part.cuts is not None]
        return Leaves(
            np.concatenate([part.node for part in parts]),
            {
                name: LeafPassage(
                    _joined([part.slopes[name].lower for part in parts]),
                    _joined([part.slopes[name].upper for part in parts]),
                    _in_a_row([part.slopes[name].shares for part in parts]),
                )
                for name in names
            },
            np.concatenate(padded),
            np.concatenate([part.combination for part in parts]),
            None if not cuts or len(cuts) < len(parts) else np.concatenate(cuts),
        )


def _in_a_row(parts: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def _joined(parts: Sequence[Sides]) -> Sides:
    """Join the slopes of some leaves on one side; a word is the same for all."""
    return tuple(
        slopes[0] if isinstance(slopes[0], str | int) else np.concatenate(slopes)
        for slopes in zip(*parts, strict=True)
    )


@dataclass(frozen=True, eq=False)
class Visited:
    """Some nodes of a tree, and what a domain finds of hidden neurons in them."""

    place: NDArray[np.int64]
    """In level order."""
    boxes: Mapping[str, Interval]
    """By name of an operator's operand, `[nodes, *shape]`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TreeProof:
    """A tree of splits whose every leaf is refuted, and the proposals that refute it.

    Without `leaves` the domain's own slopes on each node's box are meant, bounds of hidden
    neurons come from rows at every node, and boxes are clipped. `revisit` finds the boxes of
    operands again then, of all nodes, some at a time; in single precision they are wider than the
    checker's. With leaves, hidden bounds are those of `root`, cut by the splits.
    """

    set: int
    clauses: tuple[int, ...]
    """Columns of the set's clauses that the tree refutes."""
    levels: Levels
    domain: Domain
    root: Root | None = None
    root_set: int | None = None
    """Which set of `root` it is about, if that counts its sets otherwise."""
    leaves: Leaves | None = None
    revisit: Callable[[], Iterator[Visited]] | None = None
    single: bool = False
    """Whether the search was in single precision."""

    def of(self, sets: Tensor) -> "TreeProof":
        """Return the same proof where its sets are these of a larger number of sets."""
        own = self.set if self.root_set is None else self.root_set
        return replace(self, set=int(sets[self.set]), root_set=own)
