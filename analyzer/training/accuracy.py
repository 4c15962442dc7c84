"""Accuracies of a model on labelled points: natural, under attack, and certified by a domain."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from absolver.analyzer.training.attacks import Attack
from absolver.analyzer.training.batch import Batch
from absolver.analyzer.training.datasets import Labelled
from absolver.analyzer.training.live import LiveGraph
from absolver.analyzer.training.loss import CertifiedLoss
from absolver.analyzer.training.perturbations import Perturbation
from absolver.analyzer.training.terms.certified import Certified
from absolver.dsl.domain import Domain


class Judge:
    """How a model is judged: in evaluation mode, with its running moments, in floats.

    A certified accuracy by this class is up to rounding: the certificates of `analyze` are not.
    """

    def __init__(
        self,
        model: nn.Module | LiveGraph,
        perturbation: Perturbation,
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        """Judge a model by what may happen to its inputs."""
        self._loss = CertifiedLoss(model, "interval", perturbation, Certified(), seed=seed)
        self._model = self._loss.model
        self._loss.training = False  # of the loss itself: the model has a mode of its own
        self._batch_size = batch_size
        self._seed = seed

    def natural(self, points: Labelled) -> Tensor:
        """Say of each point whether the model is right."""
        with torch.no_grad():
            parts = [(b.clean.argmax(1) == b.y) for b in self._batches(points)]
        return torch.cat(parts)

    def adversarial(self, points: Labelled, attack: Attack) -> Tensor:
        """Say of each point whether the model is right there and where an attack has led."""
        self._loss.generator.manual_seed(self._seed)
        parts = []
        for batch in self._batches(points):
            own = batch.clean.argmax(1) == batch.y
            worst = batch.logits(batch.attacked(attack))
            parts.append(own & (worst.argmax(1) == batch.y))
        return torch.cat(parts)

    def certified(self, points: Labelled, domain: Domain) -> Tensor:
        """Say of each point whether the domain proves the model right on the set around it."""
        with torch.no_grad():
            parts = [(b.margins(domain) > 0).all(1) for b in self._batches(points)]
        return torch.cat(parts)

    def _batches(self, points: Labelled) -> Iterator[Batch]:
        training = self._model.training
        self._model.eval()
        try:
            for x, y in zip(
                *(torch.split(part, self._batch_size) for part in (points.x, points.y)), strict=True
            ):
                yield self._loss.batch(x, y)
        finally:
            self._model.train(training)
