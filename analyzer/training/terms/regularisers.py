"""Terms that shape bounds of hidden neurons, or weights, without looking at labels."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from absolver.analyzer.graph.graph import Affine, Nonlinear
from absolver.analyzer.training.batch import Batch
from absolver.analyzer.training.terms.term import Term
from absolver.dsl.operators.record import Interval


def hidden_boxes(batch: Batch) -> Iterator[Interval]:
    """Give the bounds of each operator's operands, by the training's domain."""
    hidden = batch.passed().hidden
    for node in batch.network.nodes:
        if isinstance(node, Nonlinear):
            yield from (hidden[name] for name in node.inputs)


@dataclass(frozen=True)
class FastIbp(Term):
    """Keeps boxes from growing, and ReLUs balanced (Shi et al. 2021, equations 8 to 10).

    Its weight goes to 0 as the perturbation grows: `Smooth(0.5, 0, begin, until)` beside a size of
    `Smooth(0, size, begin, until)`.
    """

    tolerance: float = 0.5

    def __call__(self, batch: Batch) -> Tensor:
        """Return one number for the batch."""
        lower, upper = batch.region.bounding_box()
        at_input = (upper - lower).mean() / 2
        boxes = list(hidden_boxes(batch))
        parts = [self._growth(at_input, box) + self._imbalance(box) for box in boxes]
        total = sum(parts, start=batch.clean.new_zeros(()))
        return total / (self.tolerance * max(1, len(boxes)))

    def _growth(self, at_input: Tensor, box: Interval) -> Tensor:
        radius = (box.upper - box.lower).mean() / 2
        return functional.relu(self.tolerance - at_input / radius.clamp(min=_TINY))

    def _imbalance(self, box: Interval) -> Tensor:
        center = (box.upper + box.lower) / 2
        active, inactive = box.lower > 0, box.upper < 0
        means = (center * active).mean(), -(center * inactive).mean()
        deviation = (center - center.mean()).square()
        variances = (deviation * active).sum(), (deviation * inactive).sum()
        return sum(
            (functional.relu(self.tolerance - _ratio(*pair)) for pair in (means, variances)),
            start=center.new_zeros(()),
        )


_TINY = 1e-12


def _ratio(first: Tensor, second: Tensor) -> Tensor:
    """Return the smaller of two positive numbers over the larger one; 1 where one is missing."""
    if not bool((first > _TINY) & (second > _TINY)):
        return torch.ones_like(first)
    return torch.minimum(first, second) / torch.maximum(first, second)


@dataclass(frozen=True)
class ReluStability(Term):
    """The mean of -tanh(1 + l u) over operands: less where bounds agree in sign (Xiao et al. 2019).

    Networks trained so are meant for complete verification.
    """

    def __call__(self, batch: Batch) -> Tensor:
        """Return the sum over each point's neurons."""
        parts = [
            -torch.tanh(1 + box.lower * box.upper).flatten(1).sum(1) for box in hidden_boxes(batch)
        ]
        return sum(parts, start=batch.clean.new_zeros(len(batch.y)))


@dataclass(frozen=True)
class L1(Term):
    """The sum of the absolute values of all weights; biases and normalisations do not count."""

    def __call__(self, batch: Batch) -> Tensor:
        """Return one number for the batch."""
        weights = (
            tensor.abs().sum()
            for node in batch.network.nodes
            if isinstance(node, Affine)
            for linear in node.maps
            for tensor in linear.coefficients()
            if tensor.requires_grad and tensor.dim() > 1 and tensor.is_leaf
        )
        return sum(weights, start=batch.clean.new_zeros(()))
