"""Losses between an adversarial and a certified one (De Palma et al. 2024, "Expressive Losses")."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from absolver.analyzer.training.attacks import Attack
from absolver.analyzer.training.batch import Batch, log_sum_exp
from absolver.analyzer.training.schedules import Number
from absolver.analyzer.training.terms.term import Term, attacked_logits
from absolver.dsl.domain import Domain


@dataclass(frozen=True)
class _Expressive(Term):
    """A loss that is the adversarial one at alpha 0 and the certified one at alpha 1."""

    alpha: Number
    attack: Attack = field(default_factory=Attack)
    domain: Domain | None = None

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the adversarial and the certified loss of each point."""
        logits = attacked_logits(batch, self.attack)
        certified = log_sum_exp(batch.margins(self.domain))
        return functional.cross_entropy(logits, batch.y, reduction="none"), certified


@dataclass(frozen=True)
class MtlIbp(_Expressive):
    """The mean of both losses, weighted by 1 - alpha and alpha (there, section 4.3)."""

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each point."""
        alpha = batch.at(self.alpha)
        adversarial, certified = self._losses(batch)
        return (1 - alpha) * adversarial + alpha * certified


@dataclass(frozen=True)
class ExpIbp(_Expressive):
    """The geometric mean of both losses (there, section 4.4)."""

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each point."""
        alpha = batch.at(self.alpha)
        adversarial, certified = self._losses(batch)
        if alpha in (0, 1):
            return certified if alpha else adversarial
        # A loss that underflows to 0 would have an infinite derivative.
        tiny = 1e-12
        return adversarial.clamp(min=tiny) ** (1 - alpha) * certified.clamp(min=tiny) ** alpha


@dataclass(frozen=True)
class CcIbp(_Expressive):
    """The loss of the mean of attacked and certified margins (there, section 4.2)."""

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each point."""
        alpha = batch.at(self.alpha)
        logits = attacked_logits(batch, self.attack)
        classes = torch.arange(batch.classes - 1, device=logits.device)
        label = batch.y.unsqueeze(1)
        margins = logits.gather(1, label) - logits.gather(1, classes + (classes >= label))
        return log_sum_exp((1 - alpha) * margins + alpha * batch.margins(self.domain))
