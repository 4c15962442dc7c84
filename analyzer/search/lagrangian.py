"""What dual ascent proposes, and what one evaluation of it finds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from absolver.analyzer.search.relaxed import Lines, Substituted

Key = tuple[str, str]
"""A parameter: the name of a non-linear node, and the name that the rule gives it."""


@dataclass(frozen=True)
class Point:
    """Proposals: values of parameters, multipliers of splits, and combinations of constraints."""

    parameters: Mapping[Key, Float[Tensor, "batch rows columns"]]
    multipliers: Mapping[str, Float[Tensor, "batch rows *shape"]]
    combination: Float[Tensor, "batch rows constraints"]

    def select(self, index: Int[Tensor, "some"]) -> "Point":
        """Return the proposals for some batch elements."""
        return Point(
            {key: value[index] for key, value in self.parameters.items()},
            {name: value[index] for name, value in self.multipliers.items()},
            self.combination[index],
        )

    def to(self, dtype: torch.dtype) -> "Point":
        """Return the proposals as numbers of another dtype."""
        return Point(
            {key: value.to(dtype) for key, value in self.parameters.items()},
            {name: value.to(dtype) for name, value in self.multipliers.items()},
            self.combination.to(dtype),
        )


@dataclass(frozen=True)
class Lagrangian:
    """One evaluation: the bounds, and what they were made of."""

    bound: Float[Tensor, "batch rows"]
    """The combination of constraints exceeds its bound by at least this."""
    found: Mapping[str, Substituted]
    """At operators, by name of the node."""
    at_input: Float[Tensor, "batch rows *shape"]
    """The rows as they reach the input."""
    values: Mapping[str, Float[Tensor, "batch rows *shape"]]
    """Every node's value at the point where the bound is taken."""
    excess: Float[Tensor, "batch rows constraints"]
    """By how much each constraint is exceeded at that point."""
    lines: Mapping[str, Lines]
    operands: Mapping[str, Sequence[Float[Tensor, "batch rows columns"]]]
    """Those of operators at that point, where they are inexact."""
