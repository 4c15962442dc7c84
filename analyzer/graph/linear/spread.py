"""Transposed convolutions over images, each by the way that is fastest for its sizes on a CPU.

The rules are static, because a choice by timing would let bounds differ from run to run. They were
found by measurement (`benchmarks/README.md`); on a GPU the library's own choice is as good.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

# Up to this many output channels a stride is faster taken apart into its phases.
_MOST_CHANNELS_BY_PHASES = 8
# With gradients that is so for a single one: the library's own take four times as long.
_MOST_CHANNELS_TRAINED = 1
# Unrolled, a kernel is a matrix of mostly zeros; up to this many times the convolution's own work
# it is still faster, because a matrix product runs at the machine's full speed.
_LARGEST_INFLATION = 8


def spread(
    images: Float[Tensor, "images channels height width"],
    weight: Float[Tensor, "channels channels2 kernel1 kernel2"],
    stride: Sequence[int],
    before: Sequence[int],
    target: Sequence[int],
) -> Float[Tensor, "images channels2 height2 width2"]:
    """Transposed convolution whose result is cut to `target`, `before` cells dropped in front."""
    kernel = (weight.shape[2], weight.shape[3])
    if images.device.type == "cpu":
        if kernel == tuple(stride) and not any(before):
            return _spread_blocks(images, weight, target)
        if kernel == (1, 1) and not any(before):
            return _spread_cells(images, weight[:, :, 0, 0], stride, target)
        most = _MOST_CHANNELS_TRAINED if weight.requires_grad else _MOST_CHANNELS_BY_PHASES
        if tuple(stride) == (2, 2) and weight.shape[1] <= most:
            axes = [
                _Phases(*sizes)
                for sizes in zip(kernel, before, images.shape[2:], target, strict=True)
            ]
            if all(axis.pads[0] >= 0 and axis.pads[1] >= 0 for axis in axes):
                return _spread_by_phases(images, weight, axes)
    # oneDNN's transposed convolution is about three times faster on channels-last data.
    images = images.contiguous(memory_format=torch.channels_last)
    extra = [
        size + 2 * b - ((n - 1) * s + k)
        for size, b, n, s, k in zip(target, before, images.shape[2:], stride, kernel, strict=True)
    ]
    if all(0 <= more < s for more, s in zip(extra, stride, strict=True)):
        return functional.conv_transpose2d(images, weight, None, stride, before, extra)
    full = functional.conv_transpose2d(images, weight, None, stride)
    # Cells that the kernel does not reach are added before anything is cut off.
    short = [b + size - n for b, size, n in zip(before, target, full.shape[2:], strict=True)]
    full = functional.pad(full, (0, max(0, short[1]), 0, max(0, short[0])))
    return full[:, :, before[0] : before[0] + target[0], before[1] : before[1] + target[1]]


def unrolled_kernel(
    weight: Float[Tensor, "channels channels2 kernel1 kernel2"],
    stride: Sequence[int],
    window: tuple[int, int],
) -> Float[Tensor, "cells channels2 height2 width2"] | None:
    """Write the transposed convolution of small windows out as a matrix, nothing cut off.

    Row i is what the i-th cell of a `[channels, *window]` window spreads to. None where a
    convolution is faster than the matrix.
    """
    cells = weight.shape[0] * window[0] * window[1]
    if window == (1, 1):
        return weight
    target = [(n - 1) * s + k for n, s, k in zip(window, stride, weight.shape[2:], strict=True)]
    if target[0] * target[1] > _LARGEST_INFLATION * weight.shape[2] * weight.shape[3]:
        return None
    eye = torch.eye(cells, dtype=weight.dtype, device=weight.device)
    return functional.conv_transpose2d(
        eye.view(cells, weight.shape[0], *window), weight, None, tuple(stride)
    )


def _spread_blocks(images: Tensor, weight: Tensor, target: Sequence[int]) -> Tensor:
    """A kernel as large as its stride: every cell becomes a block of its own, by one product."""
    count, channels, height, width = images.shape
    _, channels2, first, second = weight.shape
    blocks = images.permute(0, 2, 3, 1).reshape(-1, channels) @ weight.flatten(1)
    blocks = blocks.view(count, height, width, channels2, first, second)
    # Rows of blocks, rows in a block, columns of blocks, columns in a block, channels last.
    result = blocks.permute(0, 1, 4, 2, 5, 3).reshape(
        count, height * first, width * second, channels2
    )
    short = (target[0] - result.shape[1], target[1] - result.shape[2])
    result = functional.pad(result, (0, 0, 0, max(0, short[1]), 0, max(0, short[0])))
    return result[:, : target[0], : target[1]].permute(0, 3, 1, 2)


def _spread_cells(
    images: Tensor, weight: Tensor, stride: Sequence[int], target: Sequence[int]
) -> Tensor:
    """A kernel of one cell: a matrix product at every cell, and zeros between the cells."""
    values = images.permute(0, 2, 3, 1) @ weight
    # Cells beyond the target are those over padding at the end.
    kept = [-(-size // step) for size, step in zip(target, stride, strict=True)]
    values = values[:, : kept[0], : kept[1]]
    height, width = values.shape[1:3]
    if (height, width) == tuple(target):
        return values.permute(0, 3, 1, 2)
    result = values.new_zeros((len(images), *target, weight.shape[1]))
    result[:, :: stride[0], :: stride[1]][:, :height, :width] = values
    return result.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Phases:
    """One axis of a transposed convolution with stride 2, taken apart into its two phases.

    The cell Y = 2 m + a of phase a takes x[m + o] * weight[a + before - 2 o] for every offset o.
    """

    kernel: int
    before: int
    size: int
    target: int

    @property
    def offsets(self) -> range:
        """The offsets of the input cells, from the first to the last."""
        return range(-((self.kernel - 1 - self.before) // 2), (1 + self.before) // 2 + 1)

    def kernel_cells(self) -> list[list[int]]:
        """Give the kernel's cell for each phase and offset, `kernel` where there is none."""
        cells = [[phase + self.before - 2 * o for o in self.offsets] for phase in (0, 1)]
        return [[k if 0 <= k < self.kernel else self.kernel for k in row] for row in cells]

    @property
    def cells(self) -> int:
        """The cells of each phase."""
        return -(-self.target // 2)

    @property
    def pads(self) -> tuple[int, int]:
        """The cells to add to the input at both ends."""
        return -self.offsets[0], self.cells + self.offsets[-1] - self.size


def _spread_by_phases(images: Tensor, weight: Tensor, axes: list[_Phases]) -> Tensor:
    """Stride 2 by sub-pixel convolution (Shi et al. 2016).

    All phases are one ordinary convolution with four times the channels.
    """
    first, second = axes
    channels2 = weight.shape[1]
    # One more row and column of zeros, for the cells that a phase does not have.
    padded_weight = functional.pad(weight, (0, 1, 0, 1))
    rows = torch.tensor(first.kernel_cells())[:, :, None, None]
    columns = torch.tensor(second.kernel_cells())[None, None]
    # [channels, channels2, phase, offset, phase, offset], the phases moved in front
    phases = padded_weight[:, :, rows, columns].permute(2, 4, 1, 0, 3, 5)
    kernels = phases.flatten(0, 2).contiguous(memory_format=torch.channels_last)
    padded = functional.pad(images, (*second.pads, *first.pads))
    padded = padded.contiguous(memory_format=torch.channels_last)
    together = functional.conv2d(padded, kernels).permute(0, 2, 3, 1)
    shape = (len(images), first.cells, second.cells, 2, 2, channels2)
    apart = together.reshape(shape).permute(0, 1, 3, 2, 4, 5)
    result = apart.reshape(len(images), 2 * first.cells, 2 * second.cells, channels2)
    return result[:, : first.target, : second.target].permute(0, 3, 1, 2)
