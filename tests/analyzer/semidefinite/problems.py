"""Small networks over boxes, relaxed, for tests of semidefinite bounds."""

from dataclasses import dataclass

import torch
from torch import Tensor

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.regions.box import Box
from absolver.analyzer.semidefinite.encode import Problem, encode
from absolver.analyzer.semidefinite.lagrangian import Point
from absolver.analyzer.semidefinite.relaxation import Relaxation
from absolver.domains import load
from tests.networks import DTYPE, instance, operator_network, relu_network, residual_network

OPERATORS = ("relu", "leaky_relu", "abs", "clip", "square", "max", "mul", "tanh", "sigmoid")


@dataclass(frozen=True)
class Small:
    """A network over a box, linear forms of its output, and the problem that they pose."""

    graph: Graph
    region: Box
    problem: Problem

    def relaxed(self, **options: bool) -> Relaxation:
        """Relax the network between CROWN's lines."""
        return encode(self.problem, load("crown"), **options)

    def sampled(self, count: int = 500) -> Tensor:
        """Evaluate the forms at random points and at corners: `[points, rows]`."""
        random = torch.Generator().manual_seed(1)
        shape = (count, *self.graph.input.shape)
        share = torch.rand(shape, generator=random, dtype=DTYPE)
        share[: count // 2] = share[: count // 2].round()
        x = self.region.lower + share * (self.region.upper - self.region.lower)
        return self.graph(x).flatten(1) @ self.problem.rows.mT


def network(name: str, seed: int) -> Graph:
    """A network by the name of its operator, or of its kind."""
    match name:
        case "deep":
            return relu_network((3, 6, 6, 2), seed)
        case "residual":
            return residual_network(seed)
    return operator_network(instance(name), seed)


def small(name: str, seed: int, *, domain: str = "crown", width: float = 0.4) -> Small:
    """A network over a random box, its rows random, its hidden bounds proved by a domain."""
    graph = network(name, seed)
    random = torch.Generator().manual_seed(seed)
    center = torch.randn((1, *graph.input.shape), generator=random, dtype=DTYPE) * 0.3
    region = Box(center - width, center + width)
    outputs = torch.Size(graph.output.shape).numel()
    rows = torch.randn(2, outputs, generator=random, dtype=DTYPE)
    found = propagate(graph, load(domain), region, rows.unsqueeze(0), rounding=Rounding())
    return Small(graph, region, Problem(graph=graph, region=region, boxes=found.hidden, rows=rows))


def any_point(relaxation: Relaxation, seed: int, size: float) -> Point:
    """Multipliers and charges that mean nothing, of either sign."""
    random = torch.Generator().manual_seed(seed)
    shapes = (len(relaxation.equality), relaxation.size)
    multipliers, charges = (
        torch.randn(relaxation.rows, n, generator=random, dtype=DTYPE) * size for n in shapes
    )
    return Point(multipliers, charges)
