"""Elementwise linear maps: identity, negation, multiplication and division by constants."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.graph.linear.map import LinearMap, Shape


class _Elementwise(LinearMap):
    """A map that is its own adjoint and keeps the shape of its operand."""

    shape: Shape

    @property
    def input_shape(self) -> Shape:  # type: ignore[override]
        """Return the one shape of operand and result."""
        return self.shape

    @property
    def output_shape(self) -> Shape:  # type: ignore[override]
        """Return the one shape of operand and result."""
        return self.shape

    @property
    def diagonal(self) -> bool:
        """Return True: each neuron stands alone."""
        return True

    def adjoint(self, a: Float[Tensor, "rows *shape"]) -> Float[Tensor, "rows *shape"]:
        """Return what `apply` returns: an elementwise map is symmetric."""
        return self.apply(a)


@dataclass(frozen=True)
class Identity(_Elementwise):
    """The map `x -> x`; what it returns shares memory with what it gets."""

    shape: Shape

    @property
    def monotone(self) -> bool:
        """Return True: what only moves or adds up has no negative coefficient."""
        return True

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Return `x` itself."""
        return x

    def apply_abs(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Return `x` itself."""
        return x

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return this map: it has no coefficients."""
        return self


@dataclass(frozen=True)
class Negation(_Elementwise):
    """The map `x -> -x`."""

    shape: Shape

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Return `-x`."""
        return -x

    def apply_abs(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Return `x` itself."""
        return x

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return this map: it has no coefficients."""
        return self


@dataclass(frozen=True, eq=False)
class Scaling(_Elementwise):
    """The map `x -> factor * x`; `factor` broadcasts to `shape` without adding to it."""

    factor: Tensor
    shape: Shape

    @cached_property
    def monotone(self) -> bool:
        """Whether no factor is negative."""
        return bool((self.factor >= 0).all())

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Return `factor * x`."""
        return x * self.factor

    def apply_abs(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Return `|factor| * x`."""
        return x * self.factor.abs()

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Move the factor."""
        return replace(self, factor=self.factor.to(device, dtype))

    def coefficients(self) -> tuple[Tensor, ...]:
        """Return the factor."""
        return (self.factor,)


@dataclass(frozen=True, eq=False)
class Division(_Elementwise):
    """The map `x -> x / divisor`.

    It is not a `Scaling` because the reciprocal of a float is in general no float: the map's
    coefficients are the exact quotients `1 / divisor`.
    """

    divisor: Tensor
    shape: Shape

    @cached_property
    def monotone(self) -> bool:
        """Whether no divisor is negative."""
        return bool((self.divisor >= 0).all())

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Return `x / divisor`."""
        return x / self.divisor

    def apply_abs(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Return `x / |divisor|`."""
        return x / self.divisor.abs()

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Move the divisor."""
        return replace(self, divisor=self.divisor.to(device, dtype))

    def coefficients(self) -> tuple[Tensor, ...]:
        """Return the divisor."""
        return (self.divisor,)
