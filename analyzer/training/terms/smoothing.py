"""Training for randomized smoothing: a network that is right under noise."""

from abc import abstractmethod
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional

from absolver.analyzer.training.batch import Batch
from absolver.analyzer.training.errors import TrainingError
from absolver.analyzer.training.schedules import Number
from absolver.analyzer.training.terms.term import Term

_TINY = 1e-12


@dataclass(frozen=True)
class _Noisy(Term):
    """A loss under Gaussian noise of deviation `sigma`, drawn `samples` times for each point."""

    sigma: Number
    samples: int = 1

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each point."""
        noise = self._noise(batch)
        return self._loss(batch, noise, self._logits(batch, batch.x, noise))

    def _noise(self, batch: Batch) -> Tensor:
        """Draw noise `[samples, batch, 1, *shape]`."""
        size = (self.samples, *batch.x.shape)
        generator = batch.generator
        drawn = torch.randn(size, generator=generator, device=generator.device)
        return batch.at(self.sigma) * drawn.to(batch.x)

    def _logits(self, batch: Batch, x: Tensor, noise: Tensor, *, held: bool = False) -> Tensor:
        """Evaluate the network under noise: `[samples, batch, classes]`."""
        logits = batch.logits((x + noise).flatten(0, 1), held=held)
        return logits.view(self.samples, len(batch.y), batch.classes)

    def _entropy(self, batch: Batch, logits: Tensor) -> Tensor:
        """Return the mean cross-entropy over the draws."""
        label = batch.y.view(1, -1, 1).expand(len(logits), -1, 1)
        return -functional.log_softmax(logits, 2).gather(2, label).mean((0, 2))

    @abstractmethod
    def _loss(self, batch: Batch, noise: Tensor, logits: Tensor) -> Tensor:
        """Return the loss of each point from the logits under noise."""


@dataclass(frozen=True)
class Gaussian(_Noisy):
    """Cross-entropy under noise (Cohen et al. 2019)."""

    def _loss(self, batch: Batch, noise: Tensor, logits: Tensor) -> Tensor:
        return self._entropy(batch, logits)


@dataclass(frozen=True)
class Stability(_Noisy):
    """Cross-entropy, and how far answers under noise are from the clean one (Li et al. 2019)."""

    weight: Number = 2.0

    def _loss(self, batch: Batch, noise: Tensor, logits: Tensor) -> Tensor:
        clean = functional.cross_entropy(batch.clean, batch.y, reduction="none")
        probabilities = batch.clean.softmax(1)
        cross = -(probabilities * functional.log_softmax(logits, 2)).sum(2).mean(0)
        return clean + batch.at(self.weight) * cross


@dataclass(frozen=True)
class Consistency(_Noisy):
    """Cross-entropy, and how far answers under noise are from their mean (Jeong and Shin 2020)."""

    samples: int = 2
    weight: Number = 10.0
    entropy: Number = 0.5

    def _loss(self, batch: Batch, noise: Tensor, logits: Tensor) -> Tensor:
        logs = functional.log_softmax(logits, 2)
        mean = logs.exp().mean(0)
        of_mean = mean.clamp(min=_TINY).log()
        divergence = (mean * (of_mean - logs)).sum(2).mean(0)
        entropy = -(mean * of_mean).sum(1)
        regular = batch.at(self.weight) * divergence + batch.at(self.entropy) * entropy
        return self._entropy(batch, logits) + regular


@dataclass(frozen=True)
class SmoothAdv(_Noisy):
    """Gaussian training on points that an attack has found (Salman et al. 2019, SmoothAdv).

    The attack is on the smoothed network, under the noise of the loss itself; it takes steps in the
    2-norm, up to `distance` away.
    """

    samples: int = 2
    distance: Number = 1.0
    steps: int = 4

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each attacked point."""
        noise, distance = self._noise(batch), batch.at(self.distance)
        x = batch.x
        for _ in range(self.steps if distance > 0 else 0):
            x = x.detach().requires_grad_()
            probabilities = self._logits(batch, x, noise, held=True).softmax(2).mean(0)
            own = probabilities.gather(1, batch.y.unsqueeze(1)).clamp(min=_TINY)
            (gradient,) = torch.autograd.grad(-own.log().sum(), x)
            direction = functional.normalize(gradient.flatten(1), dim=1).view(x.shape)
            moved = x.detach() + 2 * distance / self.steps * direction - batch.x
            length = moved.flatten(1).norm(dim=1).clamp(min=_TINY)
            shrunk = (distance / length).clamp(max=1).view(-1, *(1 for _ in x.shape[1:]))
            x = batch.x + moved * shrunk
        return self._loss(batch, noise, self._logits(batch, x.detach(), noise))

    def _loss(self, batch: Batch, noise: Tensor, logits: Tensor) -> Tensor:
        return self._entropy(batch, logits)


@dataclass(frozen=True)
class Macer(_Noisy):
    """Cross-entropy of the smoothed network, and a hinge on its radius (Zhai et al. 2020).

    `beta` sharpens the softmax of the radius; `gamma` is the gap beyond which nothing is gained.
    """

    samples: int = 16
    weight: Number = 12.0
    beta: float = 16.0
    gamma: float = 8.0

    def __post_init__(self) -> None:
        """Check the number of draws."""
        if self.samples < 2:
            raise TrainingError("macer estimates radii from 2 draws or more")

    def _loss(self, batch: Batch, noise: Tensor, logits: Tensor) -> Tensor:
        label = batch.y.unsqueeze(1)
        soft = logits.softmax(2).mean(0).gather(1, label).squeeze(1)
        sharp = (self.beta * logits).softmax(2).mean(0)
        own = sharp.gather(1, label).squeeze(1)
        rival = sharp.scatter(1, label, -torch.inf).amax(1)
        gap = self._quantile(own) - self._quantile(rival)
        # Who is wrong, or wide enough, or beyond what floats can tell, has no radius to gain.
        near = (own > rival) & gap.isfinite() & (gap < self.gamma)
        hinge = torch.where(near, self.gamma - torch.where(near, gap, 0.0), 0.0)
        radius = batch.at(self.weight) * batch.at(self.sigma) / 2 * hinge
        return -soft.clamp(min=_TINY).log() + radius

    def _quantile(self, probability: Tensor) -> Tensor:
        # Inside of (0, 1) by what float32 can tell: the inverse's slope is infinite at the ends.
        edge = torch.finfo(probability.dtype).eps
        return sqrt(2) * torch.erfinv(2 * probability.clamp(edge, 1 - edge) - 1)
