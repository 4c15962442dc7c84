"""Networks of distances in the maximum norm (Zhang et al. 2021, 2022), and their loss."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from absolver.analyzer.training.batch import Batch
from absolver.analyzer.training.schedules import Number
from absolver.analyzer.training.terms.term import Term


class DistanceLayer(nn.Module):
    """Neurons that give the distance of their operand from a point: `|x - w|_p + b`.

    With p infinite each is 1-Lipschitz in the maximum norm, so that a margin above twice a
    perturbation is a proof. A training lets `p` grow from 8 to 1000, and ends with infinity.
    """

    def __init__(self, operands: int, neurons: int) -> None:
        """Draw points around the origin."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(neurons, operands))
        self.bias = nn.Parameter(torch.zeros(neurons))
        self.p = 8.0

    def forward(self, x: Tensor) -> Tensor:
        """Return the distances of each point of a batch."""
        if self.p == float("inf"):
            return torch.cdist(x, self.weight, p=self.p) + self.bias
        # The largest part is taken out, or powers would overflow or vanish.
        apart = (x.unsqueeze(1) - self.weight).abs()
        largest = apart.amax(2, keepdim=True).clamp(min=1e-12).detach()
        total = (apart / largest).clamp(min=1e-12).pow(self.p).sum(2)
        return largest.squeeze(2) * total.pow(1 / self.p) + self.bias


def set_norm(model: nn.Module, p: float) -> None:
    """Let all distances of a model be those in the p-norm."""
    for layer in model.modules():
        if isinstance(layer, DistanceLayer):
            layer.p = p


@dataclass(frozen=True)
class DistanceMargin(Term):
    """A hinge on margins, and a cross-entropy that fades (Zhang et al. 2022, equation 8)."""

    scale: Number = 1.0
    entropy: Number = 0.1
    sharpness: Number = 1.0

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each point."""
        logits, label = batch.clean, batch.y.unsqueeze(1)
        own = logits.gather(1, label).squeeze(1)
        rival = logits.scatter(1, label, -torch.inf).amax(1)
        size = batch.at(batch.perturbation.size)
        batch.seen["certified"] = ((own - rival).detach() > 2 * size).float().mean()
        missing = 2 * size - (own - rival)
        scale = batch.at(self.scale)
        hinge = (missing / scale).clamp(0, 1)
        sharp = batch.at(self.sharpness) * logits
        entropy = functional.cross_entropy(sharp, batch.y, reduction="none")
        return hinge + batch.at(self.entropy) * entropy
