"""The smoothed network: the label that is the most probable under noise, and how far it holds."""

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
from absolver.analyzer.smoothing.noise import ESTIMATION, PREDICTION, SELECTION, Noise
from absolver.dsl.smoothing.checker import NoiseDomain
from absolver.dsl.smoothing.radius import Evidence, radii
from absolver.dsl.smoothing.worst import Setting

Array = NDArray[np.generic]


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
        estimation = self._count(stored, index, ESTIMATION, self.sampling.samples)
        label = int(selection.argmax())
        return Counts(index, label, tuple(selection.tolist()), tuple(estimation.tolist()))

    def radii(self, counts: Sequence[Counts], dimension: int) -> list[tuple[float, ...]]:
        """Return what counts certify, by input and domain; rounded down, -1 for nothing."""
        if not counts:
            return []
        setting = Setting(self.noise.parameter, dimension, self.noise.grid or 255)
        evidence = Evidence(setting, np.array([self._amount(each, dimension) for each in counts]))
        columns = [radii(domain, evidence).tolist() for domain in self.domains]
        return list(zip(*columns, strict=True))

    def _amount(self, counts: Counts, dimension: int) -> float:
        if self.noise.counted:
            return float(counts.lead)
        bound = p_lower(counts.hits, self.sampling.samples, self.sampling.alpha)
        return bound - self.noise.slack(dimension)

    def _count(self, stored: Array, index: int, stage: int, samples: int) -> NDArray[np.int64]:
        """Count the labels of samples, in batches that begin at multiples of the batch's size."""
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
        assert total is not None, "there is at least one sample"
        return total.astype(np.int64)


def _classifier(model: nn.Module | Path | Classifier) -> Classifier:
    if isinstance(model, nn.Module):
        return TorchClassifier(model)
    return OnnxClassifier(model) if isinstance(model, Path) else model
