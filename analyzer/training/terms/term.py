"""What a loss is made of: terms, which may be weighted by schedules and added."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Self

from torch import Tensor
from torch.nn import functional

from absolver.analyzer.training.attacks import Attack
from absolver.analyzer.training.batch import Batch
from absolver.analyzer.training.schedules import Number, Schedule


class Term(ABC):
    """A loss as a function of a batch: `[batch]`, or one number for all its points.

    `0.3 * Natural() + 0.7 * Certified()` is a term again; any weight may be a schedule.
    """

    @abstractmethod
    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each point, or one for all."""

    def __add__(self, other: "Term") -> "Term":
        """Add another term."""
        return Sum((self, other))

    def __rmul__(self, weight: Number) -> "Term":
        """Multiply by a number that may change."""
        return Weighted(self, weight)

    def stretched(self, factor: float) -> Self:
        """Multiply the times of all schedules within, as from epochs to steps."""
        assert is_dataclass(self), "every term is a dataclass"
        changes = {f.name: _stretched(getattr(self, f.name), factor) for f in fields(self)}
        return replace(self, **changes)


def _stretched(part: Any, factor: float) -> Any:  # noqa: ANN401 - fields of any kind
    if isinstance(part, tuple):
        return tuple(_stretched(each, factor) for each in part)
    return part.stretched(factor) if isinstance(part, Term | Schedule) else part


@dataclass(frozen=True)
class Sum(Term):
    """Several terms added."""

    terms: tuple[Term, ...]

    def __call__(self, batch: Batch) -> Tensor:
        """Add what the terms give."""
        values = [term(batch) for term in self.terms]
        return sum(values[1:], start=values[0])


@dataclass(frozen=True)
class Weighted(Term):
    """A term times a number; a term of weight 0 is not computed."""

    term: Term
    weight: Number

    def __call__(self, batch: Batch) -> Tensor:
        """Multiply the term."""
        weight = batch.at(self.weight)
        return weight * self.term(batch) if weight else batch.clean.new_zeros(())


@dataclass(frozen=True)
class Natural(Term):
    """The cross-entropy on the points themselves."""

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each point."""
        return functional.cross_entropy(batch.clean, batch.y, reduction="none")


@dataclass(frozen=True)
class Adversarial(Term):
    """The cross-entropy on points that an attack has found (Madry et al. 2018)."""

    attack: Attack = field(default_factory=Attack)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each attacked point."""
        return functional.cross_entropy(
            attacked_logits(batch, self.attack), batch.y, reduction="none"
        )


def attacked_logits(batch: Batch, attack: Attack) -> Tensor:
    """Evaluate the network on the points that an attack has found, and note the accuracy there."""
    logits = batch.logits(batch.attacked(attack))
    batch.seen["adversarial"] = (logits.detach().argmax(1) == batch.y).float().mean()
    return logits
