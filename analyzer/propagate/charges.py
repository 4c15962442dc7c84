"""What rounding costs a row that is substituted back: for each node, for a unit of coefficient.

Any computed coefficient row is a valid proof if the difference to the exact one is paid at
|difference| x the distance of the operand from the reference trace (residual folding). For all
rows through a node these costs are one vector s, and a row pays |row| · s: `a` stands on the
node's result z = W x + b + e, with the trace t computed, so that

    a · (z - t) >= a' · (x - x0) - |a| · s,
    s = gamma |W| |x - x0|  (a' = fl(a W))  +  |t - (W x0 + b)|  +  |e|
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Node, Nonlinear
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.propagate.enclosures import EnclosuresPropagator
from absolver.analyzer.propagate.floats import (
    distance,
    evaluation_error,
    gamma,
    raised,
    summed_up,
    unit,
)
from absolver.analyzer.propagate.lines import is_whole
from absolver.analyzer.propagate.rows import Rows, weigh
from absolver.analyzer.propagate.structure import count_uses
from absolver.analyzer.propagate.terms import (
    backward_terms,
    exact_rows,
    forward_terms,
    roundings,
)
from absolver.dsl.relaxation import Relaxation

# Weights at a node that are not those of going on from it.
_START, _END = "the start at ", "the end at "


@dataclass(frozen=True)
class Weights:
    """What a unit of coefficient costs at each neuron."""

    finite: Float[Tensor, "batch *shape"]
    infinite: Float[Tensor, "batch *shape"] | None
    """1 at neurons of which no row may need anything."""

    @staticmethod
    def of(cost: Tensor, dtype: torch.dtype) -> "Weights | None":
        """Round costs up to a dtype; None where all are 0."""
        # What is not a number is a product of 0 and infinity: no cost that is known.
        bounded = cost < torch.inf
        finite = raised(torch.where(bounded, cost, 0.0), dtype)
        if bool((bounded & finite.isfinite()).all()):
            return Weights(finite, None) if bool((finite > 0).any()) else None
        bounded = bounded & finite.isfinite()
        return Weights(torch.where(bounded, finite, 0.0), (~bounded).to(dtype))

    def times(self, rows: Rows, elements: slice) -> Float[Tensor, "group rows"]:
        """Return what rows cost, in float64."""
        size = self.finite[0].numel()
        cost = summed_up(weigh(rows, self.finite[elements]), size)
        if self.infinite is not None:
            cost = torch.where(weigh(rows, self.infinite[elements]) == 0, cost, torch.inf)
        return cost


@dataclass(frozen=True)
class _Passage:
    """Costs of substituting an affine node, of coefficients on its result, in float64."""

    value: Float[Tensor, "batch *shape"]
    """Of the node's value: the trace's own rounding, and the execution's."""
    spread: tuple[Float[Tensor, "batch *shape"], ...]
    """For each map: its absolute coefficients times how far the operand may be from the trace."""

    def of(self, counts: Iterable[int], dtype: torch.dtype) -> Tensor:
        """Add up the costs, given the roundings of a coefficient through each map."""
        total = self.value
        for spread, count in zip(self.spread, counts, strict=True):
            if count > 0:
                total = total + gamma(count, unit(dtype)) * spread
        return total


class Charges:
    """The costs of rounding at every node, gathered on the way through a graph."""

    def __init__(self, graph: Graph, enclosures: EnclosuresPropagator, dtype: torch.dtype) -> None:
        """Prepare for a walk through the graph with rows of a dtype."""
        self._graph = graph
        self._enclosures = enclosures
        self._dtype = dtype
        self._uses = count_uses(graph)
        self._reach: dict[str, Tensor] = {}
        self._passages: dict[str, _Passage] = {}
        # What underflow costs any row on its way back from the last node.
        self._underflow = enclosures.overflows.new_zeros((1, 1), dtype=torch.float64)
        # Nodes with one use, an operator whose lines have what it costs to go on from them.
        self._advanced: set[str] = set()
        self._weights: dict[str, Weights | None] = {}

    def visit(self, node: Node, trace: Tensor) -> None:
        """Take in a node and the trace that was computed for it; an operator after `advance`."""
        self.learn(node, trace)
        if isinstance(node, Affine):
            self._affine(node)

    def learn(self, node: Node, trace: Tensor) -> None:
        """Measure how far a node's values are from its trace."""
        self._reach[node.name] = distance(trace, *self._enclosures.box(node.name))
        self._weights.pop(_END + node.name, None)

    def advance(self, node: Nonlinear, relaxation: Relaxation) -> list[Tensor]:
        """Return what a unit of coefficient on each operand costs that comes through lines.

        It is one product with a slope, and what it costs to go on from the operand, if nothing but
        the operator uses that.
        """
        costs = []
        tiny = torch.finfo(self._dtype).tiny
        for name, lower, upper in zip(node.inputs, relaxation.lower, relaxation.upper, strict=True):
            far = self._reach[name]
            self._underflow = self._underflow + 4 * tiny * _total(far)
            # A coefficient times 0, 1 or -1 is not rounded.
            whole = is_whole(lower) & is_whole(upper)
            cost = torch.where(whole, 0.0, 2 * unit(self._dtype) * far)
            if self._uses[name] == 1 and (passage := self._passages.get(name)) is not None:
                live = (lower != 0) | (upper != 0)
                cost = cost + passage.of(self._terms_of(name, live), self._dtype)
                self._advanced.add(name)
            costs.append(cost)
        self._underflow = self._underflow + 2 * tiny * far[0].numel()
        return costs

    def take_back(self, name: str) -> None:
        """Charge rows at a node themselves: they do not all come through lines."""
        self._advanced.discard(name)

    def pay(self, name: str, rows: Rows, elements: slice) -> Float[Tensor, "group rows"] | None:
        """Return what it costs to go on from an affine node with some rows."""
        if name in self._advanced or name not in self._passages:
            return None
        return self._times(name, rows, elements, self._passage_cost)

    def pay_first(
        self, name: str, rows: Rows, elements: slice
    ) -> Float[Tensor, "group rows"] | None:
        """Do what `pay` does for rows of one coefficient each, which is 1 or -1."""
        return self._times(_START + name, rows, elements, self._start_cost)

    def pay_sum(self, name: str, rows: Rows, elements: slice) -> Float[Tensor, "group rows"] | None:
        """Return what the one rounding costs that made rows on a node as a sum."""
        cost = 2 * unit(self._dtype) * self._reach[name]
        weights = Weights.of(cost, self._dtype)
        return None if weights is None else weights.times(rows, elements)

    def start(
        self, node: Affine, elements: slice, neurons: Int[Tensor, "group rows"]
    ) -> Float[Tensor, "group rows"]:
        """Return what rows cost that are those of the node's own maps, for some neurons."""
        return self._start_cost(node.name)[elements].flatten(1).gather(1, neurons)

    def end(self, name: str, rows: Rows, elements: slice) -> Float[Tensor, "group rows"] | None:
        """Return how far rows on a node may be from their value on the trace."""
        return self._times(_END + name, rows, elements, self._reach.__getitem__)

    def underflow(self, elements: slice) -> Float[Tensor, "#group 1"]:
        """Bound what underflow costs any row on its way back from the last node."""
        return self._underflow if len(self._underflow) == 1 else self._underflow[elements]

    def _times(
        self, key: str, rows: Rows, elements: slice, cost: Callable[[str], Tensor]
    ) -> Float[Tensor, "group rows"] | None:
        if key not in self._weights:
            self._weights[key] = Weights.of(
                cost(key.removeprefix(_END).removeprefix(_START)), self._dtype
            )
        weights = self._weights[key]
        return None if weights is None else weights.times(rows, elements)

    def _affine(self, node: Affine) -> None:
        reach = [self._reach[name] for name in node.inputs]
        doubled = self._enclosures.doubled(node)
        spreads = []
        tiny = torch.finfo(self._dtype).tiny
        for linear, far in zip(doubled.maps, reach, strict=True):
            spreads.append(summed_up(linear.apply_abs(far), forward_terms(linear)))
            self._underflow = self._underflow + 2 * backward_terms(linear) * tiny * _total(far)
        # The trace of an operand is no farther from 0 than its values, and its distance to them.
        size = sum(spreads, start=self._enclosures.size(node.name))
        terms = roundings(node)
        value = evaluation_error(size, terms, size.dtype) if terms else torch.zeros_like(size)
        if (noise := self._enclosures.noise(node.name)) is not None:
            value = value + noise
        self._passages[node.name] = _Passage(value, tuple(spreads))

    def _passage_cost(self, name: str) -> Tensor:
        return self._passages[name].of(self._terms_of(name, None), self._dtype)

    def _start_cost(self, name: str) -> Tensor:
        node = self._graph.by_name[name]
        assert isinstance(node, Affine), "rows of single neurons start at affine nodes"
        counts = [0 if exact_rows(m) else backward_terms(m) for m in node.maps]
        return self._passages[name].of(counts, self._dtype)

    def _terms_of(self, name: str, live: Bool[Tensor, "batch *shape"] | None) -> list[int]:
        """Count the roundings of a coefficient through each map of a node.

        `live` says on which of the node's neurons a row can have coefficients, all if None: zeros
        do not round.
        """
        node = self._graph.by_name[name]
        assert isinstance(node, Affine), "only affine nodes are passed"
        counts = [backward_terms(linear) for linear in node.maps]
        if live is None or not any(isinstance(linear, Dense) for linear in node.maps):
            return counts
        most = int(live.flatten(1).sum(1).max())
        return [
            min(count, most) if isinstance(linear, Dense) else count
            for count, linear in zip(counts, node.maps, strict=True)
        ]


def _total(far: Tensor) -> Float[Tensor, "batch 1"]:
    """Sum distances; where one is infinite, a row that needs the neuron has no bound anyway."""
    return torch.where(far.isfinite(), far, 0.0).flatten(1).sum(1, keepdim=True)
