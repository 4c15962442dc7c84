"""What every input set can do: bound a linear form, give its box, take a point back inside."""

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor


class Region(ABC):
    """A batch of closed input sets of one kind, one for each batch element.

    Tensors have the shape `[batch, *shape]`, where `shape` is the network input's. Sets whose
    exact description is not representable in the dtype are rounded outward.
    """

    @property
    def _like(self) -> Tensor:
        """A tensor `[batch, *shape]` on the sets' device and of their dtype."""
        return self.bounding_box()[0]

    @property
    def batch(self) -> int:
        """The number of sets."""
        return self._like.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one point."""
        return tuple(self._like.shape[1:])

    @property
    def device(self) -> torch.device:
        """Where the sets' tensors are."""
        return self._like.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the sets' tensors, in which bounds are computed."""
        return self._like.dtype

    @abstractmethod
    def bounding_box(self) -> tuple[Tensor, Tensor]:
        """Return the smallest box around each set, as (lower, upper), each `[batch, *shape]`."""

    @abstractmethod
    def minimum(self, rows: Tensor) -> Tensor:
        """Bound `rows · x` from below over each set.

        `rows` is `[batch, rows, *shape]`, the result `[batch, rows]`.
        Guarantee: `rows · x >= minimum(rows)` for all x in the set, up to rounding; exact where
        the set's own docstring says so.
        """

    def minimum_around(self, rows: Tensor, center: Tensor) -> Tensor:
        """Bound `rows · (x - center)` from below, where `center` is the bounding box's centre."""
        return self.minimum(rows) - (rows.flatten(2) @ center.flatten(1).unsqueeze(2)).squeeze(2)

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Move points `[batch, *shape]` into the sets (the nearest point where that is cheap)."""

    @abstractmethod
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw points `[batch, count, *shape]` of each set, extreme ones among them."""

    @abstractmethod
    def select(self, index: Tensor) -> Self:
        """Return the batch made of the elements that an index tensor names."""

    @abstractmethod
    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the sets on a device and in a dtype, rounded outward."""
