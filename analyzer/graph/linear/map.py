"""What every linear map can do: it is applied forward, and its adjoint backward."""

from abc import ABC, abstractmethod
from math import prod
from typing import Self

import torch
from torch import Tensor

Shape = tuple[int, ...]


class LinearMap(ABC):
    """A linear map between tensors of fixed shapes; all methods carry one leading batch axis.

    `input_shape` and `output_shape` are the shapes that the ONNX file gives, its own leading 1
    included; no axis of them is treated as a batch.
    """

    input_shape: Shape
    output_shape: Shape

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """Map `[batch, *input_shape]` to `[batch, *output_shape]`."""

    def apply_affine(self, x: Tensor, bias: Tensor) -> Tensor:
        """Apply the map and add a bias of the output's shape; at once where that is cheaper."""
        return self.apply(x) + bias

    @abstractmethod
    def apply_abs(self, x: Tensor) -> Tensor:
        """Apply the map whose coefficients are the absolute values of this one's."""

    @abstractmethod
    def adjoint(self, a: Tensor) -> Tensor:
        """Map coefficients on outputs `[rows, *output_shape]` to coefficients on inputs."""

    @abstractmethod
    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return this map with its coefficients on a device and in a dtype."""

    @property
    def diagonal(self) -> bool:
        """Whether every output depends on one input at most, and every input feeds one at most.

        Such a map takes boxes of independent neurons to boxes of independent neurons.
        """
        return False

    @property
    def copies(self) -> bool:
        """Whether every output depends on one input at most, so that bounds of inputs suffice."""
        return self.diagonal

    @property
    def monotone(self) -> bool:
        """Whether no coefficient is negative, so that bounds go through the map side by side."""
        return False

    def rows(self, indices: Tensor) -> Tensor:
        """Return the rows `[len(indices), *input_shape]` that flat output indices name."""
        weight = next(iter(self.coefficients()), None)
        like = torch.zeros(()) if weight is None else weight
        start = like.new_zeros((len(indices), prod(self.output_shape)))
        start[torch.arange(len(indices), device=start.device), indices] = 1
        return self.adjoint(start.view(len(indices), *self.output_shape))

    def coefficients(self) -> tuple[Tensor, ...]:
        """Return the stored coefficient tensors, empty for maps that only move data."""
        return ()
