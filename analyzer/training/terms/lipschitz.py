"""Margins against a global Lipschitz constant (Leino et al. 2021, "Globally-Robust Networks")."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from absolver.analyzer.graph.graph import Affine, Graph, Input, Node, Nonlinear
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.training.batch import Batch
from absolver.analyzer.training.errors import TrainingError
from absolver.analyzer.training.terms.term import Term
from absolver.dsl.operators.record import Interval


@dataclass(frozen=True)
class Gloro(Term):
    """Cross-entropy with one more class, which wins wherever the prediction is not robust (GloRo).

    Its logit is the largest that another class may reach within the perturbation, in the 2-norm.
    Spectral norms are estimated from below by power iteration: certify with the domain `lipschitz`,
    which bounds them from above.
    """

    iterations: int = 10

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each point."""
        if batch.perturbation.norm != "2":
            raise TrainingError("gloro is for a perturbation in the norm 2")
        size = batch.at(batch.perturbation.size)
        logits = batch.clean
        predicted = logits.argmax(1)
        constants = pair_constants(batch.network, self.iterations)[predicted]
        rivals = logits + size * constants
        rivals = rivals.scatter(1, predicted.unsqueeze(1), -torch.inf)
        extended = torch.cat([logits, rivals.amax(1, keepdim=True)], dim=1)
        certified = (extended.detach().argmax(1) == batch.y).float().mean()
        batch.seen["lipschitz"] = certified
        return functional.cross_entropy(extended, batch.y, reduction="none")


def pair_constants(graph: Graph, iterations: int) -> Tensor:
    """Estimate the Lipschitz constants of z_j - z_i in the 2-norm: `[i, j]`."""
    last = graph.output
    if not (isinstance(last, Affine) and len(last.maps) == 1 and isinstance(last.maps[0], Dense)):
        raise TrainingError(f"gloro wants a dense layer at the end, not {last.origin}")
    weight = last.maps[0].weight
    gaps = (weight.unsqueeze(0) - weight.unsqueeze(1)).square().sum(2)
    # The root of 0 has no derivative.
    distinct = torch.where(gaps > 0, gaps, 1.0).sqrt() * (gaps > 0)
    constants: dict[str, Tensor] = {}
    for node in graph.nodes[:-1]:
        constants[node.name] = _constant(node, constants, iterations, weight)
    return distinct * constants[last.inputs[0]]


def _constant(node: Node, constants: Mapping[str, Tensor], iterations: int, like: Tensor) -> Tensor:
    match node:
        case Input():
            return like.new_ones(())
        case Affine(inputs=inputs, maps=maps):
            parts = [
                _norm(linear, iterations, like) * constants[name]
                for linear, name in zip(maps, inputs, strict=True)
            ]
            return torch.stack(parts).sum()
        case Nonlinear(inputs=(name,), operator=operator):
            everywhere = Interval(like.new_full((1,), -torch.inf), like.new_full((1,), torch.inf))
            steepest = operator.lipschitz([everywhere])[0].max()
            if bool(steepest.isfinite()):
                return steepest * constants[name]
    raise TrainingError(f"gloro knows no Lipschitz constant of {node.origin}")


def _norm(linear: LinearMap, iterations: int, like: Tensor) -> Tensor:
    """Estimate a spectral norm from below; its gradient is that at the singular vectors."""
    if not linear.coefficients():
        return like.new_ones(())  # what moves data; a copy of an element counts in its bias alone
    generator = torch.Generator().manual_seed(0)
    v = torch.randn((1, *linear.input_shape), generator=generator).to(like)
    v = v / v.norm()
    with torch.no_grad():
        for _ in range(iterations):
            u = functional.normalize(linear.apply(v).flatten(), dim=0).view(1, *linear.output_shape)
            v = functional.normalize(linear.adjoint(u).flatten(), dim=0).view(v.shape)
        u = functional.normalize(linear.apply(v).flatten(), dim=0).view(1, *linear.output_shape)
    return (u * linear.apply(v)).sum()
