"""A powerset as a search over inputs that is finished: a tree of splits of a fixed size."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.propagate.parts import Parts, split
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.box import Box
from absolver.analyzer.search.proof import TreeProof, Visited
from absolver.analyzer.search.tree import INPUT, Levels, Tree
from absolver.dsl.domain import Domain


def part_trees(graph: Graph, domain: Domain, specification: Specification) -> Sequence[TreeProof]:
    """Return the tree of the parts of each set; every one of them is meant to refute all clauses.

    The sets have no multiples of constraints: they are boxes.
    """
    region = specification.region
    parts = split(graph, region, specification.rows, domain.parts)
    levels = _tree(parts, specification.sets).levels()
    inner = replace(domain, parts=1)
    lower, upper = (side.flatten(1) for side in region.bounding_box())
    return [
        TreeProof(
            set=number,
            clauses=tuple(range(specification.clause.shape[1])),
            levels=own,
            domain=inner,
            revisit=partial(_visited, graph, inner, own, (lower[number], upper[number])),
            single=specification.rows.dtype == torch.float32,
        )
        for number, own in levels.items()
    ]


def _tree(parts: Parts, sets: int) -> Tree:
    """Make the splits of all sets in one forest."""
    tree = Tree(sets)
    nodes = np.arange(sets).reshape(-1, 1)
    for one in parts.splits:
        halved = one.threshold.shape[1]
        axis = one.axis.cpu().numpy().repeat(halved)
        threshold = one.threshold.double().cpu().numpy().ravel()
        split_nodes = nodes[:, :halved].ravel()
        halves = tree.split(split_nodes, [INPUT] * len(split_nodes), axis, threshold)
        below, above = (half.reshape(sets, halved) for half in halves)
        nodes = np.concatenate(
            [np.stack([below, above], axis=2).reshape(sets, -1), nodes[:, halved:]], axis=1
        )
    return tree


def _visited(
    graph: Graph, domain: Domain, levels: Levels, ends: tuple[Tensor, Tensor]
) -> Iterator[Visited]:
    """Bound the nodes of one tree."""
    lower, upper = [ends[0]], [ends[1]]
    axes = iter(zip(levels.element.tolist(), levels.threshold.tolist(), strict=True))
    for place, inner in enumerate(levels.split.tolist()):
        if inner >= 0:
            axis, threshold = next(axes)
            below, above = upper[place].clone(), lower[place].clone()
            below[axis], above[axis] = threshold, threshold
            lower += [lower[place], above]
            upper += [below, upper[place]]
    shape = (-1, *graph.input.shape)
    region = Box(torch.stack(lower).view(shape), torch.stack(upper).view(shape))
    rows = region.lower.new_zeros(1, 1, graph.output.size)
    yield Visited(np.arange(len(lower)), propagate(graph, domain, region, rows).hidden)
