"""Rows substituted back while gradients are recorded: as few passes over memory as will do."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Node, Nonlinear
from absolver.analyzer.graph.pending import add_rows
from absolver.analyzer.propagate.chords import chords
from absolver.analyzer.propagate.lines import finite_lines
from absolver.analyzer.propagate.propagator import Multiple, Propagator, lower_without_nan
from absolver.analyzer.propagate.rows import contract
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval


class TrainedRowsPropagator(Propagator):
    """Back-substitution of the final rows, hidden bounds being another domain's.

    It computes what `NeuronsPropagator` does, up to rounding. That one has a reference trace, so
    that the biases of thousands of rows need not be carried; its gradients would cost as much as
    those of one more row. Here all rows go back at once: gradients keep them in any case.
    """

    def __init__(self, graph: Graph, domain: Domain, region: Region) -> None:
        """Prepare for a walk through the graph."""
        self._graph = graph
        self._domain = domain
        self._region = region
        self._boxes: dict[str, Sequence[Interval]] = {}

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        """Keep the bounds of an operator's operands."""
        if isinstance(node, Nonlinear):
            self._boxes[node.name] = box

    def bounds(self, node: Node, wanted: Bool[Tensor, "batch *shape"] | None) -> Interval:
        """Hidden bounds come from elsewhere."""
        raise AssertionError(f"{node.name} is bounded by another domain")

    def minimum(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Float[Tensor, "batch rows"]:
        """Substitute the rows back from the output, with multiples of inequalities added."""
        output = self._graph.output
        rows = rows.expand(self._region.batch, -1, -1)
        pending = {output.name: torch.unflatten(rows, 2, output.shape)}
        bound = rows.new_zeros(rows.shape[:2])
        for term in multiples:
            bound = bound + term.constant
            add_rows(pending, term.node, term.coefficients)
        for node in reversed(self._graph.nodes[1:]):
            if (a := pending.pop(node.name, None)) is None:
                continue
            match node:
                case Affine(maps=maps, bias=bias):
                    if bias is not None:
                        bound = bound + a.flatten(2) @ bias.expand(node.shape).flatten()
                    flat = a.flatten(0, 1)
                    results = [torch.unflatten(m.adjoint(flat), 0, a.shape[:2]) for m in maps]
                case Nonlinear():
                    gain, results = self._through(node, a)
                    bound = bound + gain
                case _:
                    raise AssertionError(f"unknown kind of node: {node}")
            for name, result in zip(node.inputs, results, strict=True):
                add_rows(pending, name, result)
        at_input = pending.get(self._graph.input.name)
        if at_input is not None:
            bound = bound + self._least(at_input)
        return lower_without_nan(bound)

    def _through(self, node: Nonlinear, a: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Substitute an operator's lines into rows: what a bound gains, and rows on each operand.

        Positive coefficients take lower lines, negative ones upper lines.
        """
        box = self._boxes[node.name]
        closed = chords(self._domain, node.operator)
        if closed is not None and (found := closed.substituted(a, box[0])) is not None:
            gain, result = found
            return gain, [result]
        lines, unbounded = finite_lines(self._domain, node.operator, box)
        positive, negative = torch.relu(a), a.clamp(max=0)
        gain = _sums(positive, lines.lower_offset) + _sums(negative, lines.upper_offset)
        if unbounded is not None:
            used = _sums(a.abs(), unbounded.to(a.dtype)) > 0
            gain = torch.where(used, -torch.inf, gain)
        return gain, [
            positive * below.unsqueeze(1) + negative * above.unsqueeze(1)
            for below, above in zip(lines.lower, lines.upper, strict=True)
        ]

    def _least(self, rows: Tensor) -> Tensor:
        """Bound rows on the input over the region."""
        if not isinstance(self._region, Box):
            return self._region.minimum(rows)
        lower, upper = self._region.bounding_box()
        spread = _sums(rows.abs(), upper - lower)
        return torch.sub(_sums(rows, torch.lerp(lower, upper, 0.5)), spread, alpha=0.5)


def _sums(
    rows: Float[Tensor, "batch rows *shape"], weights: Float[Tensor, "batch *shape"]
) -> Float[Tensor, "batch rows"]:
    """Sum the products of rows and weights over the neurons."""
    if rows.shape[1] == 1:  # a product with a vector is slow in batches
        return (rows * weights.unsqueeze(1)).flatten(2).sum(2)
    return contract(rows, weights)
