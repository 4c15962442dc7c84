"""Rows that bound hidden neurons, as a record holds them, some with lines of their own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from absolver.analyzer.certify.encoding import Entry, compact, mask_entry, needs_slopes
from absolver.analyzer.certify.operands import places_of
from absolver.analyzer.certify.rehearsal import Masks
from absolver.analyzer.certify.words import Word
from absolver.analyzer.graph.graph import Graph, Nonlinear
from absolver.dsl.operators.record import Interval

Slopes = NDArray[np.floating] | Word
"""Slopes `[rows, elements]` in one operand, or the word that names them in every row."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RowLines:
    """The slopes with which each row of one bounded tensor passes the operators before it.

    By name of an operator's node, and then by operand, in float32 or float16. Rows are in the order
    of the tensor's masks: set after set, and of each set the elements of `lower` and then those of
    `upper`. An operator is named in both or in neither, and has the root's lines if in neither.
    """

    lower: Mapping[str, Sequence[Slopes]] = field(default_factory=dict)
    upper: Mapping[str, Sequence[Slopes]] = field(default_factory=dict)
    shares: Mapping[str, Sequence[NDArray[np.floating]]] = field(default_factory=dict)
    """What rows give to groups of an operator's neurons, and tilts: `[rows, groups, k]` each."""


class RowEncoder:
    """The rows of each set of a batch, by bounded tensor.

    Guarantee: the slopes that are written are those given, to one rounding to float32, wherever the
    checker may need one: where the operator is not affine on a slightly wider box.
    """

    def __init__(
        self,
        graph: Graph,
        boxes: Mapping[str, Interval],
        masks: Mapping[str, Masks],
        own: Mapping[str, RowLines],
    ) -> None:
        """Take the rows of a batch by name of a bounded tensor, and the boxes of operands."""
        self._places = places_of(graph)
        self._masks = masks
        self._own = own
        self._nodes = {node.name: node for node in graph.nodes if isinstance(node, Nonlinear)}
        self._boxes = boxes
        self._needed: dict[str, NDArray[np.bool_]] = {}

    def entries(self, number: int) -> Iterator[tuple[Entry, int]]:
        """Yield the entries of one set, each with the number of its rows."""
        for name, masks in self._masks.items():
            found = mask_entry(self._places[name], masks, number)
            if found is None:
                continue
            entry, count = found
            if name in self._own:
                before = int(masks.lower[:number].sum()) + int(masks.upper[:number].sum())
                rows = slice(before, before + count)
                entry["lines"] = self.lines(self._own[name], rows, number)
            yield entry, count

    def lines(self, lines: RowLines, rows: slice, number: int) -> list[Entry]:
        """Return the lines of some rows of one set, for all operators that they name."""
        entries = []
        for name in lines.lower:
            lower, upper = (
                [self._slopes(name, slopes, rows, number) for slopes in side[name]]
                for side in (lines.lower, lines.upper)
            )
            entry: Entry = {"operator": self._nodes[name].label, "lower": lower, "upper": upper}
            shares = [part[rows] for part in lines.shares.get(name, ())]
            entries.append({**entry, **share_entry(shares)} if shares else entry)
        return entries

    def _slopes(self, name: str, slopes: Slopes, rows: slice, number: int) -> object:
        if isinstance(slopes, str | int):
            return slopes
        finite = np.nan_to_num(slopes[rows].astype(np.float32))
        if name not in self._needed:
            box = [self._boxes[operand] for operand in self._nodes[name].inputs]
            self._needed[name] = needs_slopes(self._nodes[name], box)
        finite[:, ~self._needed[name][number]] = 0
        return compact(finite) if finite.any() else 0


def share_entry(shares: Sequence[NDArray[np.floating]]) -> Entry:
    """Return what goes to groups and, where some differ from 0, tilts: `[rows, groups, k]` each."""
    share, tilt = map(_floats, shares)
    return {"share": share, "tilt": tilt} if tilt.any() else {"share": share}


def _floats(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return numbers in binary16 if that holds them exactly, else in binary32."""
    single = np.nan_to_num(values.astype(np.float32))
    with np.errstate(over="ignore"):
        half = single.astype(np.float16)
    return half if (half == single).all() else single
