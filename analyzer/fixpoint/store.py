"""Facts and the assumptions under which they hold (DESIGN, idea 5)."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.propagator import meet
from absolver.dsl.operators.record import Interval


@dataclass(frozen=True, eq=False)
class HalfSpaces:
    """Assumed constraints `rows · output <= bound`, several for each batch element.

    Two objects are the same assumption only if they are the same object.
    """

    rows: Float[Tensor, "batch constraints outputs"]
    bound: Float[Tensor, "batch constraints"]


@dataclass(frozen=True, eq=False)
class InputSet:
    """The name of an input set in keys; `within` names the sets that it is a subset of."""

    label: str
    within: "InputSet | None" = None

    def supersets(self) -> Iterator["InputSet"]:
        """This set and every set that it is known to be a subset of."""
        current: InputSet | None = self
        while current is not None:
            yield current
            current = current.within


@dataclass(frozen=True)
class Split:
    """The assumption that one neuron lies on one side of a threshold."""

    node: str
    neuron: int
    threshold: float
    above: bool


@dataclass(frozen=True)
class Assumptions:
    """Everything that a fact may have been derived from."""

    graph: Graph
    semantics: str
    inputs: InputSet
    splits: frozenset[Split] = frozenset()
    outputs: frozenset[HalfSpaces] = frozenset()

    def covers(self, current: "Assumptions") -> bool:
        """Say whether facts under these assumptions hold under `current` ones.

        Guarantee: True only if every concrete run that `current` allows is allowed by these:
        same network and arithmetic, a superset of the inputs, no split and no output
        assumption that `current` does not make as well.
        """
        return (
            self.graph is current.graph
            and self.semantics == current.semantics
            and any(s is self.inputs for s in current.inputs.supersets())
            and self.splits <= current.splits
            and self.outputs <= current.outputs
        )


@dataclass
class FactStore:
    """Proven bounds by assumptions and node. Facts are met, so that no bound ever loosens."""

    _facts: dict[Assumptions, dict[str, Interval]] = field(default_factory=dict)

    def known(self, current: Assumptions) -> dict[str, Interval]:
        """Collect the bounds of every node that hold under the current assumptions."""
        found: dict[str, Interval] = {}
        for assumptions, facts in self._facts.items():
            if assumptions.covers(current):
                for name, bounds in facts.items():
                    found[name] = meet(found[name], bounds) if name in found else bounds
        return found

    def add(self, assumptions: Assumptions, name: str, bounds: Interval) -> Float[Tensor, ""]:
        """Meet a fact in; returns the largest relative shrinking of an interval that it brought."""
        facts = self._facts.setdefault(assumptions, {})
        old = facts.get(name)
        facts[name] = bounds if old is None else _tightened(old, bounds)
        if old is None:
            return torch.ones((), dtype=bounds.lower.dtype, device=bounds.lower.device)
        return _shrinking(old, facts[name])


def _tightened(old: Interval, new: Interval) -> Interval:
    """Meet, but keep the old bounds where the two exclude each other: nothing ever loosens."""
    lower = torch.maximum(old.lower, new.lower)
    upper = torch.minimum(old.upper, new.upper)
    proper = lower <= upper
    return Interval(torch.where(proper, lower, old.lower), torch.where(proper, upper, old.upper))


def crossed(
    first: Interval, second: Interval, doubt: Tensor | float = 0.0
) -> Bool[Tensor, " batch"]:
    """Say for which batch elements two sound bounds exclude each other: their set is empty.

    A gap that rounding could explain does not count: it has to exceed 2^12 unit roundoffs of the
    magnitudes involved, the error of a sum of some thousand terms, and the `doubt` that is known.
    """
    lower = torch.maximum(first.lower, second.lower)
    upper = torch.minimum(first.upper, second.upper)
    size = torch.stack([b.abs() for b in (*first, *second)])
    size = torch.where(torch.isfinite(size), size, 0).amax(0)
    margin = 4096 * torch.finfo(lower.dtype).eps * (1 + size) + doubt
    return (lower - upper > margin).flatten(1).any(1)


def _shrinking(old: Interval, new: Interval) -> Float[Tensor, ""]:
    before, after = old.upper - old.lower, new.upper - new.lower
    became_finite = torch.isinf(before) & torch.isfinite(after)
    share = torch.where(before > 0, (before - after) / before.clamp(min=1e-30), 0)
    return torch.where(became_finite, 1, torch.nan_to_num(share, nan=0)).amax()
