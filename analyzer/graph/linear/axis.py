"""Tensors without axes, given one axis of length 1."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.graph.linear.map import LinearMap, Shape


@dataclass(frozen=True, eq=False)
class WithAxis(LinearMap):
    """Another map, between `[1]` where that one has a tensor without axes.

    The analysis flattens axes behind the batch's, of which there must be one.
    """

    inner: LinearMap

    @property
    def input_shape(self) -> Shape:  # type: ignore[override]
        """Return the inner map's, or `(1,)`."""
        return self.inner.input_shape or (1,)

    @property
    def output_shape(self) -> Shape:  # type: ignore[override]
        """Return the inner map's, or `(1,)`."""
        return self.inner.output_shape or (1,)

    @property
    def diagonal(self) -> bool:
        """Return what the inner map is."""
        return self.inner.diagonal

    @property
    def copies(self) -> bool:
        """Return what the inner map does."""
        return self.inner.copies

    @property
    def monotone(self) -> bool:
        """Return what the inner map is."""
        return self.inner.monotone

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Apply the inner map."""
        result = self.inner.apply(x.reshape(len(x), *self.inner.input_shape))
        return result.reshape(len(x), *self.output_shape)

    def apply_abs(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Apply the inner map's absolute values."""
        result = self.inner.apply_abs(x.reshape(len(x), *self.inner.input_shape))
        return result.reshape(len(x), *self.output_shape)

    def adjoint(self, a: Float[Tensor, "rows *result"]) -> Float[Tensor, "rows *shape"]:
        """Apply the inner map's adjoint."""
        result = self.inner.adjoint(a.reshape(len(a), *self.inner.output_shape))
        return result.reshape(len(a), *self.input_shape)

    def coefficients(self) -> tuple[Tensor, ...]:
        """Return the inner map's."""
        return self.inner.coefficients()

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Move the inner map."""
        return replace(self, inner=self.inner.to(device, dtype))
