"""A graph over an input set as variables and rows, with what is undecided told apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Nonlinear
from absolver.analyzer.programs.duals import Forms
from absolver.analyzer.programs.facts import Alternatives, alternatives, restricted
from absolver.analyzer.programs.program import Array, Numbers, Rows
from absolver.analyzer.propagate.terms import exact_rows
from absolver.dsl.operators.record import Interval

# So many rows of a linear map are written out at once.
_CHUNK = 512


@dataclass(frozen=True, eq=False)
class View:
    """Where the elements of a tensor are: `sign * variable[column]`; where the sign is 0, it is 0.

    What only moves data, and operators where they do, have no variables of their own.
    """

    column: Numbers
    sign: Array

    def at(self, places: Numbers) -> "View":
        """Return the view of some elements."""
        return View(self.column[places], self.sign[places])

    def values(self, of: Array) -> Array:
        """Return the elements' values at a point."""
        return self.sign * of[self.column]


@dataclass(frozen=True, eq=False)
class Undecided:
    """The elements of an operator's node on which it is not one affine function for certain."""

    node: Nonlinear
    places: Numbers
    """Flat, in the node's tensor."""
    operands: tuple[View, ...]
    result: Numbers
    box: tuple[Interval, ...]
    """Of the operands, at these places."""
    alternatives: Alternatives | None


@dataclass(frozen=True, eq=False)
class Encoding:
    """A graph over one input set, whose operands have known boxes.

    Guarantee: rows are those of the network: affine nodes, and operators where their boxes show
    them to be one affine function. Where the encoding is `exact` no coefficient is rounded.
    """

    graph: Graph
    views: Mapping[str, View]
    lower: Array
    upper: Array
    rows: Rows
    undecided: tuple[Undecided, ...]
    half_spaces: int = 0
    """How many of the rows, the first ones, cut the input set."""

    @property
    def exact(self) -> bool:
        """Whether the rows' coefficients are exact; those of divisions and means are rounded."""
        affine = [node for node in self.graph.nodes if isinstance(node, Affine)]
        return all(exact_rows(linear) for node in affine for linear in node.maps)

    @property
    def inputs(self) -> Numbers:
        """The variables of the network's input, which come first."""
        return np.arange(self.graph.input.size)


def encode(
    graph: Graph,
    boxes: Mapping[str, Interval],
    inputs: tuple[Array, Array],
    half_spaces: Forms | None = None,
) -> Encoding:
    """Encode a graph over a box of flat inputs; `boxes` has those of operands, `[1, *shape]`.

    The first rows are the half-spaces that cut the box, where there are some.
    """
    encoder = _Encoder(graph.joined, inputs, half_spaces)
    for node in graph.joined.nodes[1:]:
        match node:
            case Affine():
                encoder.affine(node)
            case Nonlinear():
                box = [Interval(*(side[0].flatten() for side in boxes[n])) for n in node.inputs]
                encoder.operator(node, [_doubled(each) for each in box])
    return encoder.finish(boxes)


class _Encoder:
    def __init__(
        self, graph: Graph, inputs: tuple[Array, Array], half_spaces: Forms | None
    ) -> None:
        lower, upper = inputs
        self._graph = graph
        self._lower, self._upper = [lower], [upper]
        self._count = len(lower)
        everything = np.arange(self._count)
        self._views = {graph.input.name: View(everything, np.ones(self._count))}
        self._parts: list[Rows] = []
        self._half_spaces = 0
        if half_spaces is not None:
            self._half_spaces = len(half_spaces.bound)
            used = [np.nonzero(row)[0] for row in half_spaces.coefficients]
            pairs = zip(used, half_spaces.coefficients, strict=True)
            terms = [(columns, row[columns]) for columns, row in pairs]
            below = np.full(len(terms), -np.inf)
            self._parts.append(Rows.of(terms, below, half_spaces.bound))
        self._undecided: list[Undecided] = []

    def affine(self, node: Affine) -> None:
        size = node.size
        bias = np.zeros(size) if node.bias is None else _flat(node.bias, node.shape)
        column, sign = np.zeros(size, np.int64), np.zeros(size)
        for first in range(0, size, _CHUNK):
            places = np.arange(first, min(first + _CHUNK, size))
            row, of, coefficient = self._entries(node, places)
            count = np.bincount(row, minlength=len(places))
            own, single = self._aliases(count, (row, of, coefficient), bias[places])
            column[places], sign[places] = own
            kept = ~single[row]
            number = np.cumsum(~single) - 1
            some = places[~single]
            fresh = self._fresh(len(some))
            column[some], sign[some] = fresh, 1.0
            row, of, coefficient = number[row[kept]], of[kept], coefficient[kept]
            self._equal(fresh, (row, of, coefficient), bias[some])
        self._views[node.name] = View(column, sign)

    def operator(self, node: Nonlinear, box: Sequence[Interval]) -> None:
        operands = [self._views[name] for name in node.inputs]
        size = node.size
        column, sign = np.zeros(size, np.int64), np.zeros(size)
        left = np.arange(size)
        found = alternatives(restricted(node.operator, node.shape, left), box)
        if found is not None:
            decided = (found.met.sum(0) == 1).cpu().numpy()
            some = np.nonzero(decided)[0]
            column[some], sign[some] = self._exact(some, operands, found)
            left = np.nonzero(~decided)[0]
            index = torch.from_numpy(left)
            found = Alternatives(
                found.met[:, index],
                found.slope[:, :, index],
                found.offset[:, index],
                *(found.start, found.end, found.sign),
            )
        column[left], sign[left] = self._fresh(len(left)), 1.0
        self._views[node.name] = View(column, sign)
        if len(left):
            at = tuple(view.at(left) for view in operands)
            here = tuple(Interval(i.lower[left], i.upper[left]) for i in box)
            self._undecided.append(Undecided(node, left, at, column[left], here, found))

    def finish(self, boxes: Mapping[str, Interval]) -> Encoding:
        lower, upper = np.concatenate(self._lower), np.concatenate(self._upper)
        for name, box in boxes.items():
            view, (low, up) = self._views[name], _doubled(box)
            ends = np.stack([low[0].flatten().cpu().numpy(), up[0].flatten().cpu().numpy()])
            own = np.sort(view.sign * ends, axis=0)
            used = view.sign != 0
            np.maximum.at(lower, view.column[used], own[0, used])
            np.minimum.at(upper, view.column[used], own[1, used])
        rows = Rows.joined(self._parts)
        return Encoding(
            self._graph, self._views, lower, upper, rows, tuple(self._undecided), self._half_spaces
        )

    def _exact(
        self, places: Numbers, operands: Sequence[View], found: Alternatives
    ) -> tuple[Numbers, Array]:
        """Return where the elements are on which an operator is one affine function."""
        index = torch.from_numpy(places)
        which = found.met[:, index].long().argmax(0)
        slope = found.slope[which, :, index].double().cpu().numpy()
        offset = found.offset[which, index].double().cpu().numpy()
        row, operand = np.nonzero(slope)
        column = np.stack([view.column[places] for view in operands], axis=1)[row, operand]
        sign = np.stack([view.sign[places] for view in operands], axis=1)[row, operand]
        entries = row[sign != 0], column[sign != 0], (slope[row, operand] * sign)[sign != 0]
        count = np.bincount(entries[0], minlength=len(places))
        (own, signs), single = self._aliases(count, entries, offset)
        fresh = self._fresh(int((~single).sum()))
        own[~single], signs[~single] = fresh, 1.0
        kept = ~single[entries[0]]
        number = (np.cumsum(~single) - 1)[entries[0][kept]]
        self._equal(fresh, (number, entries[1][kept], entries[2][kept]), offset[~single])
        return own, signs

    def _entries(self, node: Affine, places: Numbers) -> tuple[Numbers, Numbers, Array]:
        """Return the coefficients of some elements: rows, variables and numbers, without zeros."""
        found = []
        for linear, name in zip(node.maps, node.inputs, strict=True):
            matrix = linear.rows(torch.from_numpy(places)).flatten(1).double().cpu().numpy()
            row, element = np.nonzero(matrix)
            view = self._views[name].at(element)
            coefficient = matrix[row, element] * view.sign
            used = view.sign != 0
            found.append((row[used], view.column[used], coefficient[used]))
        row, column, coefficient = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.argsort(row, kind="stable")
        return row[order], column[order], coefficient[order]

    def _aliases(
        self, count: Numbers, entries: tuple[Numbers, Numbers, Array], bias: Array
    ) -> tuple[tuple[Numbers, Array], np.ndarray]:
        """Find the rows that are 0, or a variable or its negation: these need no variable."""
        row, of, coefficient = entries
        column, sign = np.zeros(len(count), np.int64), np.zeros(len(count))
        unit = np.abs(coefficient) == 1
        single = ((count == 0) | (np.bincount(row, unit, len(count)) == 1) & (count == 1)) & (
            bias == 0
        )
        here = single[row]
        column[row[here]], sign[row[here]] = of[here], coefficient[here]
        return (column, sign), single

    def _fresh(self, count: int) -> Numbers:
        """Return new variables without bounds."""
        fresh = np.arange(self._count, self._count + count)
        self._lower.append(np.full(count, -np.inf))
        self._upper.append(np.full(count, np.inf))
        self._count += count
        return fresh

    def _equal(self, fresh: Numbers, entries: tuple[Numbers, Numbers, Array], bias: Array) -> None:
        """Say that each new variable is a sum of entries and a bias."""
        row = np.concatenate([np.arange(len(fresh)), entries[0]])
        column = np.concatenate([fresh, entries[1]])
        coefficient = np.concatenate([np.ones(len(fresh)), -entries[2]])
        order = np.argsort(row, kind="stable")
        start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(fresh)))])
        rows = Rows(start, column[order], coefficient[order], bias, bias)
        self._parts.append(rows)


def _flat(values: Tensor, shape: tuple[int, ...]) -> Array:
    flat: Array = values.double().expand(shape).flatten().cpu().numpy()
    return flat


def _doubled(box: Interval) -> Interval:
    return Interval(box.lower.double(), box.upper.double())
