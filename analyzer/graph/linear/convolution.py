"""Convolutions and transposed convolutions over one, two or three spatial axes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from absolver.analyzer.graph.linear.gradients import convolve, is_trained, transpose
from absolver.analyzer.graph.linear.map import LinearMap, Shape
from absolver.analyzer.graph.linear.spread import spread, unrolled_kernel

Sizes = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]
"""Cells added before and after each spatial axis; negative ones are cut off."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _AbstractConvolution(LinearMap):
    """What a convolution and its transpose share: a kernel and how it moves."""

    weight: Float[Tensor, "first second *kernel"]
    stride: Sizes
    padding: Padding
    dilation: Sizes
    groups: int
    input_shape: Shape

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Move the weight."""
        return replace(self, weight=self.weight.to(device, dtype))

    def coefficients(self) -> tuple[Tensor, ...]:
        """Return the weight."""
        return (self.weight,)

    @property
    def kernel(self) -> Sizes:
        """The kernel's extent along each spatial axis, dilation not counted."""
        return tuple(self.weight.shape[2:])

    @property
    def reach(self) -> Sizes:
        """The kernel's extent along each spatial axis, dilation counted."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))

    @property
    def magnitude(self) -> Tensor:
        """The weight's absolute values, kept unless the weight is being trained."""
        return self.weight.abs() if self.weight.requires_grad else self._kept_magnitude

    @cached_property
    def _kept_magnitude(self) -> Tensor:
        return self.weight.abs()


@dataclass(frozen=True, eq=False, kw_only=True)
class Convolution(_AbstractConvolution):
    """A convolution of `[images, channels, *sizes]` as ONNX's Conv defines it, without bias.

    `weight` is `[out channels, in channels / groups, *kernel]`. `y[n, o, p]` is the sum of
    `weight[o, c, k] * x[n, c', p * stride - padding before + k * dilation]` over the kernel's
    cells k and the channels c' of o's group, cells outside of x counting as 0.
    """

    @property
    def output_shape(self) -> Shape:  # type: ignore[override]
        """Return the shape by ONNX's formula."""
        sizes = (
            (size + before + after - reach) // stride + 1
            for size, (before, after), reach, stride in zip(
                self.input_shape[2:], self.padding, self.reach, self.stride, strict=True
            )
        )
        return (self.input_shape[0], self.weight.shape[0], *sizes)

    def unrolled(self, window: tuple[int, int]) -> Tensor | None:
        """Write the adjoint of small windows out as a matrix, kept unless the weight is trained."""
        if self.weight.requires_grad:
            return unrolled_kernel(self.weight, self.stride, window)
        if window not in self._unrolled:
            self._unrolled[window] = unrolled_kernel(self.weight, self.stride, window)
        return self._unrolled[window]

    @cached_property
    def _unrolled(self) -> dict[tuple[int, int], Tensor | None]:
        return {}

    @property
    def _plain(self) -> bool:
        """Whether it is one of images on a CPU with gradients of its own."""
        return (
            self.weight.device.type == "cpu"
            and len(self.stride) == 2
            and self.groups == 1
            and set(self.dilation) == {1}
            and all(before == after >= 0 for before, after in self.padding)
        )

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Convolve with the kernel."""
        return self._convolve(x, self.weight)

    def apply_affine(
        self, x: Float[Tensor, "batch *shape"], bias: Float[Tensor, "*result"]
    ) -> Float[Tensor, "batch *result"]:
        """Convolve, and add a bias: at once where it is one number a channel, spread out."""
        if any(bias.stride()[2:]) or (bias.shape[0] > 1 and bias.stride()[0]):
            return self._convolve(x, self.weight) + bias
        return self._convolve(x, self.weight, bias[0].flatten(1)[:, 0])

    def apply_abs(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Convolve with the kernel's absolute values."""
        return self._convolve(x, self.magnitude)

    def adjoint(self, a: Float[Tensor, "rows *result"]) -> Float[Tensor, "rows *shape"]:
        """Transpose the convolution: every coefficient spreads over the kernel's cells."""
        images = a.reshape(-1, *self.output_shape[1:])
        target = self.input_shape[2:]
        if self._plain and is_trained(images, self.weight):
            before = [cells for cells, _ in self.padding]
            spread = transpose(images, self.weight, self.stride, before, target)
        else:
            spread = _spread(images, self.weight, self, self.padding, target)
        return spread.reshape(-1, *self.input_shape)

    def rows(self, indices: Tensor) -> Float[Tensor, "rows *shape"]:
        """Place the kernel of each named output over its window of the input."""
        device = self.weight.device
        indices = indices.to(device)
        n, o, *position = torch.unravel_index(indices, self.output_shape)
        per_group = self.weight.shape[1]
        first_channel = torch.div(o, self.weight.shape[0] // self.groups, rounding_mode="floor")
        padded = [
            size + before + after
            for size, (before, after) in zip(self.input_shape[2:], self.padding, strict=True)
        ]
        # Flat offsets of the kernel's cells in the padded input, then one scatter for all rows.
        cells = torch.zeros((1,), dtype=torch.long, device=device)
        corner = n * self.input_shape[1] + first_channel * per_group
        for axis, size in enumerate((per_group, *self.kernel)):
            extent = 1 if axis == 0 else padded[axis - 1]
            step = 1 if axis == 0 else self.dilation[axis - 1]
            along = torch.arange(size, device=device) * step
            cells = (cells[:, None] * extent + along).flatten()
            if axis > 0:
                corner = corner * extent + position[axis - 1] * self.stride[axis - 1]
        count = len(indices)
        result = self.weight.new_zeros((count, prod(self.input_shape[:2]) * prod(padded)))
        result.scatter_(1, corner[:, None] + cells, self.weight[o].reshape(count, -1))
        return _pad(
            result.view(count, *self.input_shape[:2], *padded),
            tuple((-before, -after) for before, after in self.padding),
        )

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        images = x.reshape(-1, *self.input_shape[1:])
        if self._plain and is_trained(images, weight):
            before = [cells for cells, _ in self.padding]
            result = convolve(images, weight, bias, self.stride, before)
            return result.reshape(-1, *self.output_shape)
        symmetric = all(before == after >= 0 for before, after in self.padding)
        if not symmetric:
            images = _pad(images, self.padding)
        padding = tuple(before if symmetric else 0 for before, _ in self.padding)
        result = _CONVOLVE[len(padding)](
            images, weight, bias, self.stride, padding, self.dilation, self.groups
        )
        return result.reshape(-1, *self.output_shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class TransposedConvolution(_AbstractConvolution):
    """ONNX's ConvTranspose without bias: the adjoint of a convolution.

    `weight` is `[in channels, out channels / groups, *kernel]`; `output_padding` adds cells at
    the end of each axis that the kernel may not reach.
    """

    output_padding: Sizes

    @property
    def output_shape(self) -> Shape:  # type: ignore[override]
        """Return the shape by ONNX's formula."""
        sizes = (
            (size - 1) * stride + reach + extra - before - after
            for size, stride, reach, extra, (before, after) in zip(
                self.input_shape[2:],
                self.stride,
                self.reach,
                self.output_padding,
                self.padding,
                strict=True,
            )
        )
        return (self.input_shape[0], self.weight.shape[1] * self.groups, *sizes)

    def apply(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Spread every input over the kernel's cells."""
        return self._transpose(x, self.weight)

    def apply_abs(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """Spread with the kernel's absolute values."""
        return self._transpose(x, self.magnitude)

    def adjoint(self, a: Float[Tensor, "rows *result"]) -> Float[Tensor, "rows *shape"]:
        """Convolve with the kernel."""
        images = _pad(a.reshape(-1, *self.output_shape[1:]), self.padding)
        # Output padding beyond the kernel's reach is multiplied by nothing.
        for axis, (size, stride, reach) in enumerate(
            zip(self.input_shape[2:], self.stride, self.reach, strict=True), start=2
        ):
            images = images.narrow(axis, 0, (size - 1) * stride + reach)
        result = _CONVOLVE[len(self.stride)](
            images, self.weight, None, self.stride, 0, self.dilation, self.groups
        )
        return result.reshape(-1, *self.input_shape)

    def _transpose(self, x: Tensor, weight: Tensor) -> Tensor:
        images = x.reshape(-1, *self.input_shape[1:])
        spread = _spread(images, weight, self, self.padding, self.output_shape[2:])
        return spread.reshape(-1, *self.output_shape)


def _spread(
    images: Tensor, weight: Tensor, form: _AbstractConvolution, padding: Padding, target: Shape
) -> Tensor:
    """Transposed convolution into spatial sizes `target`, `padding` cells cut off in front."""
    sizes = images.shape[2:]
    before = tuple(cells for cells, _ in padding)
    plain = form.groups == 1 and set(form.dilation) == {1} and min(before) >= 0
    if plain and len(sizes) == 2:
        return spread(images, weight, form.stride, before, target)
    full = [
        (size - 1) * stride + reach
        for size, stride, reach in zip(sizes, form.stride, form.reach, strict=True)
    ]
    extra = [
        size + 2 * before - reached
        for size, (before, _), reached in zip(target, padding, full, strict=True)
    ]
    direct = all(
        before >= 0 and 0 <= more < max(stride, dilation)
        for (before, _), more, stride, dilation in zip(
            padding, extra, form.stride, form.dilation, strict=True
        )
    )
    transpose = _TRANSPOSE[len(sizes)]
    if direct:
        return transpose(
            images, weight, None, form.stride, before, extra, form.groups, form.dilation
        )
    result = transpose(images, weight, None, form.stride, 0, 0, form.groups, form.dilation)
    cut = tuple(
        (-before, size + before - reached)
        for (before, _), size, reached in zip(padding, target, full, strict=True)
    )
    return _pad(result, cut)


def _pad(x: Tensor, padding: Padding) -> Tensor:
    """Add zeros around the last axes; negative numbers cut.

    Zeros are added first: an axis may be shorter than what is cut from it at one end.
    """
    flat = [cells for pair in reversed(padding) for cells in pair]
    if any(cells > 0 for cells in flat):
        x = functional.pad(x, [max(cells, 0) for cells in flat])
    if any(cells < 0 for cells in flat):
        x = functional.pad(x, [min(cells, 0) for cells in flat])
    return x


_CONVOLVE: Mapping[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
_TRANSPOSE: Mapping[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
