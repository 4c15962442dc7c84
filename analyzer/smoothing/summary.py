"""What certificates say together: the share of inputs that are certified, by radius."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from absolver.analyzer.smoothing.smoothed import SmoothedAnswer


@dataclass(frozen=True)
class Curve:
    """Certified accuracy by radius, for one domain.

    `radii` are those of the inputs that count: with the true label, or with any where none is
    known; `total` is the number of all inputs.
    """

    domain: str
    norm: str
    radii: NDArray[np.float64]
    total: int

    def at(self, radius: float) -> float:
        """Return the share of all inputs that are certified at a radius."""
        return float((self.radii >= radius).sum() / self.total) if self.total else 0.0

    def steps(self) -> Iterator[tuple[float, float]]:
        """Give each radius at which the share falls, in ascending order, and the share up to it."""
        for radius in np.unique(np.append(self.radii, 0.0)):
            yield float(radius), self.at(float(radius))


def curves(
    domains: Sequence[tuple[str, str]],
    answers: Sequence[SmoothedAnswer],
    truth: Sequence[int] | None,
) -> list[Curve]:
    """Return one curve for each domain, given as a pair of its norm and its name."""
    right = [
        truth is None or answer.counts.label == truth[place] for place, answer in enumerate(answers)
    ]
    found = []
    for column, (norm, name) in enumerate(domains):
        radii = [
            answer.radii[column]
            for answer, good in zip(answers, right, strict=True)
            if good and answer.radii[column] >= 0
        ]
        found.append(Curve(name, norm, np.array(radii, np.float64), len(answers)))
    return found
