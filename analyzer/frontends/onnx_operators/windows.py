"""ONNX's convolutions, poolings and resizings."""

import numpy as np
from numpy.typing import NDArray

from absolver.analyzer.frontends.builder import Symbol
from absolver.analyzer.frontends.errors import LoweringError
from absolver.analyzer.frontends.handlers import Lowered, handles
from absolver.analyzer.frontends.lowering import convolution, elementwise, movement
from absolver.analyzer.frontends.lowering.convolution import Window
from absolver.analyzer.frontends.onnx_operators.operation import Operation


@handles("Conv")
def convolve(operation: Operation) -> Lowered:
    """Convolve with a constant kernel."""
    x, weight = operation.symbol(), operation.constant(1)
    bias = operation.constant(2) if operation.has(2) else None
    window = _window(operation, x, weight.shape[2:])
    groups = operation.attribute("group", 1)
    return convolution.convolve(operation.builder, x, weight, bias, window, groups)


@handles("ConvTranspose")
def convolve_transposed(operation: Operation) -> Lowered:
    """Apply a transposed convolution with a constant kernel."""
    x, weight = operation.symbol(), operation.constant(1)
    bias = operation.constant(2) if operation.has(2) else None
    rank = len(x.shape) - 2
    extra = operation.integers("output_padding") or [0] * rank
    window = _transposed_window(operation, x, weight.shape[2:], extra)
    return convolution.convolve_transposed(
        operation.builder,
        x,
        (weight, bias),
        window,
        operation.attribute("group", 1),
        tuple(extra),
    )


@handles("MaxPool")
def max_pool(operation: Operation) -> Lowered:
    """Take the maximum of each window."""
    if operation.outputs > 1:
        raise LoweringError("the indices of the maxima are not covered")
    x = operation.symbol()
    window = _window(operation, x, tuple(operation.attribute("kernel_shape")))
    return convolution.max_pool(operation.builder, x, window)


@handles("AveragePool")
def average_pool(operation: Operation) -> Lowered:
    """Average over each window."""
    x = operation.symbol()
    window = _window(operation, x, tuple(operation.attribute("kernel_shape")))
    count = bool(operation.attribute("count_include_pad", 0))
    return convolution.average_pool(operation.builder, x, window, count_padding=count)


@handles("GlobalAveragePool", "GlobalMaxPool")
def global_pool(operation: Operation) -> Lowered:
    """Average, or take the maximum, over all spatial axes."""
    builder, x = operation.builder, operation.symbol()
    axes = range(2, len(x.shape))
    if operation.operator == "GlobalMaxPool":
        return elementwise.extreme_over(builder, x, axes, True)
    return movement.reduce_sum(builder, x, axes, True, mean=True)


@handles("Resize", "Upsample")
def resize(operation: Operation) -> Lowered:
    """Resize by nearest neighbours."""
    x = operation.symbol()
    mode = operation.attribute("mode", "nearest")
    if mode != "nearest":
        raise LoweringError(f"mode '{mode}' is not covered, only 'nearest' is")
    index = [np.arange(n) for n in x.shape]
    for axis, size, scale in _targets(operation, x):
        index[axis] = _nearest(operation, x.shape[axis], size, scale)
    return movement.select(operation.builder, x, movement.cells(x)[np.ix_(*index)])


def _window(operation: Operation, x: Symbol, kernel: tuple[int, ...]) -> Window:
    rank = len(kernel)
    ones = [1] * rank
    pads = operation.integers("pads") or [0] * (2 * rank)
    window = Window(
        kernel=kernel,
        stride=tuple(operation.integers("strides") or ones),
        padding=tuple(zip(pads[:rank], pads[rank:], strict=True)),
        dilation=tuple(operation.integers("dilations") or ones),
        ceil_mode=bool(operation.attribute("ceil_mode", 0)),
    )
    mode = operation.attribute("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        padding = convolution.same_padding(x.shape[2:], window, lower=mode == "SAME_LOWER")
    elif mode == "VALID":
        padding = ((0, 0),) * rank
    else:
        padding = window.padding
    return Window(
        kernel=kernel,
        stride=window.stride,
        padding=padding,
        dilation=window.dilation,
        ceil_mode=window.ceil_mode,
    )


def _transposed_window(
    operation: Operation, x: Symbol, kernel: tuple[int, ...], extra: list[int]
) -> Window:
    """Return the window, its padding following from `output_shape` or `auto_pad` where given."""
    window = _window_without_auto_padding(operation, kernel)
    full = [
        (size - 1) * stride + reach + more
        for size, stride, reach, more in zip(
            x.shape[2:], window.stride, window.reach, extra, strict=True
        )
    ]
    mode = operation.attribute("auto_pad", "NOTSET")
    target = operation.integers("output_shape")
    if target is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        target = [n * s for n, s in zip(x.shape[2:], window.stride, strict=True)]
    if target is None:
        return window
    padding = []
    for reached, wanted in zip(full, target, strict=True):
        total = max(0, reached - wanted)
        small, large = total // 2, total - total // 2
        padding.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return Window(
        kernel=kernel, stride=window.stride, padding=tuple(padding), dilation=window.dilation
    )


def _window_without_auto_padding(operation: Operation, kernel: tuple[int, ...]) -> Window:
    rank = len(kernel)
    pads = operation.integers("pads") or [0] * (2 * rank)
    return Window(
        kernel=kernel,
        stride=tuple(operation.integers("strides") or [1] * rank),
        padding=tuple(zip(pads[:rank], pads[rank:], strict=True)),
        dilation=tuple(operation.integers("dilations") or [1] * rank),
    )


def _targets(operation: Operation, x: Symbol) -> list[tuple[int, int, float]]:
    """Return (axis, new size, scale) for each axis that is resized."""
    axes = operation.integers("axes") or list(range(len(x.shape)))
    # Operands: X, scales (Upsample, Resize 10); X, roi, scales, sizes (Resize from 11 on).
    late = operation.operator == "Resize" and operation.opset >= 11
    scales = operation.attribute("scales")
    if scales is None and operation.has(2 if late else 1):
        scales = operation.constant(2 if late else 1).ravel().tolist()
    if scales:
        return [(a, int(np.floor(x.shape[a] * s)), s) for a, s in zip(axes, scales, strict=True)]
    if operation.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise LoweringError("a policy for the aspect ratio is not covered")
    sizes = operation.constant(3).ravel().tolist()
    return [(a, int(n), n / x.shape[a]) for a, n in zip(axes, sizes, strict=True)]


def _nearest(operation: Operation, size: int, new: int, scale: float) -> NDArray[np.int64]:
    """Return the source cell of each new cell along one axis.

    Positions are computed in float32, as onnxruntime does: it decides ties of rounding.
    """
    late = operation.operator == "Resize" and operation.opset >= 11
    transform = operation.attribute(
        "coordinate_transformation_mode", "half_pixel" if late else "asymmetric"
    )
    rounding = operation.attribute("nearest_mode", "round_prefer_floor" if late else "floor")
    cell, step, half = np.arange(new, dtype=np.float32), np.float32(scale), np.float32(0.5)
    match transform:
        case "asymmetric":
            place = cell / step
        case "half_pixel":
            place = (cell + half) / step - half
        case "pytorch_half_pixel":
            place = (cell + half) / step - half if new > 1 else cell
        case "align_corners":
            place = cell * np.float32(size - 1) / np.float32(new - 1) if new > 1 else cell
        case _:
            raise LoweringError(f"coordinate_transformation_mode '{transform}' is not covered")
    match rounding:
        case "floor":
            source = np.floor(place)
        case "ceil":
            source = np.ceil(place)
        case "round_prefer_ceil":
            source = np.floor(place + half)
        case _:
            source = np.ceil(place - half)
    return np.asarray(np.clip(source, 0, size - 1), dtype=np.int64)
