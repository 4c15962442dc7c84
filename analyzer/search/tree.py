"""The splits of a search, as they were made: what a certificate is written from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


class Tree:
    """Some binary trees that grow from their roots, one for each input set.

    Nodes are numbers: the roots come first, and every split adds the side `value <= threshold`
    and then the side `value >= threshold`. Numbers of children are above those of their parents.
    """

    def __init__(self, roots: int) -> None:
        """Begin with roots only."""
        self._roots = roots
        self._of: list[str] = []
        self._parts: list[tuple[Numbers, NDArray[np.int32], Numbers, NDArray[np.float64]]] = []
        self._splits = 0

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return self._roots + 2 * self._splits

    def split(
        self,
        nodes: Numbers,
        of: Sequence[str],
        elements: Numbers,
        thresholds: NDArray[np.float64],
    ) -> tuple[Numbers, Numbers]:
        """Split leaves, each by an element of the tensor that `of` names; return the children."""
        for name in dict.fromkeys(of):
            if name not in self._of:
                self._of.append(name)
        places = np.array([self._of.index(name) for name in of], dtype=np.int32)
        self._parts.append((nodes, places, elements, thresholds))
        first = self.nodes + 2 * np.arange(len(nodes))
        self._splits += len(nodes)
        return first, first + 1

    def levels(self) -> Mapping[int, Levels]:
        """Return every tree in level order, by its root."""
        parents, places, elements, thresholds = self._columns()
        event_of = np.full(self.nodes, -1, dtype=np.int64)
        event_of[parents] = np.arange(len(parents))
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
            split = np.where(events >= 0, places[events] if len(places) else -1, -1)
            found[root] = Levels(
                of=tuple(self._of),
                split=split.astype(np.int32),
                element=elements[inner].astype(np.int32),
                threshold=thresholds[inner],
                node=nodes,
            )
        return found

    def _columns(self) -> tuple[Numbers, NDArray[np.int32], Numbers, NDArray[np.float64]]:
        """Return all splits: parents, indices of tensors, elements, thresholds."""
        if not self._parts:
            none = np.zeros(0, dtype=np.int64)
            return none, none.astype(np.int32), none, none.astype(np.float64)
        parents, places, elements, thresholds = zip(*self._parts, strict=True)
        return (
            np.concatenate(parents),
            np.concatenate(places),
            np.concatenate(elements),
            np.concatenate(thresholds),
        )
