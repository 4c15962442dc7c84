"""Broadcasting, and its adjoint: sums over axes."""

from dataclasses import dataclass
from math import prod
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.graph.linear.map import LinearMap, Shape


@dataclass(frozen=True)
class Broadcast(LinearMap):
    """The operand repeated along new axes in front and along its axes of size 1."""

    input_shape: Shape
    output_shape: Shape

    @property
    def copies(self) -> bool:
        """Return True: each output is one input at most."""
        return True

    @property
    def monotone(self) -> bool:
        """Return True: what only moves or adds up has no negative coefficient."""
        return True

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Return an expanded view."""
        return x.reshape(len(x), *self._aligned).expand(-1, *self.output_shape)

    def apply_abs(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Return an expanded view."""
        return self.apply(x)

    def adjoint(self, a: Float[Tensor, "rows *result"]) -> Float[Tensor, "rows *shape"]:
        """Sum the coefficients of all copies."""
        axes = [
            axis + 1
            for axis, (size, result) in enumerate(
                zip(self._aligned, self.output_shape, strict=True)
            )
            if size != result
        ]
        return (a.sum(axes, keepdim=True) if axes else a).reshape(len(a), *self.input_shape)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return this map: it has no coefficients."""
        return self

    @property
    def diagonal(self) -> bool:
        """Whether nothing is in fact repeated."""
        return prod(self.input_shape) == prod(self.output_shape)

    @property
    def _aligned(self) -> Shape:
        missing = len(self.output_shape) - len(self.input_shape)
        return (1,) * missing + self.input_shape


@dataclass(frozen=True)
class AxisSum(LinearMap):
    """The sum over some axes, divided by `divisor` (their size for a mean, else 1)."""

    axes: tuple[int, ...]
    keep_axes: bool
    divisor: int
    input_shape: Shape

    @property
    def monotone(self) -> bool:
        """Return True: what only moves or adds up has no negative coefficient."""
        return True

    @property
    def output_shape(self) -> Shape:  # type: ignore[override]
        """Return the shape with the summed axes of size 1, or without them."""
        if self.keep_axes:
            return self._kept
        return tuple(size for i, size in enumerate(self.input_shape) if i not in self.axes)

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Sum, then divide."""
        total = x.sum([axis + 1 for axis in self.axes], self.keep_axes) if self.axes else x
        return total if self.divisor == 1 else total / self.divisor

    def apply_abs(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Return what `apply` returns: no coefficient is negative."""
        return self.apply(x)

    def adjoint(self, a: Float[Tensor, "rows *result"]) -> Float[Tensor, "rows *shape"]:
        """Give every summand the coefficient of its sum."""
        spread = a.reshape(len(a), *self._kept)
        if self.divisor != 1:
            spread = spread / self.divisor
        return spread.expand(-1, *self.input_shape)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return this map: its divisor is an integer."""
        return self

    @property
    def diagonal(self) -> bool:
        """Whether every sum has one summand."""
        return prod(self.input_shape) == prod(self._kept)

    @property
    def _kept(self) -> Shape:
        return tuple(1 if i in self.axes else size for i, size in enumerate(self.input_shape))
