"""The smoothed network: the label that is the most probable under noise, and how far it holds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from absolver import domains
from absolver.analyzer.smoothing.classifiers import (
    NOTHING,
    Classifier,
    OnnxClassifier,
    TorchClassifier,
    labels,
)
from absolver.analyzer.smoothing.confidence import first_leads, p_lower
from absolver.analyzer.smoothing.errors import SmoothingInputError, SmoothingSettingError
from absolver.analyzer.smoothing.gradient import (
    GradientSum,
    HalfMeans,
    deviation,
    gradient_bound,
)
from absolver.analyzer.smoothing.noise import ESTIMATION, PREDICTION, SELECTION, Noise
from absolver.dsl.smoothing.checker import NoiseDomain
from absolver.dsl.smoothing.radius import Evidence, radii
from absolver.dsl.smoothing.slab import slab
from absolver.dsl.smoothing.worst import Setting

Array = NDArray[np.generic]
NO_SLAB = (-1.0, 1.0, -1.0)
SAFE = 1e-10
"""By how much a first-order radius is on the safe side of the slab that shows it."""


@dataclass(frozen=True)
class Sampling:
    """How many samples are taken: `selected` to choose a label, `samples` new ones to judge it.

    A statement about one input is wrong with a probability of at most `alpha`. `batch` samples go
    through the network at a time.
    """

    selected: int = 100
    samples: int = 100_000
    alpha: float = 0.001
    batch: int = 1024

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning."""
        if min(self.selected, self.samples, self.batch) < 1 or not 0 < self.alpha <= 0.5:
            raise SmoothingSettingError(
                "samples and the batch are 1 or more, and alpha is above 0 and at most 1/2: got "
                f"{self.selected}, {self.samples}, {self.batch}, {self.alpha}"
            )
        if max(self.selected, self.samples) >= 2**31:
            raise SmoothingSettingError("at most 2^31 - 1 samples can be counted")


@dataclass(frozen=True)
class Counts:
    """How often each class came out for one input, in samples that share nothing.

    `selection` chose the label; `estimation` says how probable it is. Of split noise, whose
    outcomes are all counted, there is no selection.
    """

    index: int
    label: int
    selection: tuple[int, ...]
    estimation: tuple[int, ...]
    means: HalfMeans | None = None
    """What bounds the gradient, where a domain asks for that."""

    @property
    def hits(self) -> int:
        """How often the label came out."""
        return self.estimation[self.label]

    @property
    def lead(self) -> int:
        """How many outcomes the label is ahead; 1 less than that of an earlier class."""
        rivals = [n + (i < self.label) for i, n in enumerate(self.estimation) if i != self.label]
        return self.hits - max(rivals, default=0)


@dataclass(frozen=True)
class SmoothedAnswer:
    """What is certified for one input: a label within radii, one for each domain; or nothing.

    `radii` are -1 where a domain certifies nothing.
    """

    counts: Counts
    radii: tuple[float, ...]

    @property
    def label(self) -> int | None:
        """The label, None where every domain abstains."""
        return self.counts.label if max(self.radii) >= 0 else None


class Smoothed:
    """A network under noise, as domains of the language declare it.

    Guarantee: if noise is as its distribution says and the network is a function, then for each
    input, with a probability of at least 1 - alpha, all inputs within each domain's radius have the
    label; for split noise always.
    """

    def __init__(
        self,
        model: nn.Module | Path | Classifier,
        domain: str | NoiseDomain | Sequence[str | NoiseDomain],
        noise: Noise | float,
        sampling: Sampling | None = None,
    ) -> None:
        """Take a network, domains of one kind of noise, and the noise or only its parameter."""
        several = [domain] if isinstance(domain, str | NoiseDomain) else domain
        self.domains = [domains.load_noise(d) if isinstance(d, str) else d for d in several]
        kinds = {each.kind.name for each in self.domains}
        if len(kinds) != 1:
            raise SmoothingSettingError(
                f"counts are of one kind of noise, but the domains have {', '.join(sorted(kinds))}"
            )
        (kind,) = kinds
        self.noise = noise if isinstance(noise, Noise) else Noise(kind, float(noise))
        if self.noise.kind != kind:
            raise SmoothingSettingError(f"the domains are of {kind} noise, not {self.noise.kind}")
        if self.first_order and self.noise.grid:
            raise SmoothingSettingError("gradients are known of ideal normal noise, on no grid")
        self.sampling = sampling or Sampling()
        self.classifier = _classifier(model)

    def predict(self, stored: Array, index: int = 0) -> int | None:
        """Return the most probable label, or None where the samples do not tell it.

        Guarantee: it is another than the most probable one with a probability of at most alpha.
        """
        if self.noise.counted:
            return self.certify(stored, index).label
        counts = self._count(stored, index, PREDICTION, self.sampling.samples)
        second, first = (int(i) for i in np.argsort(counts, kind="stable")[-2:])
        leads = first_leads(int(counts[first]), int(counts[second]), self.sampling.alpha)
        return first if leads else None

    def certify(self, stored: Array, index: int = 0) -> SmoothedAnswer:
        """Count, and return what the counts certify."""
        return self.certify_counts(self.count(stored, index), stored.size)

    def certify_counts(self, counts: Counts, dimension: int) -> SmoothedAnswer:
        """Return what counts certify, of an input with so many elements."""
        return SmoothedAnswer(counts, self.radii([counts], dimension)[0])

    def count(self, stored: Array, index: int) -> Counts:
        """Run the network on all samples of an input, whose number is a part of its noise."""
        if self.noise.counted:
            whole = self._count(stored, index, ESTIMATION, self.noise.outcomes)
            return Counts(index, int(whole.argmax()), (0,) * len(whole), tuple(whole.tolist()))
        selection = self._count(stored, index, SELECTION, self.sampling.selected)
        label, gradient = int(selection.argmax()), None
        if self.first_order:
            gradient = GradientSum(self.sampling.samples), label
        estimation = self._count(stored, index, ESTIMATION, self.sampling.samples, gradient)
        return Counts(
            index,
            label,
            tuple(selection.tolist()),
            tuple(estimation.tolist()),
            gradient[0].means() if gradient else None,
        )

    def radii(self, counts: Sequence[Counts], dimension: int) -> list[tuple[float, ...]]:
        """Return what counts certify, by input and domain; rounded down, -1 for nothing."""
        if not counts:
            return []
        setting = Setting(self.noise.parameter, dimension, self.noise.grid or 255)
        columns = []
        for domain in self.domains:
            found = [self._evidence(each, dimension, domain) for each in counts]
            amount, gradient = (np.array(column, np.float64) for column in zip(*found, strict=True))
            if domain.first_order:
                amount, gradient = amount - SAFE, gradient + SAFE
            columns.append(radii(domain, Evidence(setting, amount, gradient)).tolist())
        return list(zip(*columns, strict=True))

    def slab(self, counts: Counts) -> tuple[float, float, float]:
        """Return what shows a radius of a first-order domain: a slab's ends, and a deviation.

        The last is negative where there is no slab, and the radius follows from the hits alone.
        """
        domain = next(domain for domain in self.domains if domain.first_order)
        p, gradient = self._evidence(counts, 1, domain)
        if p <= 0.5 or not math.isfinite(gradient):
            return NO_SLAB
        lower, upper = slab(p - SAFE / 100, gradient + SAFE / 100)
        e = deviation(self.sampling.samples, self.sampling.alpha / 4)
        return (lower, upper, e) if math.isfinite(lower) else NO_SLAB

    @property
    def first_order(self) -> bool:
        """Whether a domain asks for the gradient."""
        return any(domain.first_order for domain in self.domains)

    def _evidence(self, counts: Counts, dimension: int, domain: NoiseDomain) -> tuple[float, float]:
        """Bound the probability, or count the lead; and bound the gradient, if that is asked for.

        Half of alpha is then the hits', and a quarter that of each half of the samples.
        """
        if self.noise.counted:
            return float(counts.lead), math.inf
        sampling = self.sampling
        share = sampling.alpha / 2 if domain.first_order else sampling.alpha
        bound = p_lower(counts.hits, sampling.samples, share) - self.noise.slack(dimension)
        if not domain.first_order or counts.means is None:
            return bound, math.inf
        e = deviation(sampling.samples, sampling.alpha / 4)
        return bound, gradient_bound(counts.means, e) if math.isfinite(e) else math.inf

    def _count(
        self,
        stored: Array,
        index: int,
        stage: int,
        samples: int,
        gradient: tuple[GradientSum, int] | None = None,
    ) -> NDArray[np.int64]:
        """Count the labels of samples, in batches that begin at multiples of the batch's size.

        The noise of those that have the label of `gradient` is added to its sum.
        """
        total: NDArray[np.int64] | None = None
        shape = self.classifier.shape or stored.shape
        if np.prod(shape, dtype=int) != stored.size:
            raise SmoothingInputError(
                f"an input of shape {stored.shape} does not fit the network's {tuple(shape)}"
            )
        if self.noise.kind == "ablation" and self.noise.parameter > stored.size:
            raise SmoothingSettingError(
                f"{self.noise.parameter:g} of {stored.size} elements cannot be kept"
            )
        for start in range(0, samples, self.sampling.batch):
            numbers = range(start, min(start + self.sampling.batch, samples))
            noisy = self.noise.samples(stored, index, stage, numbers)
            scores = self.classifier.scores(noisy.reshape(-1, *shape))
            found = labels(scores)
            counts = np.bincount(found[found != NOTHING], minlength=scores.shape[1])
            total = counts if total is None else total + counts
            if gradient is not None:
                noise = self.noise.deviations(stored, index, stage, numbers)
                gradient[0].add(numbers, found == gradient[1], noise)
        assert total is not None, "there is at least one sample"
        return total.astype(np.int64)


def _classifier(model: nn.Module | Path | Classifier) -> Classifier:
    if isinstance(model, nn.Module):
        return TorchClassifier(model)
    return OnnxClassifier(model) if isinstance(model, Path) else model
