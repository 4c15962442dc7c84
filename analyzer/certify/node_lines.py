"""Lines of operators in the nodes of a tree, where a domain names them on each node's box."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.certify.encoding import Entry, compact
from absolver.analyzer.certify.errors import NotCertifiable
from absolver.analyzer.certify.rehearsal import lines_of, proposed
from absolver.analyzer.certify.words import Word, words
from absolver.analyzer.graph.graph import Nonlinear
from absolver.analyzer.search.proof import TreeProof, Visited
from absolver.dsl.domain import Carrier, Domain

# A record inflates to at most 2^30 bytes; the splits take some of them.
MOST_BYTES = 3 << 28
# The word of slopes that are not continuous in a box.
_JUMPS = "adaptive"


def node_lines(proof: TreeProof, nodes: Sequence[Nonlinear]) -> list[Entry]:
    """Return the lines of operators with which a domain has bounded the nodes of a tree.

    A side is a word where one says how a box gives its slopes. Otherwise the tree's nodes are
    bounded again, as the search has bounded them, and the slopes of each are written out; also
    where the operator is exact, as the checker's boxes are a little wider. Slopes that are given
    can only gain where the checker's boxes are tighter. Those that jump from 0 to 1 may lose, so
    that a search in single precision, whose boxes are far from the checker's, has them written
    too, as long as there is room.
    """
    lines = [_Lines(proof, node, jumps=not proof.single) for node in nodes]
    if _size(lines) > MOST_BYTES:
        lines = [_Lines(proof, node, jumps=True) for node in nodes]
    if (size := _size(lines)) > MOST_BYTES:
        raise NotCertifiable(
            f"the slopes of {proof.domain.name} in the {len(proof.levels.split)} nodes of a search "
            f"over inputs take {size} bytes, and a record of a certificate holds {MOST_BYTES} of "
            "them at most"
        )
    if size:
        assert proof.revisit is not None, "without leaves, each node has slopes of its own"
        for own in lines:
            own.begin()
        for visited in proof.revisit():
            for own in lines:
                own.fill(visited)
    return [own.entry() for own in lines]


def _size(lines: "Sequence[_Lines]") -> int:
    return sum(own.size for own in lines)


class _Lines:
    """The lines of one operator in every node of a tree."""

    def __init__(self, proof: TreeProof, node: Nonlinear, *, jumps: bool) -> None:
        """Find the words for them, with or without that of slopes that jump; else take numbers."""
        self._node = node
        self._lines, named = _named(proof.domain, node)
        sides = [None if word == _JUMPS and not jumps else word for word in named]
        self._words = dict(zip(("lower", "upper"), sides, strict=True))
        self._shape = (len(proof.levels.split), node.size)
        self._numbers: dict[str, list[NDArray[np.float32]]] = {}

    @property
    def size(self) -> int:
        """How many bytes the numbers take."""
        arrays = sum(word is None for word in self._words.values()) * len(self._node.inputs)
        return arrays * self._shape[0] * self._shape[1] * np.dtype(np.float32).itemsize

    def begin(self) -> None:
        """Make room for the numbers."""
        count = len(self._node.inputs)
        for side, word in self._words.items():
            if word is None:
                self._numbers[side] = [np.zeros(self._shape, np.float32) for _ in range(count)]

    def fill(self, visited: Visited) -> None:
        """Write the slopes of some nodes."""
        if not self._numbers:
            return
        slopes = proposed(self._lines, self._node, visited.boxes)
        for side, own in (("lower", slopes.lower), ("upper", slopes.upper)):
            for kept, slope in zip(self._numbers.get(side, ()), own, strict=False):
                kept[visited.place] = _single(slope)

    def entry(self) -> Entry:
        """Return the lines as a record holds them."""
        sides: Entry = {
            side: [_compact(numbers) for numbers in self._numbers[side]] if word is None else [word]
            for side, word in self._words.items()
        }
        return {"operator": self._node.label, **sides}


def _named(domain: Domain, node: Nonlinear) -> tuple[Domain, tuple[Word | None, Word | None]]:
    """Return the factor of a domain whose lines are written, and the words for them."""
    known = [(factor, words(factor, node.operator)) for factor in lines_of(domain)]
    for factor, sides in known:
        if None not in sides:
            return factor, sides
    for factor, sides in known:
        if factor.carrier is Carrier.NEURONS:
            return factor, sides
    raise NotCertifiable(
        f"{node.origin}: the slopes of {domain.name} for {node.operator.name} depend on each "
        "branch, and certificates of searches over inputs hold those of lines between neurons only"
    )


def _compact(numbers: NDArray[np.float32]) -> object:
    return compact(numbers) if numbers.any() else 0


def _single(slope: Tensor) -> NDArray[np.float32]:
    """Return slopes `[nodes, elements]` in float32; those that are no finite number become 0."""
    single: NDArray[np.float32] = slope.flatten(1).float().cpu().numpy()
    return np.nan_to_num(single, nan=0.0, posinf=0.0, neginf=0.0)
