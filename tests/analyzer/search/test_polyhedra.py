"""All lines of the triangle at once reach what a linear program over triangles does."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog

from absolver.analyzer.graph.graph import Affine, Graph, Nonlinear
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.regions.box import Box
from absolver.analyzer.search.ascent import Dual, ascend
from absolver.domains import load
from tests.analyzer.search.problems import LINES, box, dual_problem
from tests.networks import relu_network

POLYHEDRA = load("polyhedra")


def over_triangles(graph: Graph, region: Box, row: NDArray[np.float64]) -> float:
    """The least value of a row where each undecided neuron lies in its triangle (LP-Full)."""
    hidden = propagate(graph, LINES, region, torch.from_numpy(row).view(1, 1, -1)).hidden
    place, width = {}, 0
    for node in graph.nodes:
        size = int(np.prod(node.shape))
        place[node.name] = slice(width, width + size)
        width += size
    equal, equal_to, below, below_to = [], [], [], []
    for node in graph.nodes[1:]:
        for i in range(int(np.prod(node.shape))):
            line = np.zeros(width)
            line[place[node.name].start + i] = 1
            if isinstance(node, Affine):
                (linear,), (name,) = node.maps, node.inputs
                line[place[name]] -= linear.rows(torch.tensor([i])).flatten().numpy()
                assert node.bias is not None
                equal.append(line)
                equal_to.append(float(node.bias.expand(node.shape).flatten()[i]))
                continue
            assert isinstance(node, Nonlinear)
            at = place[node.inputs[0]].start + i
            low, high = (float(side.flatten()[i]) for side in hidden[node.inputs[0]])
            slope = max(high, 0) / (high - low) if low < 0 < high else float(low >= 0)
            for sign, along, offset in (
                (-1, 0.0 if low < 0 else 1.0, 0.0),
                (-1, 1.0 if high > 0 else 0.0, 0.0),
                (1, slope, -slope * min(low, 0) if high > 0 else 0.0),
            ):
                line = np.zeros(width)
                line[place[node.name].start + i], line[at] = sign, -sign * along
                below.append(line)
                below_to.append(sign * offset)
    ends = zip(region.lower.flatten().tolist(), region.upper.flatten().tolist(), strict=True)
    bounds = [*ends] + [(None, None)] * (width - region.lower.numel())
    cost = np.zeros(width)
    cost[place[graph.output.name]] = row
    found = linprog(cost, below, below_to, equal, equal_to, bounds, method="highs")
    assert found.success
    return float(found.fun)


@pytest.mark.precision
@pytest.mark.parametrize("seed", range(10))
def test_searched_multipliers_reach_the_linear_program_over_triangles(seed: int) -> None:
    graph = relu_network((3, 6, 6, 2), seed)
    region = box(1, graph, seed, width=1.0)
    row = np.array([1.0, -1.0])
    dual = Dual(graph, POLYHEDRA, dual_problem(graph, region, [(row.tolist(), 0.0)]))
    start = float(dual.evaluate(dual.start()).bound)
    _, found, _ = ascend(dual, dual.start(), steps=200)
    best = over_triangles(graph, region, row)
    assert start <= float(found) <= best + 1e-6
    assert float(found) == pytest.approx(best, abs=1e-3)
