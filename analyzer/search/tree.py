"""The splits of a search, as they were made: what a certificate is written from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
INPUT = "input"
"""The name of what is split where no operand of an operator is."""


@dataclass(frozen=True, eq=False)
class Levels:
    """One tree in level order: the root first, then the two children of each split in order.

    `split` is -1 for a leaf, else an index into `of`; `element` and `threshold` are those of the
    splits in order; `node` has the number that each node had in the search.
    """

    of: tuple[str, ...]
    split: NDArray[np.int32]
    element: NDArray[np.int32]
    threshold: NDArray[np.float64]
    node: Numbers

    @property
    def depth(self) -> int:
        """The number of splits on the longest path."""
        levels, first, count = 0, 0, 1
        while inner := int((self.split[first : first + count] >= 0).sum()):
            levels, first, count = levels + 1, first + count, 2 * inner
        return levels


@dataclass(frozen=True, eq=False)
class Splits:
    """Some splits in the order in which they were made: of which node, and what was split where."""

    of: tuple[str, ...]
    """Names of the tensors of which an element was split."""
    node: Numbers
    place: NDArray[np.int32]
    """Index of the tensor in `of`."""
    element: Numbers
    threshold: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of splits."""
        return len(self.node)

    @classmethod
    def joined(cls, parts: "Sequence[Splits]") -> Self:
        """Return all splits of some logs, one after the other."""
        of = tuple(dict.fromkeys(name for part in parts for name in part.of))
        place = {name: index for index, name in enumerate(of)}
        moved = [np.array([place[name] for name in part.of] or [0]) for part in parts]
        none = np.zeros(0, dtype=np.int64)
        return cls(
            of,
            np.concatenate([none, *(part.node for part in parts)]),
            np.concatenate(
                [none, *(to[part.place] for to, part in zip(moved, parts, strict=True))]
            ).astype(np.int32),
            np.concatenate([none, *(part.element for part in parts)]),
            np.concatenate([none.astype(np.float64), *(part.threshold for part in parts)]),
        )


class Tree:
    """Some binary trees that grow from their roots, one for each input set.

    Nodes are numbers: the roots come first, and every split adds the side `value <= threshold`
    and then the side `value >= threshold`. Numbers of children are above those of their parents.
    """

    def __init__(self, roots: int) -> None:
        """Begin with roots only."""
        self._roots = roots
        self._log: list[Splits] = []
        self._count = 0

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return self._roots + 2 * self._count

    @property
    def splits(self) -> tuple[Splits, ...]:
        """Every split that was made, in parts."""
        return tuple(self._log)

    def restore(self, splits: Sequence[Splits]) -> None:
        """Make the splits of another tree with as many roots."""
        self._log = list(splits)
        self._count = sum(len(part) for part in splits)

    def split(
        self,
        nodes: Numbers,
        of: Sequence[str],
        elements: Numbers,
        thresholds: NDArray[np.float64],
    ) -> tuple[Numbers, Numbers]:
        """Split leaves, each by an element of the tensor that `of` names; return the children."""
        names = tuple(dict.fromkeys(of))
        places = np.array([names.index(name) for name in of], dtype=np.int32)
        first = self.nodes + 2 * np.arange(len(nodes))
        self._log.append(Splits(names, nodes, places, elements, thresholds))
        self._count += len(nodes)
        return first, first + 1

    def levels(self) -> Mapping[int, Levels]:
        """Return every tree in level order, by its root."""
        log = Splits.joined(self._log)
        event_of = np.full(self.nodes, -1, dtype=np.int64)
        event_of[log.node] = np.arange(len(log))
        found = {}
        for root in range(self._roots):
            level, order = np.array([root]), [np.array([root])]
            while len(events := event_of[level][event_of[level] >= 0]):
                first = self._roots + 2 * events
                level = np.stack([first, first + 1], axis=1).ravel()
                order.append(level)
            nodes = np.concatenate(order)
            events = event_of[nodes]
            inner = events[events >= 0]
            split = np.where(events >= 0, log.place[events] if len(log) else -1, -1)
            found[root] = Levels(
                of=log.of,
                split=split.astype(np.int32),
                element=log.element[inner].astype(np.int32),
                threshold=log.threshold[inner],
                node=nodes,
            )
        return found
