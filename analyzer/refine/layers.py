"""The operands that oracles bound: which ones, in which order."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Nonlinear
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.programs.duals import Place
from absolver.analyzer.refine.evidence import Evidence


@dataclass(frozen=True, eq=False)
class Layer:
    """The operand of an operator that comes after others, and the network up to there."""

    name: str
    operator: Nonlinear
    part: Graph


def layers(graph: Graph) -> Iterator[Layer]:
    """Yield the operands that come after an operator, in order."""
    for node in graph.nodes:
        if isinstance(node, Nonlinear):
            for name in dict.fromkeys(node.inputs):
                part = graph.upto(name)
                if any(isinstance(before, Nonlinear) for before in part.nodes):
                    yield Layer(name, node, part)


def chosen(layer: Layer, evidence: Evidence) -> list[Place]:
    """Return a layer's undecided neurons, by their widths times their outgoing weights.

    Singh et al., "Boosting Robustness Certification of Neural Networks", ICLR 2019, rank by both;
    a product does not depend on units.
    """
    boxes = evidence.boxes
    affine, _ = layer.operator.operator.affine_on([boxes[n] for n in layer.operator.inputs])
    box = boxes[layer.name]
    left = (~affine & (box.lower < box.upper)).flatten().nonzero().squeeze(1)
    score = ((box.upper - box.lower) * _outgoing(evidence.known.graph, layer.operator)).flatten()
    order = score[left].argsort(descending=True, stable=True)
    return [(layer.name, int(element)) for element in left[order]]


def _outgoing(graph: Graph, operator: Nonlinear) -> Tensor:
    """Return the sum of the absolute weights with which each result is used."""
    total = torch.zeros(1, *operator.shape, dtype=torch.float64)
    for node in graph.nodes:
        if isinstance(node, Affine):
            for linear, name in zip(node.maps, node.inputs, strict=True):
                if name == operator.name:
                    total = total + _column_sums(linear)
    return torch.where(total > 0, total, torch.ones_like(total))


def _column_sums(linear: LinearMap) -> Tensor:
    with torch.enable_grad():
        one = torch.ones(1, *linear.input_shape, dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad(linear.apply_abs(one).sum(), one)
    return found
