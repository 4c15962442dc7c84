"""What every search is: steps that close branches, until none is open or the time is over."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from absolver.analyzer.report import Counterexample
from absolver.analyzer.search.probing import Prober
from absolver.analyzer.search.proof import TreeProof


@dataclass(frozen=True)
class Resources:
    """What a search may use: memory for a batch, and somebody who tries points, if any."""

    memory_bytes: int
    prober: Prober[Counterexample] | None = None


class Search(ABC):
    """A branch and bound over some sets of a specification, one step at a time."""

    name: str
    """What is split, for people."""
    narrow = False
    """Whether some leaf has a margin that executions in float32 may take up."""
    found = False
    """Whether a counterexample was found on the way."""
    closed = 0.0
    """Which share of the search is done, if both sides of each split are one half of it."""
    stuck = 0
    """How many branches could neither be refuted nor split."""
    weight = 1.0
    """How much longer its turns are than others': what is known to pay goes first."""
    bounded = 0
    """How many branches were bounded."""

    @property
    @abstractmethod
    def open(self) -> int:
        """How many branches are open."""

    @property
    @abstractmethod
    def worst(self) -> float:
        """The worst margin of an open branch, as far as it is known; 0 if there is none."""

    @property
    def done(self) -> bool:
        """Whether everything is refuted, or a counterexample was found."""
        return self.found or (self.open == 0 and not self.stuck)

    @property
    def over(self) -> bool:
        """Whether no step is left: `done`, or all that is open is stuck."""
        return self.found or self.open == 0

    @abstractmethod
    def step(self) -> None:
        """Bound some open branches, and split what stays open."""

    @abstractmethod
    def proofs(self) -> Sequence[TreeProof]:
        """Return what proves the clauses of the sets, once nothing is open."""
