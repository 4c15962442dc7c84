"""Bounds of the first affine layer over sets that are no boxes, in closed form."""

from collections.abc import Mapping

import torch
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.graph.linear.movement import Reshape
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.sparse import FewPixels
from absolver.analyzer.training.exchanged import best_choices
from absolver.dsl.operators.record import Interval


def first_bounds(graph: Graph, region: Region) -> Mapping[str, Interval]:
    """Bound a dense first layer over sets of few exchanged pixels, whose box says nothing.

    A bounding box of such a set is that of the data. Its extreme linear forms are sums of the
    largest gains of single pixels. Nothing is returned for other sets and other layers.
    """
    node = _first_dense(graph)
    if not isinstance(region, FewPixels) or region.axis is not None or node is None:
        return {}
    (linear,) = node.maps
    assert isinstance(linear, Dense), "as it was found"
    lower, upper = region.bounding_box()
    x = region.base.lower.flatten(1)
    down, up = x - lower.flatten(1), upper.flatten(1) - x
    # What subtraction may have changed of widths that are the same for all points.
    slack = 4 * torch.finfo(x.dtype).eps * float(torch.maximum(lower.abs(), upper.abs()).max())
    value = x @ linear.weight.T
    least = value - _gain(linear.weight, down, up, region.budget, slack)
    most = value + _gain(-linear.weight, down, up, region.budget, slack)
    bias = 0 if node.bias is None else node.bias.flatten()
    shape = (-1, *node.shape)
    return {node.name: Interval((least + bias).view(shape), (most + bias).view(shape))}


def _first_dense(graph: Graph) -> Affine | None:
    """Find the dense layer that has the whole input, flat, as its operand."""
    current = graph.input.name
    for node in graph.nodes[1:]:
        if not isinstance(node, Affine) or node.inputs != (current,):
            return None
        if isinstance(node.maps[0], Dense):
            flat = node.maps[0].input_shape[-1] == graph.input.size
            return node if flat else None
        if not isinstance(node.maps[0], Reshape) or node.bias is not None:
            return None
        current = node.name
    return None


def _gain(weight: Tensor, down: Tensor, up: Tensor, budget: int, slack: float) -> Tensor:
    """Return how far the best few changes take each row of the weight down: `[batch, rows]`.

    The pixels are chosen without gradients, which the chosen ones alone have.
    """
    with torch.no_grad():
        count = min(budget, weight.shape[1])
        chosen = best_choices(weight, down, down + up, count, slack)
    rows = torch.arange(len(weight), device=weight.device).view(1, -1, 1)
    points = torch.arange(len(down), device=weight.device).view(-1, 1, 1)
    picked = weight[rows, chosen]
    gains = picked.clamp(min=0) * down[points, chosen] - picked.clamp(max=0) * up[points, chosen]
    return gains.sum(2)
