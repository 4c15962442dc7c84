"""Small networks as programs, for tests of encodings and of what solvers make of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.programs.build import build
from absolver.analyzer.programs.duals import Forms, Ground
from absolver.analyzer.programs.encoding import Encoding, encode
from absolver.analyzer.programs.highs import LinearProgram
from absolver.analyzer.programs.program import Program, Rows
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.regions.box import Box
from absolver.domains import load
from absolver.dsl.operators import OPERATORS
from tests.analyzer.search.problems import LINES, SEARCHED, box
from tests.networks import DTYPE, operator_network, residual_network

BOUNDING = load("crown & interval")
PIECEWISE_LINEAR = ("relu", "leaky_relu", "abs", "clip", "max", "min")
SMOOTH = ("sigmoid", "tanh", "exp", "square", "mul", "floor", "hard_swish")


@dataclass(frozen=True, eq=False)
class Case:
    """A network over a box, one form of its outputs, and the program of that form."""

    graph: Graph
    region: Box
    encoding: Encoding
    program: Program
    ground: Ground

    def runs(self, count: int, seed: int = 0) -> tuple[NDArray[np.float64], dict[str, Tensor]]:
        """Inputs of the box, corners among them, and every node's values there."""
        generator = torch.Generator().manual_seed(seed)
        x = self.region.sample(count, generator)[0]
        lower, upper = (side[0] for side in self.region.bounding_box())
        corners = torch.randint(0, 2, (count // 4, *lower.shape), generator=generator)
        x = torch.cat([x, torch.where(corners > 0, upper, lower)])
        return x.flatten(1).numpy(), self.graph.trace(x)

    def excess(self, values: dict[str, Tensor]) -> NDArray[np.float64]:
        """The form's value at each run."""
        y = values[self.graph.output.name].flatten(1).numpy()
        found: NDArray[np.float64] = (
            y @ self.ground.forms.coefficients.T - self.ground.forms.bound
        ).max(1)
        return found

    def at(self, values: dict[str, Tensor], number: int) -> NDArray[np.float64]:
        """The program's variables at one run; those of links are left at 0."""
        point = np.zeros(len(self.program.lower))
        for name, view in self.encoding.views.items():
            here = values[name][number].flatten().numpy()
            used = view.sign != 0
            point[view.column[used]] = (here * view.sign)[used]
        point[self.program.objective] = self.excess(values)[number]
        return point


def case(kind: str, seed: int, width: float = 1.0, forms: int = 1) -> Case:
    """A network of one operator, or a residual one, over a box."""
    graph = residual_network(seed) if kind == "residual" else _network(kind, seed)
    graph = graph.joined
    region = box(1, graph, seed, 0.1 if kind == "residual" else width)
    outputs = int(np.prod(graph.output.shape))
    generator = np.random.default_rng(seed)
    coefficients = generator.normal(size=(forms, outputs))
    rows = torch.from_numpy(coefficients).view(1, forms, outputs)
    boxes = propagate(graph, BOUNDING, region, rows).hidden
    sides = region.bounding_box()
    encoding = encode(graph, boxes, (sides[0].flatten().numpy(), sides[1].flatten().numpy()))
    known = Forms(coefficients, generator.normal(size=forms) * 0.1)
    program = build(encoding, known, SEARCHED)
    return Case(graph, region, encoding, program, Ground(graph, region, boxes, known))


def _network(kind: str, seed: int) -> Graph:
    operator = OPERATORS[kind](0.0, 1.0) if kind == "clip" else OPERATORS[kind]()
    return operator_network(operator, seed)


def patterns(program: Program) -> Iterator[Rows]:
    """Every way to take one alternative of each choice."""
    for chosen in product(*(choice.alternatives for choice in program.choices)):
        yield Rows.joined([program.rows, program.constraints, *chosen])


def least_by_patterns(program: Program) -> float:
    """The minimum of the objective, by one linear program for each pattern."""
    best = np.inf
    for rows in patterns(program):
        solver = LinearProgram(program.lower, program.upper, rows)
        solver.minimise(np.array([program.objective]), np.ones(1))
        found = solver.solve()
        assert found is not None
        if found.feasible:
            best = min(best, found.value)
    return best


__all__ = ["DTYPE", "LINES", "PIECEWISE_LINEAR", "SMOOTH", "Case", "case", "least_by_patterns"]
