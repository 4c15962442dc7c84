"""What the checker will do with a certificate, done in advance: which proposals are enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NotRequired, TypedDict, Unpack

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.graph.graph import Graph, Node, Nonlinear
from absolver.analyzer.propagate.lines import finite_lines
from absolver.analyzer.propagate.neurons import NeuronsPropagator
from absolver.analyzer.propagate.operands import Use, bounded_tensors, undecided
from absolver.analyzer.propagate.precision import full_float32
from absolver.analyzer.propagate.propagator import Forms, meet
from absolver.analyzer.propagate.structure import exact_on_boxes, operands_of_operators
from absolver.analyzer.propagate.values import ValuesPropagator
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval
from absolver.dsl.relaxation import Slopes

# A row that moves a bound by less than this share of the interval is not worth its check.
SMALLEST_GAIN = 1e-6


class Rows(Enum):
    """How many bounds come from rows: none, all that are tighter, or of those only what is enough.

    Enough is one side where that side alone decides all operators; the other one would only make
    later interval steps a little tighter.
    """

    NONE = "none"
    ENOUGH = "enough"
    ALL = "all"


@dataclass(frozen=True, eq=False)
class Masks:
    """For which elements of a bounded tensor the lower and the upper bound come from a row."""

    lower: Bool[Tensor, "batch n"]
    upper: Bool[Tensor, "batch n"]


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """What the checker will find with some lines and rows, up to rounding.

    Guarantee: with the slopes of `proposed` and the rows of `masks`, exact arithmetic gives every
    operand the box in `boxes` and every form of the output at least the bound in `rows`.
    """

    rows: Float[Tensor, "batch rows"]
    boxes: Mapping[str, Interval]
    """By name of an operator's operand."""
    masks: Mapping[str, Masks]
    """By name of a bounded tensor; missing where no row is used."""
    forms: Forms | None = None
    """Forms of the input behind the rows, if they were asked for and there are lines."""


class Limits(TypedDict):
    """How much memory rows may take, how many coefficients those of one tensor; what is kept."""

    memory_bytes: int
    most_work: NotRequired[int | None]
    with_forms: NotRequired[bool]


def lines_of(domain: Domain) -> tuple[Domain, ...]:
    """Return the factors of a domain that put lines around operators."""
    factors = domain.factors or (domain,)
    return tuple(factor for factor in factors if factor.carrier.has_lines)


def rehearse(
    graph: Graph,
    lines: Domain | None,
    region: Region,
    forms: Float[Tensor, "#batch rows outputs"],
    *,
    rows: Rows,
    **limits: Unpack[Limits],
) -> Rehearsal:
    """Bound as the format's section 4 says, with a domain's lines, or with none.

    Boxes are interval steps, met with the values of rows where an interval step leaves an operator
    undecided and the row says more; none where the rows of one tensor would hold more than
    `most_work` coefficients. The forms are bounded by rows in any case.
    """
    graph, neurons = graph.joined, None
    if lines is not None:
        neurons = NeuronsPropagator(graph, lines, region, limits["memory_bytes"])
    most_work = limits.get("most_work")
    found = walk(graph, neurons, region, forms, rows=rows, most_work=most_work)
    if neurons is not None and limits.get("with_forms"):
        with full_float32():
            found = replace(found, forms=neurons.forms(forms))
    return found


def walk(
    graph: Graph,
    neurons: NeuronsPropagator | None,
    region: Region,
    forms: Float[Tensor, "#batch rows outputs"],
    *,
    rows: Rows,
    most_work: int | None = None,
) -> Rehearsal:
    """Do what `rehearse` does with what finds the rows; the graph's biases are joined."""
    with full_float32():
        return _Walk(graph, neurons, region, most_work).run(forms, rows)


def proposed(lines: Domain, node: Nonlinear, boxes: Mapping[str, Interval]) -> Slopes:
    """Return the slopes that a domain proposes on the boxes, 0 where a line would be infinite."""
    box = [boxes[name] for name in node.inputs]
    relaxation, _ = finite_lines(lines, node.operator, box)
    return Slopes(relaxation.lower, relaxation.upper)


class _Walk:
    """One pass through the graph: interval steps and, where there are lines, rows beside them."""

    def __init__(
        self,
        graph: Graph,
        neurons: NeuronsPropagator | None,
        region: Region,
        most_work: int | None,
    ) -> None:
        self._graph = graph
        self._values = ValuesPropagator(graph, region)
        self._neurons = neurons
        self._most_work = most_work
        self._bounded = bounded_tensors(self._graph)
        self._exact = exact_on_boxes(self._graph) if isinstance(region, Box) else frozenset()
        self._masks: dict[str, Masks] = {}

    def run(self, forms: Tensor, rows: Rows) -> Rehearsal:
        boxes: dict[str, Interval] = {}
        needed = operands_of_operators(self._graph)
        for node in self._graph.nodes:
            box = [boxes[name] for name in node.inputs] if isinstance(node, Nonlinear) else []
            self._values.visit(node, box)
            if self._neurons is not None:
                self._neurons.visit(node, box)
                bounded = node.name in self._bounded and node.name not in self._exact
                if bounded and rows is not Rows.NONE:
                    self._tighten(self._neurons, node, rows)
            if node.name in needed:
                boxes[node.name] = self._values.bounds(node)
        found = self._values.minimum(forms)
        if self._neurons is not None:
            found = torch.maximum(found, self._neurons.minimum(forms))
        return Rehearsal(found, boxes, self._masks)

    def _tighten(self, neurons: NeuronsPropagator, node: Node, rows: Rows) -> None:
        """Meet a bounded tensor's box with the rows that are worth it."""
        users = self._bounded[node.name]
        cheap = self._values.bounds(node)
        wanted = undecided(users, cheap)
        if self._most_work is not None:
            wanted = neurons.affordable(node, wanted, self._most_work)
        if not bool(wanted.any()):
            return
        own = neurons.bounds(node, wanted)
        masks = _tighter(cheap, own, wanted.flatten(1))
        if rows is Rows.ENOUGH:
            masks = _enough(users, cheap, own, masks)
        lower, upper = (mask.view_as(cheap.lower) for mask in (masks.lower, masks.upper))
        if not bool((lower | upper).any()):
            return
        self._masks[node.name] = masks
        found = Interval(
            torch.where(lower, own.lower, -torch.inf), torch.where(upper, own.upper, torch.inf)
        )
        self._values.learn(node, meet(cheap, found))


def _tighter(cheap: Interval, own: Interval, wanted: Bool[Tensor, "batch n"]) -> Masks:
    """Choose the rows that tighten a box."""
    width = cheap.upper - cheap.lower
    least = SMALLEST_GAIN * torch.where(torch.isfinite(width), width, 0.0)
    lower = wanted & (own.lower - cheap.lower > least).flatten(1)
    upper = wanted & (cheap.upper - own.upper > least).flatten(1)
    return Masks(lower, upper)


def _enough(users: Sequence[Use], cheap: Interval, own: Interval, masks: Masks) -> Masks:
    """Choose one side alone where it decides all operators."""
    from_below = meet(cheap, Interval(own.lower, cheap.upper))
    from_above = meet(cheap, Interval(cheap.lower, own.upper))
    by_lower = masks.lower & ~undecided(users, from_below).flatten(1)
    by_upper = masks.upper & ~by_lower & ~undecided(users, from_above).flatten(1)
    return Masks(masks.lower & ~by_upper, masks.upper & ~by_lower)
