"""Bounds of hidden neurons whose slopes are searched, each row's for itself."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.certify.regions import as_checked
from absolver.analyzer.certify.rehearsal import Masks, Rows, walk
from absolver.analyzer.certify.row_lines import RowLines
from absolver.analyzer.certify.row_lines import Slopes as Written
from absolver.analyzer.certify.words import Word
from absolver.analyzer.graph.graph import Graph, Node, Nonlinear
from absolver.analyzer.propagate.neurons import NeuronsPropagator
from absolver.analyzer.propagate.operands import bounded_tensors, undecided
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.region import Region
from absolver.analyzer.search import ascent
from absolver.analyzer.search.ascent import Dual, Problem, ascend
from absolver.analyzer.search.proof import Root
from absolver.analyzer.search.relaxed import inexact_columns
from absolver.analyzer.search.slopes import Slopes, slopes_at
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval

_STEPS = 8
# Coefficients of so many rows stay in a CPU's cache on the way through a layer.
_CHUNK = 64
# How many slopes the rows of one tensor may have in a certificate.
_MOST_SLOPES = 16 << 20

Sides = Mapping[str, tuple[list[Written], list[Written]]]


@dataclass(frozen=True)
class Effort:
    """How hidden bounds are searched: whose slopes, for how long, and in how much memory.

    Tensors whose rows would hold more than `most_work` coefficients keep their intervals.
    """

    domain: Domain
    seconds: float
    memory_bytes: int
    most_work: int | None = None


def search_hidden(graph: Graph, specification: Specification, effort: Effort) -> Root:
    """Bound hidden neurons, tensor after tensor, each row with the slopes that are best for it.

    That is alpha-CROWN in which hidden bounds have objectives of their own (Xu et al., "Fast and
    Complete", ICLR 2021, section 3.3). Rows of tensors that are not done in time keep the slopes
    with which the domain starts. The root's `rows` refute nothing, so that every clause is left.
    """
    graph, region = graph.joined, as_checked(specification.region)
    neurons = _SearchedNeurons(graph, region, effort)
    found = walk(
        *(graph, neurons, region, specification.rows), rows=Rows.ALL, most_work=effort.most_work
    )
    nothing = torch.full_like(found.rows, -torch.inf)
    return Root(effort.domain, found.boxes, found.masks, nothing, neurons.own(found.masks))


@dataclass(frozen=True, eq=False)
class _RowSlopes:
    """Slopes of one tensor's rows on one set: of all lower bounds of some neurons, then of upper.

    By name of an operator's node, the lower and the upper slopes in each operand.
    """

    neurons: Int[Tensor, " neurons"]
    sides: Sides

    def rows(self, lower: Bool[Tensor, " n"], upper: Bool[Tensor, " n"]) -> NDArray[np.int64]:
        """Return which rows are those of masks."""
        below = lower.cpu()[self.neurons].nonzero().squeeze(1)
        above = upper.cpu()[self.neurons].nonzero().squeeze(1)
        return torch.cat([below, above + len(self.neurons)]).numpy()


class _SearchedNeurons(NeuronsPropagator):
    """Back-substitution in which rows search slopes where they leave an operator undecided."""

    def __init__(self, graph: Graph, region: Region, effort: Effort) -> None:
        super().__init__(graph, effort.domain, region, effort.memory_bytes)
        self._end_at = time.monotonic() + effort.seconds
        self._boxes: dict[str, Interval] = {}
        self._uses = bounded_tensors(graph)
        self._slopes: dict[str, Sequence[_RowSlopes]] = {}

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        super().visit(node, box)
        if isinstance(node, Nonlinear):
            self._boxes.update(zip(node.inputs, box, strict=True))

    def bounds(self, node: Node, wanted: Bool[Tensor, "batch *shape"] | None) -> Interval:
        bounds = super().bounds(node, wanted)
        if wanted is None or node.name not in self._uses:
            return bounds
        part = self._graph.upto(node.name)
        slopes = sum(prod(n.shape) for n in part.nodes if isinstance(n, Nonlinear))
        left = wanted & undecided(self._uses[node.name], bounds)
        if not slopes or not bool(left.any()) or 2 * int(wanted.sum()) * slopes > _MOST_SLOPES:
            return bounds
        lower, upper, found = bounds.lower.clone(), bounds.upper.clone(), []
        for number in range(len(lower)):
            rows = _Rows(part, self._domain, *self._set(number))
            every, own = (mask[number].flatten().nonzero().squeeze(1) for mask in (wanted, left))
            for chunk in torch.split(own, _CHUNK) if len(own) else ():
                if time.monotonic() > self._end_at:
                    return bounds
                low, up = rows.search(chunk)
                lower[number].view(-1)[chunk] = low
                upper[number].view(-1)[chunk] = up
            found.append(rows.slopes(every))
        self._slopes[node.name] = found
        return Interval(lower, upper)

    def own(self, masks: Mapping[str, Masks]) -> Mapping[str, RowLines]:
        """Return the slopes of those rows that were of use."""
        return {
            name: _row_lines(found, masks[name])
            for name, found in self._slopes.items()
            if name in masks
        }

    def _set(self, number: int) -> tuple[Region, Mapping[str, Interval]]:
        """Return one set, and the boxes that are known by now."""
        index = torch.tensor([number], device=self._region.device)
        boxes = {n: Interval(b.lower[index], b.upper[index]) for n, b in self._boxes.items()}
        return self._region.select(index), boxes


class _Rows:
    """The rows of one tensor on one set, and the slopes that were found for some of them."""

    def __init__(
        self, graph: Graph, domain: Domain, region: Region, boxes: Mapping[str, Interval]
    ) -> None:
        self._graph = graph
        self._domain = domain
        self._region = region
        self._boxes = boxes
        self._columns = inexact_columns(graph, boxes)
        self._found: list[tuple[Tensor, Mapping[str, tuple[Slopes, Slopes]]]] = []

    def search(self, neurons: Int[Tensor, " neurons"]) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds of some neurons, flat."""
        dual = self._dual(neurons)
        best, _, _ = ascend(dual, dual.start(), steps=_STEPS)
        # As they are written, so that bounds are what the checker finds.
        rounded = {key: _rounded(value) for key, value in best.parameters.items()}
        best = replace(best, parameters=rounded)
        lower, negated = dual.evaluate(best).bound[0].chunk(2)
        self._found.append((neurons, slopes_at(dual, best)))
        return lower, -negated

    def slopes(self, neurons: Int[Tensor, " neurons"]) -> _RowSlopes:
        """Return the slopes of these neurons' rows: found ones, or those of the start."""
        dual = self._dual(neurons[:1])
        start = slopes_at(dual, dual.start())
        place = {neuron: i for i, neuron in enumerate(neurons.tolist())}
        count = len(neurons)
        sides = {
            name: ([_repeated(s, 2 * count) for s in low], [_repeated(s, 2 * count) for s in up])
            for name, (low, up) in start.items()
        }
        for some, found in self._found:
            below = np.array([place[neuron] for neuron in some.tolist()])
            rows = np.concatenate([below, below + count])
            for name, both in found.items():
                for kept, side in zip(sides[name], both, strict=True):
                    for operand, slope in zip(kept, side, strict=True):
                        if isinstance(operand, np.ndarray) and isinstance(slope, Tensor):
                            operand[rows] = slope[0].cpu().numpy()
        return _RowSlopes(neurons.cpu(), sides)

    def _dual(self, neurons: Int[Tensor, " neurons"]) -> Dual:
        """Pose one row and its negation for each neuron."""
        like = self._region.bounding_box()[0]
        unit = like.new_zeros(len(neurons), prod(self._graph.output.shape))
        unit.scatter_(1, neurons.unsqueeze(1), 1)
        forms = torch.cat([unit, -unit])[None, :, None]
        zero = torch.zeros_like(forms[..., 0])
        rows = ascent.Rows(forms, zero, torch.ones_like(zero, dtype=torch.bool))
        problem = Problem(self._region, self._boxes, rows)
        return Dual(self._graph, self._domain, problem, self._columns)


def _rounded(value: Tensor) -> Tensor:
    """Round to binary16, but for numbers that are too large for it."""
    half = value.half().to(value)
    return torch.where(half.isfinite(), half, value)


def _repeated(slopes: Tensor | Word, rows: int) -> Written:
    """Return slopes `[rows, n]`, the same in every row; a word as it is."""
    if not isinstance(slopes, Tensor):
        return slopes
    first: NDArray[np.float32] = slopes[0, :1].float().cpu().numpy()
    return np.repeat(first, rows, axis=0)


def _row_lines(found: Sequence[_RowSlopes], masks: Masks) -> RowLines:
    """Put together the slopes of those rows that masks name, set after set."""
    used = [one.rows(low, up) for one, low, up in zip(found, masks.lower, masks.upper, strict=True)]
    sides: tuple[dict[str, list[Written]], dict[str, list[Written]]] = ({}, {})
    for name in found[0].sides:
        for number, side in enumerate(sides):
            operands = zip(*(one.sides[name][number] for one in found), strict=True)
            side[name] = [_of_rows(slopes, used) for slopes in operands]
    return RowLines(lower=sides[0], upper=sides[1])


def _of_rows(slopes: Sequence[Written], used: Sequence[NDArray[np.int64]]) -> Written:
    """Return one operand's slopes in some rows of every set."""
    arrays = [s[rows] for s, rows in zip(slopes, used, strict=True) if isinstance(s, np.ndarray)]
    return np.concatenate(arrays) if arrays else slopes[0]
