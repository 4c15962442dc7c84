"""Attacks in relaxations of a network's first part (Balunović and Vechev 2020, "COLT")."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from absolver.analyzer.graph.graph import Graph, Nonlinear, evaluate
from absolver.analyzer.propagate.engine import Given, propagate
from absolver.analyzer.propagate.lines import finite_lines
from absolver.analyzer.regions.region import Region
from absolver.analyzer.training.batch import Batch
from absolver.analyzer.training.first_layer import first_bounds
from absolver.analyzer.training.live import held
from absolver.analyzer.training.schedules import Number
from absolver.analyzer.training.terms.latent import split_network
from absolver.analyzer.training.terms.term import Term
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval

Places = Mapping[str, Float[Tensor, "batch *shape"]]
"""For each operator, how far from its lower line to its upper one: in [0, 1]."""


@dataclass(frozen=True)
class Layerwise(Term):
    """The cross-entropy in a bad point of the batch's domain's relaxation of the first operators.

    What stands before the cut is as it is: only what follows is trained. Of a stage between two
    numbers both losses count, by nearness, so that a ramp freezes one layer after the other
    (there, section 4). At stage 0 this is an attack on the input.
    """

    stage: Number = 1
    """How many operators stand before the cut."""
    steps: int = 8
    step_size: float = 0.25
    """The share of a set's half width that a step takes; a tenth of it in the second half."""

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each set."""
        stage = batch.at(self.stage)
        first, share = int(stage), stage - int(stage)
        loss = self._behind(batch, first)
        return loss if share == 0 else torch.lerp(loss, self._behind(batch, first + 1), share)

    def _behind(self, batch: Batch, count: int) -> Tensor:
        network = batch.network
        if count == 0:
            relaxed = Relaxed(batch.held.upto(batch.held.input.name), batch.domain, batch.region)
            second = network
        else:
            operators = sum(isinstance(node, Nonlinear) for node in network.nodes)
            split, second = split_network(network, operators - count)
            relaxed = Relaxed(batch.held.upto(split.name), batch.domain, batch.region)
        worst = self._worst(batch, relaxed, held(second))
        logits = second(worst).flatten(1)
        batch.seen["layerwise"] = (logits.detach().argmax(1) == batch.y).float().mean()
        return functional.cross_entropy(logits, batch.y, reduction="none")

    def _worst(self, batch: Batch, relaxed: "Relaxed", second: Graph) -> Tensor:
        """Climb from a random point of the relaxation, in the input and in all places at once."""
        lower, upper = batch.region.bounding_box()
        half = (upper - lower) / 2
        x = batch.region.project(lower + _random(batch, lower) * (upper - lower))
        places = {name: _random(batch, x) for name, x in relaxed.like(x).items()}
        for step in range(self.steps):
            length = self.step_size * (0.1 if 2 * step >= self.steps else 1.0)
            free = [tensor.detach().requires_grad_() for tensor in (x, *places.values())]
            z = relaxed(free[0], dict(zip(places, free[1:], strict=True)))
            loss = functional.cross_entropy(second(z).flatten(1), batch.y, reduction="sum")
            # Where a domain has no lines, an operator's place alone says what it gives.
            pulls = torch.autograd.grad(loss, free, allow_unused=True, materialize_grads=True)
            towards, *moves = (pull.sign() for pull in pulls)
            x = batch.region.project(free[0].detach() + length * half * towards)
            places = {
                name: (place.detach() + length / 2 * move).clamp(0, 1)
                for name, place, move in zip(places, free[1:], moves, strict=True)
            }
        with torch.no_grad():
            return relaxed(x, places)


class Relaxed:
    """A network each of whose operators may be anything between a domain's lines around it.

    Guarantee: up to rounding, what the network itself computes on a point of the region is what
    this computes there for some places. Of a domain without lines, ranges of operators take their
    place.
    """

    def __init__(self, graph: Graph, domain: Domain, region: Region) -> None:
        """Bound the operands of a network's operators over sets, and relax these."""
        self._graph = graph
        rows = region.bounding_box()[0].new_zeros(1, 1, graph.output.size)
        lines = next((f for f in domain.factors or (domain,) if f.carrier.has_lines), None)
        self._ends = {}
        with torch.no_grad():
            given = Given(first_bounds(graph, region))
            hidden = propagate(graph, domain, region, rows, given=given).hidden
            for node in graph.nodes:
                if isinstance(node, Nonlinear):
                    box = [hidden[name] for name in node.inputs]
                    self._ends[node.name] = _Ends(node, box, lines)

    def like(self, x: Tensor) -> Places:
        """Return what places look like for points like `x`: the values of the network there."""
        with torch.no_grad():
            values = self._graph.trace(x)
        return {name: values[name] for name in self._ends}

    def __call__(self, x: Float[Tensor, "batch *shape"], places: Places) -> Tensor:
        """Evaluate the network with its operators at these places."""
        values = {self._graph.input.name: x}
        for node in self._graph.nodes[1:]:
            if isinstance(node, Nonlinear):
                lower, upper = self._ends[node.name]([values[name] for name in node.inputs])
                values[node.name] = torch.lerp(lower, upper, places[node.name])
            else:
                values[node.name] = evaluate(node, values)
        return values[self._graph.output.name]


class _Ends:
    """An operator's lines, or the ends of its range where a domain has no finite ones."""

    def __init__(self, node: Nonlinear, box: list[Interval], lines: Domain | None) -> None:
        self._range = node.operator.range(box)
        self._lines, self._unbounded = None, None
        if lines is not None:
            self._lines, self._unbounded = finite_lines(lines, node.operator, box)

    def __call__(self, operands: list[Tensor]) -> tuple[Tensor, Tensor]:
        lower, upper = self._range.lower, self._range.upper
        if self._lines is None:
            return lower, upper
        below, above = self._lines.lower_offset, self._lines.upper_offset
        for slope, x in zip(self._lines.lower, operands, strict=True):
            below = torch.addcmul(below, slope, x)
        for slope, x in zip(self._lines.upper, operands, strict=True):
            above = torch.addcmul(above, slope, x)
        if self._unbounded is None:
            return below, above
        return torch.where(self._unbounded, lower, below), torch.where(
            self._unbounded, upper, above
        )


def _random(batch: Batch, like: Tensor) -> Tensor:
    """Draw numbers in [0, 1) of a shape."""
    generator = batch.generator
    return torch.rand(like.shape, generator=generator, device=generator.device).to(like)
