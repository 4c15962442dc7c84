"""What rounding costs a row that is substituted back: for each node, for a unit of coefficient.

Any computed coefficient row is a valid proof if the difference to the exact one is paid at
|difference| x the distance of the operand from the reference trace (residual folding). For all
rows through a node these costs are one vector s, and a row pays |row| · s: `a` stands on the
node's result z = W x + b + e, with the trace t computed, so that

    a · (z - t) >= a' · (x - x0) - |a| · s,
    s = gamma |W| |x - x0|  (a' = fl(a W))  +  |t - (W x0 + b)|  +  |e|
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Node, Nonlinear
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.propagate.enclosures import EnclosuresPropagator
from absolver.analyzer.propagate.floats import (
    distance,
    evaluation_error,
    gamma,
    magnitude,
    raised,
    summed_up,
    unit,
)
from absolver.analyzer.propagate.lines import Lines, is_whole
from absolver.analyzer.propagate.rows import Rows, weigh
from absolver.analyzer.propagate.terms import backward_terms, exact_rows, moves, roundings


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
        """Prepare for a walk through the graph."""
        self._graph = graph
        self._enclosures = enclosures
        self._dtype = dtype
        self._reach: dict[str, Tensor] = {}
        self._passages: dict[str, _Passage] = {}
        # Of coefficients that come from a product with a slope, by node that they come to.
        self._products: dict[str, Tensor] = {}
        self._users: dict[str, list[Node]] = {}
        # Neurons of a node that some operator does not switch off, by node.
        self._live: dict[str, Tensor] = {}
        self._weights: dict[str, Weights | None] = {}

    def visit(self, node: Node, trace: Tensor, lines: Lines | None = None) -> None:
        """Take in a node and the trace that was computed for it."""
        self._learn(node.name, trace)
        match node:
            case Affine():
                self._affine(node)
            case Nonlinear():
                assert lines is not None, "an operator comes with its lines"
                self._operator(node, lines)

    def learn(self, node: Node, trace: Tensor) -> None:
        """Take note of a tighter box of a node."""
        self._learn(node.name, trace)

    def pay(
        self, name: str, rows: Rows, elements: slice, exact: bool = False
    ) -> Float[Tensor, "#group #rows"]:
        """Return what it costs to come to a node with some rows, and to go on from there.

        `exact` rows have one coefficient each, which is 1 or -1.
        """
        if exact:
            node = self._graph.by_name[name]
            assert isinstance(node, Affine), "rows of single neurons start at affine nodes"
            weights = Weights.of(self._start_costs(node), self._dtype)
            return self._nothing if weights is None else weights.times(rows, elements)
        if name not in self._weights:
            self._weights[name] = self._weigh(name)
        weights = self._weights[name]
        cost = self._floor(name, elements)
        return cost if weights is None else weights.times(rows, elements) + cost

    def spare_nothing(self, name: str) -> None:
        """Count on coefficients at all neurons of a node, whatever its operators switch off."""
        if name in self._live:
            self._live[name] = torch.ones_like(self._live[name])
            self._weights.pop(name, None)

    def pay_sum(self, name: str, rows: Rows, elements: slice) -> Float[Tensor, "#group #rows"]:
        """Return what the one rounding costs that made rows on a node as a sum."""
        cost = 2 * unit(self._dtype) * self._reach[name].double()
        weights = Weights.of(cost, self._dtype)
        return self._nothing if weights is None else weights.times(rows, elements)

    def start(
        self, node: Affine, elements: slice, neurons: Int[Tensor, "group rows"]
    ) -> Float[Tensor, "group rows"]:
        """Return what rows cost that are those of the node's own maps, for some neurons."""
        return self._start_costs(node)[elements].flatten(1).gather(1, neurons)

    def _start_costs(self, node: Affine) -> Tensor:
        counts = [0 if exact_rows(m) else backward_terms(m) for m in node.maps]
        return self._passages[node.name].of(counts, self._dtype)

    def reach(self, name: str) -> Weights | None:
        """Return how far a node's values may be from the trace, costs of coming there included."""
        far = self._reach[name].double()
        products = self._products.get(name)
        return Weights.of(far if products is None else far + products, torch.float64)

    def _learn(self, name: str, trace: Tensor) -> None:
        self._reach[name] = distance(trace, *self._enclosures.box(name))

    def _affine(self, node: Affine) -> None:
        boxes = [self._enclosures.box(name) for name in node.inputs]
        reach = [self._reach[name] for name in node.inputs]
        # The trace of an operand is no farther from 0 than its values, and its distance to them.
        sizes = [
            raised(magnitude(*box).double() + far.double(), self._dtype)
            for box, far in zip(boxes, reach, strict=True)
        ]
        terms = roundings(node, sizes)
        own, spreads = [], []
        for linear, size, far in zip(node.maps, sizes, reach, strict=True):
            own.append(summed_up(linear.apply_abs(size), terms))
            spreads.append(summed_up(linear.apply_abs(far), terms))
        total = sum(own[1:], start=own[0])
        if node.bias is not None:
            total = total + node.bias.abs().double()
        value = evaluation_error(total, terms, self._dtype) if terms else torch.zeros_like(total)
        if (execution := self._enclosures.execution(node.name)) is not None:
            value = value + execution
        self._passages[node.name] = _Passage(value, tuple(spreads))
        for name in node.inputs:
            self._users.setdefault(name, []).append(node)
            self._weights.pop(name, None)

    def _operator(self, node: Nonlinear, lines: Lines) -> None:
        assert lines.lower is not None, "proved lines have both slopes"
        live = lines.live.flatten(1)
        for name, lower, upper in zip(node.inputs, lines.lower, lines.upper, strict=True):
            self._users.setdefault(name, []).append(node)
            self._live[name] = self._live[name] | live if name in self._live else live
            far = self._reach[name].double()
            # A coefficient times 0, 1 or -1 is not rounded.
            whole = is_whole(lower) & is_whole(upper)
            cost = torch.where(whole, 0.0, 2 * unit(self._dtype) * far)
            before = self._products.get(name)
            self._products[name] = cost if before is None else torch.maximum(before, cost)
            self._weights.pop(name, None)

    def _weigh(self, name: str) -> Weights | None:
        cost = self._products.get(name)
        if (passage := self._passages.get(name)) is not None:
            node = self._graph.by_name[name]
            assert isinstance(node, Affine), "only affine nodes are passed so"
            through = passage.of(self._coefficient_terms(node), self._dtype)
            cost = through if cost is None else cost + through
        return None if cost is None else Weights.of(cost, self._dtype)

    def _coefficient_terms(self, node: Affine) -> list[int]:
        """Count the roundings of a coefficient through each map; zeros do not round."""
        counts = [backward_terms(linear) for linear in node.maps]
        users = self._users.get(node.name, ())
        if users and all(isinstance(user, Nonlinear) for user in users):
            live = int(self._live[node.name].any(0).sum())
            for i, linear in enumerate(node.maps):
                if isinstance(linear, Dense):
                    counts[i] = min(counts[i], live)
        return counts

    @property
    def _nothing(self) -> Float[Tensor, "1 1"]:
        return self._reach[self._graph.input.name].new_zeros((1, 1), dtype=torch.float64)

    def _floor(self, name: str, elements: slice) -> Float[Tensor, "#group #rows"]:
        """Bound what underflow costs a row at a node, whatever its coefficients."""
        node = self._graph.by_name[name]
        tiny = torch.finfo(self._dtype).tiny
        total = self._nothing
        match node:
            case Affine() if not (len(node.maps) == 1 and moves(node.maps[0])):
                pairs = list(zip(node.inputs, self._coefficient_terms(node), strict=True))
            case Nonlinear():
                pairs = [(i, 2) for i in node.inputs]
                total = total + 2 * tiny * self._reach[name][0].numel()
            case _:
                return total
        for operand, count in pairs:
            far = self._reach[operand][elements].double().flatten(1)
            # Where it is infinite, a row that needs the operand has no bound.
            far = torch.where(far.isfinite(), far, 0.0).sum(1, keepdim=True)
            total = total + 2 * count * tiny * far
        return total
