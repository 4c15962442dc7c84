"""Our side of the comparison: output bounds by a library domain, through the public functions."""

from collections.abc import Callable
from math import prod
from pathlib import Path

import torch
from torch import Tensor
from workloads import Workload

from absolver import domains
from absolver.analyzer.frontends.onnx import load_onnx
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.regions.box import Box
from absolver.dsl.domain import Domain

DOMAINS = {"IBP": "interval", "CROWN-IBP": "crown_ibp", "CROWN": "crown"}
"""The library domain that does what each method of auto_LiRPA does."""


def our_bounds(
    work: Workload, method: str, device: str, dtype: torch.dtype
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Prepare a workload; calling the result computes the output bounds."""
    graph = load_graph(work.network, device, dtype)
    region = region_of(work, graph, device, dtype)
    domain = domains.load(DOMAINS[method])
    return lambda: bounds_by(graph, domain, region)


def load_graph(path: Path, device: str, dtype: torch.dtype) -> Graph:
    """Read a network."""
    return load_onnx(path).graph.to(device, dtype)


def region_of(work: Workload, graph: Graph, device: str, dtype: torch.dtype) -> Box:
    """Return a workload's boxes in the shape that the graph's input has."""
    lower, upper = (
        torch.from_numpy(side).to(device, dtype).reshape(-1, *graph.input.shape)
        for side in (work.lower, work.upper)
    )
    return Box(lower, upper)


def bounds_by(graph: Graph, domain: Domain, region: Box) -> tuple[Tensor, Tensor]:
    """Bound every output: the upper bound is the lower bound of the negated output."""
    outputs = prod(graph.output.shape)
    unit = torch.eye(outputs, device=region.lower.device, dtype=region.lower.dtype)
    rows = torch.cat([unit, -unit])[None]
    lower, negated = propagate(graph, domain, region, rows).rows.chunk(2, dim=1)
    return lower, -negated
