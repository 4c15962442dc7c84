"""Lowerings of convolutions, pooling and batch normalisation: `[images, channels, *sizes]`."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from absolver.analyzer.frontends.builder import Constant, GraphBuilder, Symbol
from absolver.analyzer.frontends.errors import LoweringError
from absolver.analyzer.frontends.lowering.movement import cells, select, take
from absolver.analyzer.graph.linear.convolution import (
    Convolution,
    Padding,
    Sizes,
    TransposedConvolution,
)
from absolver.analyzer.graph.linear.pooling import AveragePool
from absolver.analyzer.graph.linear.scaling import Scaling


@dataclass(frozen=True, kw_only=True)
class Window:
    """How a kernel moves over the spatial axes."""

    kernel: Sizes
    stride: Sizes
    padding: Padding
    dilation: Sizes
    ceil_mode: bool = False

    @property
    def reach(self) -> Sizes:
        """The kernel's extent along each axis, dilation counted."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))

    def positions(self, sizes: Sizes) -> Sizes:
        """Return how many windows there are along each axis.

        In ceil mode a last window that would start in the padding at the end is left out.
        """
        counts = []
        for size, (before, after), reach, stride in zip(
            sizes, self.padding, self.reach, self.stride, strict=True
        ):
            room = (size + before + after - reach) / stride
            count = (ceil(room) if self.ceil_mode else floor(room)) + 1
            if self.ceil_mode and (count - 1) * stride >= size + before:
                count -= 1
            counts.append(count)
        return tuple(counts)

    def covering(self, sizes: Sizes) -> Padding:
        """Return padding under which every window, those of ceil mode included, lies inside."""
        padding = []
        for size, count, (before, _), reach, stride in zip(
            sizes, self.positions(sizes), self.padding, self.reach, self.stride, strict=True
        ):
            padding.append((before, (count - 1) * stride + reach - size - before))
        return tuple(padding)


def same_padding(sizes: Sizes, window: Window, *, lower: bool) -> Padding:
    """Return ONNX's SAME padding: as many windows as `ceil(size / stride)`."""
    padding = []
    for size, reach, stride in zip(sizes, window.reach, window.stride, strict=True):
        total = max(0, (ceil(size / stride) - 1) * stride + reach - size)
        small, large = total // 2, total - total // 2
        padding.append((large, small) if lower else (small, large))
    return tuple(padding)


def convolve(
    builder: GraphBuilder,
    x: Symbol,
    weight: Constant,
    bias: Constant | None,
    window: Window,
    groups: int,
) -> Symbol:
    """Convolve; the bias is one number for each output channel."""
    if x.shape[1] != weight.shape[1] * groups:
        raise LoweringError(f"a kernel of shape {weight.shape} does not fit {x.shape}")
    linear = Convolution(
        weight=builder.tensor(weight),
        stride=window.stride,
        padding=window.padding,
        dilation=window.dilation,
        groups=groups,
        input_shape=x.shape,
    )
    return builder.affine([(x, linear)], _per_channel(bias, len(x.shape)))


def convolve_transposed(
    builder: GraphBuilder,
    x: Symbol,
    weights: tuple[Constant, Constant | None],
    window: Window,
    groups: int,
    output_padding: Sizes,
) -> Symbol:
    """Apply a transposed convolution; `weights` are the kernel and the bias."""
    weight, bias = weights
    if x.shape[1] != weight.shape[0]:
        raise LoweringError(f"a kernel of shape {weight.shape} does not fit {x.shape}")
    linear = TransposedConvolution(
        weight=builder.tensor(weight),
        stride=window.stride,
        padding=window.padding,
        dilation=window.dilation,
        groups=groups,
        output_padding=output_padding,
        input_shape=x.shape,
    )
    return builder.affine([(x, linear)], _per_channel(bias, len(x.shape)))


def average_pool(
    builder: GraphBuilder, x: Symbol, window: Window, *, count_padding: bool
) -> Symbol:
    """Average over each window; padding counts as cells of value 0 where `count_padding`.

    Cells that only ceil mode adds beyond the padding never count.
    """
    sizes = x.shape[2:]
    axes = [
        _counted(size, pair, window, axis, count_padding)
        for axis, (size, pair) in enumerate(zip(sizes, window.padding, strict=True))
    ]
    counts = axes[0]
    for along in axes[1:]:
        counts = counts[..., None] * along
    linear = AveragePool(
        counts=builder.tensor(counts),
        kernel=window.kernel,
        stride=window.stride,
        padding=window.covering(sizes),
        dilation=window.dilation,
        input_shape=x.shape,
    )
    return builder.affine([(x, linear)])


def max_pool(builder: GraphBuilder, x: Symbol, window: Window) -> Symbol:
    """Take the maximum of each window: one selection for each cell of the kernel, and `max`.

    A cell that lies in the padding is replaced by the first cell of the same window that does
    not, which changes no maximum.
    """
    sizes = x.shape[2:]
    counts = window.positions(sizes)
    inside = all(
        before == 0 and (count - 1) * stride + reach <= size
        for size, count, (before, _), stride, reach in zip(
            sizes, counts, window.padding, window.stride, window.reach, strict=True
        )
    )
    operands = []
    for offset in product(*(range(k) for k in window.kernel)):
        start = [o * d for o, d in zip(offset, window.dilation, strict=True)]
        if inside:
            ranges = [
                range(s, s + (count - 1) * stride + 1, stride)
                for s, count, stride in zip(start, counts, window.stride, strict=True)
            ]
            operands.append(take(builder, x, [range(n) for n in x.shape[:2]] + ranges))
        else:
            index = [_valid_cells(sizes, counts, window, axis, s) for axis, s in enumerate(start)]
            everything = [np.arange(n) for n in x.shape[:2]]
            picked = cells(x)[np.ix_(*everything, *index)]
            operands.append(select(builder, x, picked))
    return operands[0] if len(operands) == 1 else builder.apply("max", *operands)


def batch_normalise(
    builder: GraphBuilder, x: Symbol, parameters: Sequence[Constant], epsilon: float
) -> Symbol:
    """Normalise each channel with stored statistics: scale, bias, mean, variance.

    The factor `scale / sqrt(variance + epsilon)` is computed in float64, then rounded once.
    """
    scale, bias, mean, variance = (value.astype(np.float64) for value in parameters)
    factor = scale / np.sqrt(variance + epsilon)
    rank = len(x.shape)
    coefficient = _per_channel(factor, rank)
    assert coefficient is not None, "a factor is given"
    linear = Scaling(builder.tensor(coefficient), x.shape)
    return builder.affine([(x, linear)], _per_channel(bias - mean * factor, rank))


def _per_channel(values: Constant | None, rank: int) -> Constant | None:
    """Shape one number for each channel so that it broadcasts along the second axis."""
    return None if values is None else values.reshape(-1, *(1,) * (rank - 2))


def _counted(
    size: int, pair: tuple[int, int], window: Window, axis: int, count_padding: bool
) -> NDArray[np.int64]:
    """Count the cells of each window along one axis that the average is over."""
    before, after = pair
    (count,) = Window(
        kernel=window.kernel[axis : axis + 1],
        stride=window.stride[axis : axis + 1],
        padding=(pair,),
        dilation=window.dilation[axis : axis + 1],
        ceil_mode=window.ceil_mode,
    ).positions((size,))
    first = np.arange(count)[:, None] * window.stride[axis] - before
    position = first + np.arange(window.kernel[axis]) * window.dilation[axis]
    low, high = (-before, size + after) if count_padding else (0, size)
    return np.asarray(((position >= low) & (position < high)).sum(axis=1), dtype=np.int64)


def _valid_cells(
    sizes: Sizes, counts: Sizes, window: Window, axis: int, start: int
) -> NDArray[np.int64]:
    """Return the cell at one offset of each window along an axis, moved inside the data."""
    step = window.dilation[axis]
    first = np.arange(counts[axis]) * window.stride[axis] - window.padding[axis][0]
    cell = first + start
    # The window's first cell at or after 0: it starts in the padding and moves by the dilation.
    valid = np.where(first < 0, first + -(first // step) * step, first)
    result = np.where((cell < 0) | (cell >= sizes[axis]), valid, cell)
    if ((result < 0) | (result >= sizes[axis])).any():
        raise LoweringError("a pooling window lies in the padding alone")
    return np.asarray(result, dtype=np.int64)
