"""The carrier `over neurons` with every rounding error paid: rows whose bounds are proved."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Input, Node, Nonlinear
from absolver.analyzer.propagate.charges import Charges
from absolver.analyzer.propagate.concretise import proved_minimum
from absolver.analyzer.propagate.enclosures import EnclosuresPropagator
from absolver.analyzer.propagate.floats import add_below, evaluation_error, summed_up
from absolver.analyzer.propagate.lines import lines_with_costs, proved_lines
from absolver.analyzer.propagate.neurons import NeuronsPropagator, Start
from absolver.analyzer.propagate.propagator import Multiple, lower_without_nan
from absolver.analyzer.propagate.rows import Rows, add, contract, written_out
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import round_down
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval


class ProvedNeuronsPropagator(NeuronsPropagator):
    """Back-substitution whose rows are computed in the region's dtype, and all else in float64.

    Rows are proposals: `Charges` has what each step of one costs. The reference trace, the lines'
    intercepts and the bound itself are of float64.
    """

    def __init__(
        self,
        graph: Graph,
        domain: Domain,
        region: Region,
        memory_bytes: int,
        enclosures: EnclosuresPropagator,
    ) -> None:
        """Prepare for a walk through the graph, behind the enclosures."""
        super().__init__(graph, domain, region, memory_bytes)
        self._enclosures = enclosures
        self._charges = Charges(graph, enclosures, region.dtype)

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        """Extend the reference trace, relax the node if it is non-linear, and learn its costs."""
        match node:
            case Input():
                lower, upper = self._region.bounding_box()
                self._trace[node.name] = lower.double() / 2 + upper.double() / 2
            case Affine():
                doubled = self._enclosures.doubled(node)
                self._trace[node.name] = self._stepped_trace(doubled)
            case Nonlinear():
                trace = [self._trace[i] for i in node.inputs]
                noise = self._enclosures.noise(node.name)
                relaxation, unbounded = proved_lines(self._domain, node.operator, box, noise)
                costs = self._charges.advance(node, relaxation)
                lines, reference = lines_with_costs(relaxation, unbounded, trace, costs)
                self._lines[node.name] = lines
                self._trace[node.name] = reference
        self._charges.visit(node, self._trace[node.name])

    def learn(self, node: Node, facts: Interval) -> None:
        """Measure distances from the trace within the tighter bounds."""
        del facts
        self._charges.learn(node, self._trace[node.name])

    def minimum(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Float[Tensor, "batch rows"]:
        """Substitute the rows back from the output, with multiples of inequalities added."""
        for term in multiples:
            self._charges.take_back(term.node)
        return super().minimum(rows, multiples)

    def _stepped(self, node: Affine, operand: Interval) -> Interval:
        return self._enclosures.enclose(node, [operand])

    def _substitute(self, start: Start) -> Float[Tensor, "group rows"]:
        bound = super()._substitute(start)
        bound = add_below(bound, -self._charges.underflow(start.elements))
        return round_down(lower_without_nan(bound), self._dtype)

    def _value_on_trace(
        self, a: Float[Tensor, "group rows *shape"], name: str, elements: slice
    ) -> Float[Tensor, "group rows"]:
        """Evaluate rows on the reference trace, from below."""
        a, trace = a.double(), self._trace[name][elements]
        terms = trace[0].numel()
        size = summed_up(contract(a.abs(), trace.abs()), terms)
        return add_below(contract(a, trace), -evaluation_error(size, terms, a.dtype))

    def _sum(self, first: Tensor, second: Tensor | None) -> Tensor:
        return first if second is None else add_below(first.double(), second.double())

    def _put(
        self, pending: dict[str, Rows], name: str, rows: Rows, elements: slice
    ) -> Float[Tensor, "#group #rows"] | None:
        if not add(pending, name, rows):
            return None
        return _negated(self._charges.pay_sum(name, pending[name], elements))

    def _gain_at(self, name: str, rows: Rows, start: Start) -> Float[Tensor, "group rows"] | None:
        pay = self._charges.pay_first if name == start.exact else self._charges.pay
        return _negated(pay(name, rows, start.elements))

    def _gain_of_start(
        self, node: Affine, elements: slice, neurons: Int[Tensor, "group rows"]
    ) -> Float[Tensor, "group both"] | None:
        return -self._charges.start(node, elements, neurons).repeat(1, 2)

    def _concretised(self, elements: slice, a: Rows, end: str) -> Float[Tensor, "group rows"]:
        """Bound rows where they end, in float64."""
        center = self._trace[end][elements]
        if not isinstance(self._region, Box):
            index = torch.arange(elements.start, elements.stop, device=center.device)
            return proved_minimum(self._region.select(index), written_out(a), center)
        distance = _negated(self._charges.end(end, a, elements))
        return center.new_zeros((1, 1)) if distance is None else distance


def _negated(cost: Tensor | None) -> Tensor | None:
    return None if cost is None else -cost
