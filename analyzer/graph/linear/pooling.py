"""Average pooling: the sum over each window, divided by the number of cells that count."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.graph.linear.convolution import Convolution, Padding, Sizes
from absolver.analyzer.graph.linear.map import LinearMap, Shape


@dataclass(frozen=True, eq=False, kw_only=True)
class AveragePool(LinearMap):
    """Window sums of `[images, channels, *sizes]` divided by `counts`, one number a window.

    `padding` includes the cells that ceil mode adds at the end; `counts` has the spatial shape of
    the result and says how many cells of each window are averaged over.
    """

    counts: Float[Tensor, " *sizes"]
    kernel: Sizes
    stride: Sizes
    padding: Padding
    dilation: Sizes
    input_shape: Shape

    @property
    def monotone(self) -> bool:
        """Return True: what only moves or adds up has no negative coefficient."""
        return True

    @property
    def output_shape(self) -> Shape:  # type: ignore[override]
        """Return the operand's images and channels, and the windows along each axis."""
        return (*self.input_shape[:2], *self.counts.shape)

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Sum each window, then divide."""
        return self._window_sum.apply(x).reshape(-1, *self.output_shape) / self.counts

    def apply_abs(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Return what `apply` returns: no coefficient is negative."""
        return self.apply(x)

    def adjoint(self, a: Float[Tensor, "rows *result"]) -> Float[Tensor, "rows *shape"]:
        """Spread each quotient over its window."""
        return self._window_sum.adjoint(a / self.counts).reshape(-1, *self.input_shape)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Move the counts."""
        return replace(self, counts=self.counts.to(device, dtype))

    def coefficients(self) -> tuple[Tensor, ...]:
        """Return the counts."""
        return (self.counts,)

    @cached_property
    def _window_sum(self) -> Convolution:
        """The sum over windows, each channel an image of its own."""
        images, channels, *sizes = self.input_shape
        return Convolution(
            weight=self.counts.new_ones((1, 1, *self.kernel)),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=1,
            input_shape=(images * channels, 1, *sizes),
        )
