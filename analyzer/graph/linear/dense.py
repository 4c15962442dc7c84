"""Matrix products with a constant: dense layers and MatMul with a constant on either side."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from absolver.analyzer.graph.linear.map import LinearMap, Shape

# 2^24 entries (64 MB in float32): beyond it |W| is computed at each use instead of being kept.
_LARGEST_KEPT = 1 << 24


@dataclass(frozen=True, eq=False)
class Dense(LinearMap):
    """`y[..., o] = sum over i of weight[o, i] * x[..., i]`: a dense layer on the last axis."""

    weight: Float[Tensor, "out in"]
    input_shape: Shape

    @property
    def output_shape(self) -> Shape:  # type: ignore[override]
        """Return the operand's shape with the last axis replaced."""
        return (*self.input_shape[:-1], self.weight.shape[0])

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Return `x Wᵀ`."""
        return functional.linear(x, self.weight)

    def apply_affine(
        self, x: Float[Tensor, "batch *shape"], bias: Float[Tensor, "*result"]
    ) -> Float[Tensor, "batch *result"]:
        """Return `x Wᵀ + bias`."""
        if bias.numel() != self.weight.shape[0]:
            return self.apply(x) + bias
        return functional.linear(x, self.weight, bias.flatten())

    def apply_abs(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Return `x |W|ᵀ`."""
        if self.weight.numel() > _LARGEST_KEPT or self.weight.requires_grad:
            return functional.linear(x, self.weight.abs())
        return functional.linear(x, self._magnitude)

    def adjoint(self, a: Float[Tensor, "rows *result"]) -> Float[Tensor, "rows *shape"]:
        """Return `a W`."""
        return torch.matmul(a, self.weight)

    def rows(self, indices: Tensor) -> Float[Tensor, "rows *shape"]:
        """Pick rows of the weight; each one stands at its place along the leading axes."""
        out_size, in_size = self.weight.shape
        indices = indices.to(self.weight.device)
        picked = self.weight[indices % out_size]
        places = prod(self.input_shape[:-1])
        if places == 1:
            return picked.reshape(-1, *self.input_shape)
        result = self.weight.new_zeros((len(indices), places, in_size))
        count = torch.arange(len(indices), device=self.weight.device)
        result[count, torch.div(indices, out_size, rounding_mode="floor")] = picked
        return result.view(-1, *self.input_shape)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Move the weight."""
        return replace(self, weight=self.weight.to(device, dtype))

    def coefficients(self) -> tuple[Tensor, ...]:
        """Return the weight."""
        return (self.weight,)

    @cached_property
    def _magnitude(self) -> Tensor:
        return self.weight.abs()


@dataclass(frozen=True, eq=False)
class MatrixProduct(LinearMap):
    """`x @ matrix`, or `matrix @ x` where `on_left`, with the matrix's own batch axes.

    The matrix's batch axes broadcast to those of `x` without adding to them.
    """

    matrix: Float[Tensor, "*axes k n"]
    input_shape: Shape
    on_left: bool

    @property
    def output_shape(self) -> Shape:  # type: ignore[override]
        """Return the operand's shape with the contracted axis replaced."""
        *leading, rows, columns = self.input_shape
        if self.on_left:
            return (*leading, self.matrix.shape[-2], columns)
        return (*leading, rows, self.matrix.shape[-1])

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Return the product with `x`."""
        return self._product(self.matrix, x)

    def apply_abs(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Return the product of the matrix's absolute values with `x`."""
        return self._product(self.matrix.abs(), x)

    def adjoint(self, a: Float[Tensor, "rows *result"]) -> Float[Tensor, "rows *shape"]:
        """Return the product with the transposed matrix, on the same side."""
        return self._product(self.matrix.mT, a)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Move the matrix."""
        return replace(self, matrix=self.matrix.to(device, dtype))

    def coefficients(self) -> tuple[Tensor, ...]:
        """Return the matrix."""
        return (self.matrix,)

    def _product(self, matrix: Tensor, x: Tensor) -> Tensor:
        return torch.matmul(matrix, x) if self.on_left else torch.matmul(x, matrix)
