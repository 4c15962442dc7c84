"""Linear maps that only move data: every output is one input or 0."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from absolver.analyzer.graph.linear.map import LinearMap, Shape

MISSING = -1
"""The index of a `Select` output that is 0."""


class _Movement(LinearMap):
    """A map whose coefficients are 0 and 1."""

    @property
    def copies(self) -> bool:
        """Return True: each output is one input at most."""
        return True

    @property
    def monotone(self) -> bool:
        """Return True: what only moves or adds up has no negative coefficient."""
        return True

    def apply_abs(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Return what `apply` returns: no coefficient is negative."""
        return self.apply(x)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return this map: it has no coefficients."""
        return self

    @property
    def diagonal(self) -> bool:
        """Return True: each output is one input at most, each input goes to one output at most."""
        return True


@dataclass(frozen=True)
class Reshape(_Movement):
    """The same numbers in the same order under another shape."""

    input_shape: Shape
    output_shape: Shape

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Reshape all axes but the first."""
        return x.reshape(len(x), *self.output_shape)

    def adjoint(self, a: Float[Tensor, "rows *result"]) -> Float[Tensor, "rows *shape"]:
        """Reshape back."""
        return a.reshape(len(a), *self.input_shape)


@dataclass(frozen=True)
class Transpose(_Movement):
    """A permutation of axes: axis i of the result is axis `order[i]` of the operand."""

    order: tuple[int, ...]
    input_shape: Shape

    @property
    def output_shape(self) -> Shape:  # type: ignore[override]
        """Return the permuted shape."""
        return tuple(self.input_shape[axis] for axis in self.order)

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Permute the axes."""
        return x.permute(0, *(axis + 1 for axis in self.order))

    def adjoint(self, a: Float[Tensor, "rows *result"]) -> Float[Tensor, "rows *shape"]:
        """Permute the axes back."""
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return a.permute(0, *(axis + 1 for axis in back))


@dataclass(frozen=True)
class Slice(_Movement):
    """`x[start:stop:step]` along every axis, with `0 <= start <= stop` and `step >= 1`."""

    start: tuple[int, ...]
    stop: tuple[int, ...]
    step: tuple[int, ...]
    input_shape: Shape

    @property
    def output_shape(self) -> Shape:  # type: ignore[override]
        """Return the number of cells taken along each axis."""
        ranges = zip(self.start, self.stop, self.step, strict=True)
        return tuple(len(range(*triple)) for triple in ranges)

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Return a view of the slice."""
        return x[self.index]

    def adjoint(self, a: Float[Tensor, "rows *result"]) -> Float[Tensor, "rows *shape"]:
        """Embed coefficients among zeros."""
        result = a.new_zeros((len(a), *self.input_shape))
        result[self.index] = a
        return result

    @property
    def index(self) -> tuple[slice, ...]:
        """The slice as an index of a tensor with one leading batch axis."""
        ranges = zip(self.start, self.stop, self.step, strict=True)
        return (slice(None), *(slice(*triple) for triple in ranges))


@dataclass(frozen=True)
class Embed(_Movement):
    """The operand placed at a slice of the result, zeros elsewhere: a term of Concat, or Pad."""

    place: Slice

    @property
    def input_shape(self) -> Shape:  # type: ignore[override]
        """Return the shape of the slice."""
        return self.place.output_shape

    @property
    def output_shape(self) -> Shape:  # type: ignore[override]
        """Return the shape that the slice is taken from."""
        return self.place.input_shape

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Embed the operand among zeros."""
        return self.place.adjoint(x)

    def adjoint(self, a: Float[Tensor, "rows *result"]) -> Float[Tensor, "rows *shape"]:
        """Slice the coefficients."""
        return self.place.apply(a)


@dataclass(frozen=True, eq=False)
class Select(_Movement):
    """`y[j] = x[indices[j]]` over flat indices; 0 where the index is `MISSING`."""

    indices: Int[Tensor, " outputs"]
    input_shape: Shape
    output_shape: Shape

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Pick the inputs that the indices name."""
        flat = x.reshape(len(x), prod(self.input_shape))
        if self._complete:
            picked = flat[:, self.indices]
        else:
            picked = flat.new_zeros((len(x), len(self.indices)))
            picked[:, self._present] = flat[:, self.indices[self._present]]
        return picked.view(len(x), *self.output_shape)

    def adjoint(self, a: Float[Tensor, "rows *result"]) -> Float[Tensor, "rows *shape"]:
        """Add each coefficient to that of the input it came from."""
        flat = a.reshape(len(a), prod(self.output_shape))
        present, target = flat, self.indices
        if not self._complete:
            present, target = flat[:, self._present], self.indices[self._present]
        result = flat.new_zeros((len(a), prod(self.input_shape)))
        if self.diagonal:
            result[:, target] = present
        else:
            result.index_add_(1, target, present)
        return result.view(len(a), *self.input_shape)

    @cached_property
    def diagonal(self) -> bool:
        """Whether no input is picked twice."""
        used = self.indices[self.indices != MISSING]
        return len(torch.unique(used)) == len(used)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Move the indices; they keep their own dtype."""
        return replace(self, indices=self.indices.to(device))

    @cached_property
    def _present(self) -> Tensor:
        return (self.indices != MISSING).nonzero()[:, 0]

    @cached_property
    def _complete(self) -> bool:
        return len(self._present) == len(self.indices)
