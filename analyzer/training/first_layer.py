"""Bounds of the first affine layer over sets that are no boxes, in closed form."""

from collections.abc import Mapping

import torch
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.graph.linear.movement import Reshape
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.sparse import FewPixels
from absolver.dsl.operators.record import Interval

# Gains of a few megabytes at a time, which stay in a CPU's cache.
_MOST_GAINS = 1 << 20


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
    value = x @ linear.weight.T
    least = value - _gain(linear.weight, down, up, region.budget)
    most = value + _gain(-linear.weight, down, up, region.budget)
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


def _gain(weight: Tensor, down: Tensor, up: Tensor, budget: int) -> Tensor:
    """Return how far the best few changes take each row of the weight down: `[batch, rows]`.

    The pixels are chosen without gradients, which the chosen ones alone have.
    """
    with torch.no_grad():
        chosen = _best(weight, down, down + up, budget)
    rows = torch.arange(len(weight), device=weight.device).view(1, -1, 1)
    points = torch.arange(len(down), device=weight.device).view(-1, 1, 1)
    picked = weight[rows, chosen]
    gains = picked.clamp(min=0) * down[points, chosen] - picked.clamp(max=0) * up[points, chosen]
    return gains.sum(2)


def _best(weight: Tensor, down: Tensor, width: Tensor, budget: int) -> Tensor:
    """Choose the pixels of the largest gains `max(w, 0) down + max(-w, 0) up`, for each row.

    That is `w down + max(-w, 0) width`, whose second part is nearly always the same for all points.
    """
    size = max(1, _MOST_GAINS // weight.numel())
    negative = torch.relu(-weight)
    common = bool((width - width[:1]).abs().max() <= 1e-6 * width.max())
    fixed = negative * width[0]
    chosen = []
    for from_below, across in zip(
        torch.split(down, size), torch.split(width.unsqueeze(1), size), strict=True
    ):
        gains = torch.addcmul(
            fixed if common else negative * across, weight, from_below.unsqueeze(1)
        )
        if budget == 1:
            chosen.append(gains.argmax(2, keepdim=True))
        else:
            chosen.append(gains.topk(budget, dim=2, sorted=False).indices)
    return torch.cat(chosen)
