"""A run over many inputs: counts that are kept, what domains make of them, and a certificate."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from absolver.analyzer.certify.smoothing import (
    SmoothingClaim,
    SmoothingEntry,
    write_smoothing,
)
from absolver.analyzer.smoothing.inputs import Inputs
from absolver.analyzer.smoothing.smoothed import Counts, Smoothed, SmoothedAnswer
from absolver.analyzer.smoothing.store import CountStore


@dataclass(frozen=True)
class SmoothingRun:
    """A smoothed network in a file, and the inputs that are asked about."""

    network: Path
    smoothed: Smoothed
    inputs: Inputs
    indices: Sequence[int]

    @property
    def claim(self) -> SmoothingClaim:
        """What a certificate is about; decimals are the fractions that they are written as."""
        noise, sampling = self.smoothed.noise, self.smoothed.sampling
        counted = noise.counted
        return SmoothingClaim(
            network=hashlib.sha256(self.network.read_bytes()).hexdigest(),
            inputs=self.inputs.digest,
            name=self.inputs.array,
            divisor=str(self.inputs.divisor),
            noise=noise.kind,
            parameter=str(Fraction(repr(noise.parameter))),
            grid=noise.grid,
            selected=0 if counted else sampling.selected,
            samples=noise.outcomes if counted else sampling.samples,
            alpha=str(Fraction(repr(sampling.alpha))),
            seed=noise.seed,
            batch=sampling.batch,
        )

    def counts(self, store: CountStore | None = None) -> Iterator[Counts]:
        """Give the counts of each input, those that a file has from there; others are kept there.

        Guarantee: a run that is stopped and started again gives the same counts as one that is not.
        """
        for index in self.indices:
            known = None if store is None else store.known.get(index)
            if known is None:
                known = self.smoothed.count(self.inputs.stored[index], index)
                if store is not None:
                    store.add(known)
            yield known

    def answers(self, store: CountStore | None = None) -> Iterator[SmoothedAnswer]:
        """Give what is certified for each input, as soon as it has been counted."""
        for counts in self.counts(store):
            yield self.smoothed.certify_counts(counts, self.inputs.dimension)

    def identity(self) -> dict[str, Any]:
        """Say what counts are of: they are the same whatever alpha and the domains are."""
        claim = {name: value for name, value in vars(self.claim).items() if name != "alpha"}
        return claim | ({"gradient": True} if self.smoothed.first_order else {})

    def certificate(self, path: Path, answers: Sequence[SmoothedAnswer]) -> None:
        """Write the certificate of answers."""
        ordered = sorted(answers, key=lambda answer: answer.counts.index)
        entries = [
            SmoothingEntry(
                index=answer.counts.index,
                label=answer.counts.label,
                selection=answer.counts.selection,
                estimation=answer.counts.estimation,
                radii=answer.radii,
                gradient=(means.dot, means.size) if (means := answer.counts.means) else None,
                slab=self.smoothed.slab(answer.counts) if self.smoothed.first_order else None,
            )
            for answer in ordered
        ]
        domains = [(each.norm, each.name, each.first_order) for each in self.smoothed.domains]
        write_smoothing(path, self.claim, domains, entries)
