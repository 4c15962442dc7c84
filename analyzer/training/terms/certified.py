"""Certified cross-entropy: that of the margins which a domain proves."""

from dataclasses import dataclass, field

from torch import Tensor

from absolver import domains
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.analyzer.training.attacks import Attack
from absolver.analyzer.training.batch import Batch, log_sum_exp
from absolver.analyzer.training.errors import TrainingError
from absolver.analyzer.training.schedules import Number
from absolver.analyzer.training.terms.term import Term
from absolver.dsl.domain import Domain


@dataclass(frozen=True)
class SmallBoxes:
    """Small boxes around attacked points within the large ones (SABR, Müller et al. 2023, 4).

    Their half width is a share of the large ones', out of which they do not reach.
    """

    share: Number
    attack: Attack = field(default_factory=Attack)

    def regions(self, batch: Batch) -> Region:
        """Return a small box in each set."""
        if not isinstance(batch.region, Box):
            raise TrainingError(
                "small boxes (SABR, STAPS) are parts of boxes: use a perturbation in the norm inf"
            )
        lower, upper = batch.region.bounding_box()
        half = (upper - lower) / 2 * batch.at(self.share)
        center = batch.attacked(self.attack).clamp(lower + half, upper - half)
        return Box(center - half, center + half)


@dataclass(frozen=True)
class Certified(Term):
    """The cross-entropy of margins that a domain proves: IBP, DiffAI, Wong and Kolter, any other.

    Without a domain it is the one that the training is for. `inside` replaces the sets by smaller
    ones, which makes it SABR.

    Guarantee: without `inside`, no point of a set has a larger cross-entropy, up to rounding.
    """

    domain: Domain | None = None
    inside: SmallBoxes | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each set."""
        region = None if self.inside is None else self.inside.regions(batch)
        return log_sum_exp(batch.margins(self.domain, region))


@dataclass(frozen=True)
class Between(Term):
    """A term between what two domains prove.

    A `share` of 1 gives that of the second domain alone, of 0 that of the first.
    """

    share: Number = 1.0
    first: Domain = field(default_factory=lambda: domains.load("interval"))
    second: Domain = field(default_factory=lambda: domains.load("crown_ibp"))

    def prepared(self, batch: Batch) -> float:
        """Return the share at a batch's step; where the second domain counts, it walks first."""
        share = batch.at(self.share)
        if share:
            batch.prepare(self.second)
        return share


@dataclass(frozen=True)
class CrownIbp(Between):
    """Margins between those of two domains (CROWN-IBP, Zhang et al. 2020, equation 13)."""

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each set."""
        share = self.prepared(batch)
        if share in (0, 1):
            return log_sum_exp(batch.margins(self.second if share else self.first))
        first, second = batch.margins(self.first), batch.margins(self.second)
        return log_sum_exp((1 - share) * first + share * second)
