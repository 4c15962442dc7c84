"""Bounds of hidden neurons whose slopes are searched, each row's for itself."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.certify.group_entries import GroupFacts
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
from absolver.analyzer.search.groups import (
    Forms,
    Groups,
    chosen_groups,
    group_facts,
    joined_groups,
    padded_facts,
)
from absolver.analyzer.search.proof import Root
from absolver.analyzer.search.relaxed import inexact_columns
from absolver.analyzer.search.slopes import Passage, slopes_at
from absolver.dsl.domain import Domain, Grouping
from absolver.dsl.operators.octahedron import Octahedra, directions, vertices
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval

_STEPS, _GROUPED_STEPS = 8, 20
_GROUPED_CHUNK, _MOST_GROUPS = 256, 400
# Coefficients of so many rows stay in a CPU's cache on the way through a layer.
_CHUNK = 64
# How many slopes the rows of one tensor may have in a certificate.
_MOST_SLOPES = 16 << 20

Sides = Mapping[str, tuple[list[Written], ...]]
"""By name of an operator's node: what rows have as lower slopes, as upper ones, as shares."""


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
    own = neurons.own(found.masks)
    known = (neurons.group_facts, neurons.groups)
    return Root(effort.domain, found.boxes, found.masks, nothing, own, *known)


@dataclass(frozen=True, eq=False)
class _RowSlopes:
    """Slopes of one tensor's rows on one set: lower bounds of some neurons, then upper ones."""

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
        self.groups: dict[str, Groups] = {}
        self.group_facts: dict[str, Sequence[GroupFacts]] = {}
        """By name of an operator's node, for each set."""

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        super().visit(node, box)
        if isinstance(node, Nonlinear):
            self._boxes.update(zip(node.inputs, box, strict=True))
            grouping = self._domain.groups.get(node.operator.name)
            if grouping is not None and isinstance(node.operator, PiecewiseLinear):
                self._group(node.name, node.inputs[0], node.operator, grouping)

    def bounds(self, node: Node, wanted: Bool[Tensor, "batch *shape"] | None) -> Interval:
        bounds = super().bounds(node, wanted)
        if wanted is None or node.name not in self._uses:
            return bounds
        part = self._graph.upto(node.name)
        slopes = self._slopes_before(part)
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
                low, up = rows.search_neurons(chunk)
                lower[number].view(-1)[chunk] = low
                upper[number].view(-1)[chunk] = up
            found.append(rows.slopes(every))
        self._slopes[node.name] = found
        return Interval(lower, upper)

    def _group(
        self, name: str, operand: str, operator: PiecewiseLinear, grouping: Grouping
    ) -> None:
        """Bound the forms of groups of an operator's neurons, set after set."""
        part, points, facts = self._graph.upto(operand), [], []
        rows_each = 2 * len(directions(grouping.size)) * max(1, self._slopes_before(part))
        most = min(_MOST_GROUPS, _MOST_SLOPES // rows_each) // max(1, len(grouping.cuts))
        for number in range(len(self._boxes[operand].lower)):
            rows = _Rows(part, self._domain, *self._set(number))
            box = Interval(*(side[number].flatten() for side in self._boxes[operand]))
            members = chosen_groups(operator, box, grouping, most)
            # A cut is a group of its own, so that groups of several cuts are repeated.
            members = members.repeat_interleave(max(1, len(grouping.cuts)), 0)
            forms = Forms.of(members)
            found = self._search_forms(rows, forms.rows(len(box.lower), box.lower))
            if found is None:
                return
            bounds, lines = found
            ends = Interval(*(side[members] for side in box))
            octahedra = Octahedra(ends, forms.bounds(bounds))
            own = vertices(operator, octahedra).unsqueeze(0)
            points.append(Groups(members.unsqueeze(0), own, _normals(operator, ends, grouping)))
            facts.append(group_facts(members, forms, lines))
        self.groups[name] = joined_groups(points)
        self.group_facts[name] = padded_facts(facts)

    def _slopes_before(self, part: Graph) -> int:
        """Count what one row has of its own on the way through a part: slopes, shares and tilts."""
        nodes = [node for node in part.nodes if isinstance(node, Nonlinear)]
        shared = [self.groups[n.name].members[0].numel() for n in nodes if n.name in self.groups]
        return sum(node.size for node in nodes) + 2 * sum(shared)

    def _search_forms(
        self, rows: "_Rows", forms: Float[Tensor, "forms n"]
    ) -> tuple[Interval, RowLines] | None:
        """Bound forms on both sides; None where there is no form, or no time."""
        low, up, passages = [], [], []
        for numbers in torch.split(torch.arange(len(forms)), _GROUPED_CHUNK):
            if time.monotonic() > self._end_at or not len(numbers):
                return None
            below, above, passage = rows.search(forms[numbers])
            low.append(below)
            up.append(above)
            passages.append((numbers.tolist(), passage))
        sides = rows.written(len(forms), forms, passages)
        parts = [{name: side[i] for name, side in sides.items()} for i in range(3)]
        return Interval(torch.cat(low), torch.cat(up)), _as_lines(parts)

    def own(self, masks: Mapping[str, Masks]) -> Mapping[str, RowLines]:
        """Return the slopes of those rows that were of use."""
        return {
            name: _row_lines(found, masks[name])
            for name, found in self._slopes.items()
            if name in masks
        }

    def _set(self, number: int) -> tuple[Region, Mapping[str, Interval], Mapping[str, Groups]]:
        """Return one set, and the boxes and groups that are known by now."""
        index = torch.tensor([number], device=self._region.device)
        boxes = {n: Interval(b.lower[index], b.upper[index]) for n, b in self._boxes.items()}
        groups = {name: found.of(number) for name, found in self.groups.items()}
        return self._region.select(index), boxes, groups


class _Rows:
    """The rows of one tensor on one set, and the slopes that were found for some of them."""

    def __init__(
        self,
        graph: Graph,
        domain: Domain,
        region: Region,
        boxes: Mapping[str, Interval],
        groups: Mapping[str, Groups],
    ) -> None:
        self._graph = graph
        self._domain = domain
        self._region = region
        self._boxes = boxes
        known = {node.name for node in graph.nodes}
        self._groups = {name: of for name, of in groups.items() if name in known}
        self._columns = inexact_columns(graph, boxes)
        self._found: list[tuple[Tensor, Mapping[str, Passage]]] = []

    def search_neurons(self, neurons: Int[Tensor, " neurons"]) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds of some neurons, flat, and keep their slopes."""
        lower, upper, slopes = self.search(self._units(neurons))
        self._found.append((neurons, slopes))
        return lower, upper

    def search(
        self, forms: Float[Tensor, "forms n"]
    ) -> tuple[Tensor, Tensor, Mapping[str, Passage]]:
        """Return lower and upper bounds of forms of the tensor, with the slopes that give them."""
        dual = self._dual(forms)
        steps = _STEPS if not self._groups else _GROUPED_STEPS
        best, _, _ = ascend(dual, dual.start(), steps=steps if dual.ranges else 0)
        # As they are written, so that bounds are what the checker finds.
        rounded = {key: _rounded(value) for key, value in best.parameters.items()}
        best = replace(best, parameters=rounded)
        lower, negated = dual.evaluate(best).bound[0].chunk(2)
        return lower, -negated, slopes_at(dual, best)

    def slopes(self, neurons: Int[Tensor, " neurons"]) -> _RowSlopes:
        """Return the slopes of these neurons' rows: found ones, or those of the start."""
        place = {neuron: i for i, neuron in enumerate(neurons.tolist())}
        found = [([place[neuron] for neuron in of.tolist()], one) for of, one in self._found]
        return _RowSlopes(neurons.cpu(), self.written(len(neurons), self._units(neurons), found))

    def written(
        self,
        count: int,
        forms: Float[Tensor, "forms n"],
        found: Sequence[tuple[Sequence[int], Mapping[str, Passage]]],
    ) -> Sides:
        """Return what rows have: lower bounds of so many forms, then upper ones.

        Found ones by their numbers, the start for all others.
        """
        dual = self._dual(forms[:1])
        sides = {
            name: tuple([_repeated(each, 2 * count) for each in side] for side in passage)
            for name, passage in slopes_at(dual, dual.start()).items()
        }
        for numbers, passages in found:
            rows = np.concatenate([numbers, np.add(numbers, count)]).astype(np.int64)
            for name, passage in passages.items():
                for kept, side in zip(sides[name], passage, strict=True):
                    for operand, slope in zip(kept, side, strict=True):
                        if isinstance(operand, np.ndarray) and isinstance(slope, Tensor):
                            operand[rows] = slope[0].cpu().numpy()
        return sides

    def _units(self, neurons: Int[Tensor, " neurons"]) -> Float[Tensor, "neurons n"]:
        like = self._region.bounding_box()[0]
        unit = like.new_zeros(len(neurons), self._graph.output.size)
        return unit.scatter_(1, neurons.unsqueeze(1), 1)

    def _dual(self, rows: Float[Tensor, "forms n"]) -> Dual:
        """Pose one row and its negation for each form."""
        forms = torch.cat([rows, -rows])[None, :, None]
        zero = torch.zeros_like(forms[..., 0])
        both = ascent.Rows(forms, zero, torch.ones_like(zero, dtype=torch.bool))
        problem = Problem(self._region, self._boxes, both, groups=self._groups)
        return Dual(self._graph, self._domain, problem, self._columns)


def _normals(
    operator: PiecewiseLinear, ends: Interval, grouping: Grouping
) -> Float[Tensor, "1 groups 2 k"] | None:
    """Return the normals of cuts, each for every one of its groups; None where there are none."""
    if not grouping.cuts:
        return None
    count = len(grouping.cuts)
    normals = ends.lower.new_zeros(len(ends.lower), 2, grouping.size)
    for number, cut in enumerate(grouping.cuts):
        own = Interval(*(side[number::count] for side in ends))
        normals[number::count] = torch.stack(cut.normal(operator, own), 1)
    return normals.unsqueeze(0)


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
    sides: tuple[dict[str, list[Written]], ...] = ({}, {}, {})
    for name in found[0].sides:
        for number, side in enumerate(sides):
            operands = zip(*(one.sides[name][number] for one in found), strict=True)
            side[name] = [_of_rows(slopes, used) for slopes in operands]
    return _as_lines(sides)


def _as_lines(sides: Sequence[Mapping[str, Sequence[Written]]]) -> RowLines:
    lower, upper, shares = sides
    arrays = {
        name: [part for part in of if isinstance(part, np.ndarray)] for name, of in shares.items()
    }
    return RowLines(lower=lower, upper=upper, shares={n: of for n, of in arrays.items() if of})


def _of_rows(slopes: Sequence[Written], used: Sequence[NDArray[np.int64]]) -> Written:
    """Return one operand's slopes in some rows of every set."""
    arrays = [s[rows] for s, rows in zip(slopes, used, strict=True) if isinstance(s, np.ndarray)]
    return np.concatenate(arrays) if arrays else slopes[0]
