"""ATen's convolutions, poolings and normalisations."""

from collections.abc import Sequence

import numpy as np

from absolver.analyzer.frontends.builder import GraphBuilder, Symbol
from absolver.analyzer.frontends.errors import LoweringError
from absolver.analyzer.frontends.handlers import Lowered, handles
from absolver.analyzer.frontends.lowering import convolution, movement, normalisation
from absolver.analyzer.frontends.torch_operators.arguments import (
    Argument,
    as_constant,
    as_tuple,
    completed,
    window_of,
)


@handles("softmax", "log_softmax", "_softmax", "_log_softmax", "_safe_softmax")
def softmax(builder: GraphBuilder, operator: str, x: Symbol, axis: int, *_: object) -> Lowered:
    """Normalise exponentials over an axis."""
    lower = normalisation.log_softmax if "log" in operator else normalisation.softmax
    return lower(builder, x, axis)


@handles("layer_norm", "native_layer_norm")
def layer_normalise(
    builder: GraphBuilder, operator: str, x: Symbol, shape: Sequence[int], *parameters: Argument
) -> Lowered:
    """Normalise over the last axes."""
    weight, bias, epsilon = completed(parameters, None, None, 1e-5)[:3]
    axes = range(len(x.shape) - len(shape), len(x.shape))
    results = normalisation.layer_normalise(builder, x, axes, epsilon, (weight, bias))
    return results if operator == "native_layer_norm" else results[0]


@handles("_native_batch_norm_legit_no_training")
def batch_normalise(
    builder: GraphBuilder, operator: str, x: Symbol, *parameters: Argument
) -> Lowered:
    """Normalise each channel with stored statistics."""
    scale, shift, mean, variance, _, epsilon = parameters
    scale = np.ones_like(mean) if scale is None else scale
    shift = np.zeros_like(mean) if shift is None else shift
    result = convolution.batch_normalise(builder, x, (scale, shift, mean, variance), epsilon)
    return (result,)


@handles("convolution")
def convolve(builder: GraphBuilder, operator: str, x: Symbol, *form: Argument) -> Lowered:
    """Convolve, or apply a transposed convolution."""
    weight, bias, stride, padding, dilation, transposed, output_padding, groups = form
    kernel = as_constant(weight).shape[2:]
    window = window_of(kernel, stride, padding, dilation)
    if transposed:
        extra = as_tuple(output_padding, len(kernel))
        return convolution.convolve_transposed(builder, x, (weight, bias), window, groups, extra)
    return convolution.convolve(builder, x, weight, bias, window, groups)


@handles("max_pool2d_with_indices", "max_pool2d", "max_pool1d")
def max_pool(
    builder: GraphBuilder, operator: str, x: Symbol, kernel: Sequence[int], *form: Argument
) -> Lowered:
    """Take the maximum of each window."""
    stride, padding, dilation, ceil_mode = completed(form, (), 0, 1, False)
    window = window_of(kernel, stride or kernel, padding, dilation, ceil_mode=ceil_mode)
    result = convolution.max_pool(builder, x, window)
    return (result,) if operator.endswith("indices") else result


@handles("avg_pool2d", "avg_pool1d")
def average_pool(
    builder: GraphBuilder, operator: str, x: Symbol, kernel: Sequence[int], *form: Argument
) -> Lowered:
    """Average over each window."""
    stride, padding, ceil_mode, count_padding, divisor = completed(form, (), 0, False, True, None)
    if divisor is not None:
        raise LoweringError("a divisor of its own is not covered")
    window = window_of(kernel, stride or kernel, padding, 1, ceil_mode=ceil_mode)
    return convolution.average_pool(builder, x, window, count_padding=count_padding)


@handles("adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool1d")
def adaptive_average_pool(
    builder: GraphBuilder, operator: str, x: Symbol, sizes: Sequence[int]
) -> Lowered:
    """Average over as many windows as asked for, where they are equal."""
    extents = x.shape[2:]
    if all(size == 1 for size in sizes):
        axes = range(2, len(x.shape))
        return movement.reduce_sum(builder, x, axes, True, mean=True)
    if any(extent % size for extent, size in zip(extents, sizes, strict=True)):
        raise LoweringError(f"sizes {list(extents)} are no multiples of {list(sizes)}")
    kernel = [extent // size for extent, size in zip(extents, sizes, strict=True)]
    window = window_of(kernel, kernel, 0, 1)
    return convolution.average_pool(builder, x, window, count_padding=False)


@handles("upsample_nearest2d", "upsample_nearest1d")
def upsample(builder: GraphBuilder, operator: str, x: Symbol, *form: Argument) -> Lowered:
    """Repeat the nearest neighbour: cell i of n comes from cell `floor(i * size / n)`."""
    sizes, *scales = form
    given: list[float] | None = next((s for s in scales if isinstance(s, list)), None)
    index = [np.arange(n) for n in x.shape]
    for axis, extent in enumerate(x.shape[2:]):
        if given is None:
            count = sizes[axis]
            ratio = np.float32(extent / count)
        else:
            count = int(np.floor(extent * given[axis]))
            ratio = np.float32(1 / given[axis])
        source = np.floor(np.arange(count, dtype=np.float32) * ratio).astype(np.int64)
        index[axis + 2] = np.minimum(source, extent - 1)
    return movement.select(builder, x, movement.cells(x)[np.ix_(*index)])
