"""What proves the leaves of a search, in memory while it is little, and then on disk."""

import tempfile
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from absolver.analyzer.search.proof import LeafPassage, Leaves, Sides

Number = TypeVar("Number", bound=np.generic)


class LeafLog:
    """The proposals for all leaves that were closed, in the order in which they were.

    Nobody looks at them again before the search has ended: beyond `memory_bytes` they lie in
    temporary files, which have no names and so outlive no process.
    """

    def __init__(self, memory_bytes: int) -> None:
        """Begin with no leaf."""
        self._most = memory_bytes
        self._away: list[Leaves] = []
        self._here: list[Leaves] = []
        self.memory_bytes = 0
        """How much of the memory is taken."""

    def __len__(self) -> int:
        """Return the number of leaves."""
        return sum(len(part.node) for part in self.parts)

    @property
    def parts(self) -> tuple[Leaves, ...]:
        """All leaves, in parts."""
        return (*self._away, *self._here)

    def add(self, leaves: Leaves) -> None:
        """Take some more leaves."""
        self._here.append(leaves)
        self.memory_bytes += _size(leaves)
        if self.memory_bytes > self._most:
            self._away.append(_on_disk(Leaves.joined(self._here)))
            self._here, self.memory_bytes = [], 0

    def restore(self, parts: Sequence[Leaves]) -> None:
        """Take all leaves of another log."""
        for part in parts:
            self.add(part)


def in_few_arrays(parts: Sequence[Leaves]) -> tuple[Leaves, ...]:
    """Join those parts of a log that are in memory."""
    away = [part for part in parts if isinstance(part.node, np.memmap)]
    here = [part for part in parts if not isinstance(part.node, np.memmap)]
    return (*away, *([Leaves.joined(here)] if here else []))


def _size(leaves: Leaves) -> int:
    sides = [side for of in leaves.slopes.values() for side in (*of.lower, *of.upper, *of.shares)]
    slopes = sum(side.nbytes for side in sides if isinstance(side, np.ndarray))
    weights = (leaves.node, leaves.multipliers, leaves.combination, leaves.cuts)
    return slopes + sum(weight.nbytes for weight in weights if weight is not None)


def _on_disk(leaves: Leaves) -> Leaves:
    def move(sides: Sides) -> Sides:
        return tuple(_mapped(side) if isinstance(side, np.ndarray) else side for side in sides)

    return Leaves(
        _mapped(leaves.node),
        {
            name: LeafPassage(move(of.lower), move(of.upper), tuple(map(_mapped, of.shares)))
            for name, of in leaves.slopes.items()
        },
        _mapped(leaves.multipliers),
        _mapped(leaves.combination),
        None if leaves.cuts is None else _mapped(leaves.cuts),
    )


def _mapped(array: NDArray[Number]) -> NDArray[Number]:
    """Return the same array in a temporary file; an empty one cannot be mapped."""
    if not array.size:
        return array
    with tempfile.TemporaryFile() as file:
        array.tofile(file)
        file.flush()
        return np.memmap(file, dtype=array.dtype, mode="r", shape=array.shape)
