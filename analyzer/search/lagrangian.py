"""What dual ascent proposes, and what one evaluation of it finds."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.search.relaxed import Lines

Key = tuple[str, str]
"""A parameter: the name of a non-linear node, and the name that the rule gives it."""


@dataclass(frozen=True)
class Point:
    """Proposals: values of parameters, multipliers of splits, and combinations of constraints."""

    parameters: Mapping[Key, Float[Tensor, "batch rows columns"]]
    multipliers: Mapping[str, Float[Tensor, "batch rows *shape"]]
    combination: Float[Tensor, "batch rows constraints"]


@dataclass(frozen=True)
class Lagrangian:
    """One evaluation: the bounds, and what they were made of."""

    bound: Float[Tensor, "batch rows"]
    """The combination of constraints exceeds its bound by at least this."""
    coefficients: Mapping[str, Float[Tensor, "batch rows columns"]]
    """Of an operator's inexact results, by name of its node."""
    at_input: Float[Tensor, "batch rows *shape"]
    """The rows as they reach the input."""
    values: Mapping[str, Float[Tensor, "batch rows *shape"]]
    """Every node's value at the point where the bound is taken."""
    excess: Float[Tensor, "batch rows constraints"]
    """By how much each constraint is exceeded at that point."""
    lines: Mapping[str, Lines]
