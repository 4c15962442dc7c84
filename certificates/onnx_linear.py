"""Affine ONNX operators: sums, matrices, convolutions, averages, normalisation, resizing."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.network import Floats, Ints
from absolver.certificates.onnx_graph import Step, Value, Variable


def addition(step: Step) -> Variable:
    """Add and Sum."""
    values = sorted(step.values(), key=lambda value: not isinstance(value, Variable))
    count = sum(isinstance(value, Variable) for value in values)
    # An execution may take another order: every node allows for all additions.
    roundings = len(values) - 1
    result = step.add(*((1, value) for value in values[: count + 1]), roundings=roundings)
    for value in values[count + 1 :]:
        result = step.add((1, result), (1, value), roundings=roundings)
    return result


def mean(step: Step, total: Variable, count: int | Ints) -> Variable:
    """A sum divided by the number of its terms; executions may multiply by its reciprocal."""
    if total.dtype.kind != "f":
        raise step.refuse("no rule for a division of integers")
    return step.scale(total, 1.0, count, roundings=2)


def batch_normalization(step: Step) -> Variable:
    """`x f + (bias - f mean)` with `f = scale / sqrt(variance + epsilon)` for each channel."""
    x = step.variable()
    step.attribute("momentum")
    epsilon = step.attribute("epsilon", np.float32(1e-5))
    if step.attribute("training_mode", 0) or not step.attribute("spatial", 1):
        raise step.refuse("no rule for training, nor for statistics of each element")
    shape = (x.shape[1],) + (1,) * (len(x.shape) - 2)
    scale, bias, centre, variance = (
        step.floats(step.constant(i)).reshape(shape) for i in range(1, 5)
    )
    if not (variance + epsilon > 0).all():
        raise step.refuse("a variance is not positive")
    factor = scale / np.sqrt(variance + epsilon)
    shift = -factor * centre
    # At most five roundings of 2^-53 here. The absolute parts are what an execution may lose to
    # underflow, at most 2^-149 in each of its operations, times the factors that follow.
    error = 2.0**-50 * abs(factor) + 2.0**-140
    shift_error = 2.0**-50 * abs(shift) + 2.0**-140 * (1 + abs(centre) + abs(scale))
    # Two nodes, so that the sizes of all terms count: an execution makes at most 7 roundings,
    # in x scale (1 / sqrt(variance + epsilon)) + (bias - mean scale (...)).
    scaled = step.enclose(x, (factor, error), (shift, shift_error), 7)
    return step.add((1, scaled), (1, bias), roundings=7)


def _swapped(step: Step, value: Value) -> Value:
    if isinstance(value, Variable):
        return step.move(value, lambda i: i.swapaxes(-1, -2))
    return value.swapaxes(-1, -2)


def _matrices(
    step: Step, x: Value, y: Value, bias: Floats | None = None, more: int = 0
) -> Variable:
    """The product of stacks of matrices, plus a bias where one of them is constant."""
    if not isinstance(x, Variable):
        turned = None if bias is None else bias.T
        product = _matrices(step, _swapped(step, y), _swapped(step, x), turned, more)
        return step.reorder(product, lambda i: i.swapaxes(-1, -2))
    rows, inner, columns = *x.shape[-2:], y.shape[-1]
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    if isinstance(y, Variable):
        wide = (*batch, rows, columns, inner)
        step.reserve(*wide)
        left = step.move(x, lambda i: np.broadcast_to(i[..., None, :], wide))
        right = step.move(y, lambda i: np.broadcast_to(i.swapaxes(-1, -2)[..., None, :, :], wide))
        products = step.apply("mul", left, right, executed="matmul")
        return step.total(products, (len(wide) - 1,), products=True, more=more)
    stack = batch if math.prod(y.shape[:-2]) > 1 else ()
    groups = math.prod(stack)
    step.reserve(groups, inner, columns)
    weight = np.broadcast_to(y if stack else y.reshape(y.shape[-2:]), (*stack, inner, columns))
    flat = step.broadcast(x, (*batch, rows, inner)).reshape(groups, -1, inner)
    product = step.product(flat, weight.reshape(groups, inner, columns), bias, more)
    return product.reshape(*batch, rows, columns)


def matmul(step: Step) -> Variable:
    """MatMul; a vector counts as a row on the left, as a column on the right."""
    x, y = step.value(0), step.value(1)
    left = x.reshape(1, *x.shape) if len(x.shape) == 1 else x
    right = y.reshape(*y.shape, 1) if len(y.shape) == 1 else y
    product = _matrices(step, left, right)
    rows = product.shape[-2:-1] if left is x else ()
    columns = product.shape[-1:] if right is y else ()
    return product.reshape(*product.shape[:-2], *rows, *columns)


def gemm(step: Step) -> Variable:
    """Gemm, `alpha x y + beta c`."""
    x, y = (
        _swapped(step, step.value(i)) if step.attribute(name, 0) else step.value(i)
        for i, name in enumerate(("transA", "transB"))
    )
    alpha, beta = step.attribute("alpha", 1.0), step.attribute("beta", 1.0)
    c = step.value(2) if len(step.operands) > 2 and step.operands[2] is not None else None
    both = isinstance(x, Variable) and isinstance(y, Variable)
    if alpha == beta == 1 and not both and not isinstance(c, Variable):
        shape = (x.shape[0], y.shape[1])
        bias = None if c is None else np.broadcast_to(step.floats(c), shape)
        return _matrices(step, x, y, bias)
    # An execution may start its sum with c: every node allows for all roundings.
    roundings = x.shape[1] + 3
    result = step.scale(_matrices(step, x, y, more=3), alpha, roundings=roundings)
    if c is None:
        return result
    if isinstance(c, Variable):
        c = step.scale(c, beta, roundings=roundings)
    elif beta == 1 or c.dtype == np.float32:
        c = step.floats(c) * beta
    else:
        raise step.refuse("beta times constants of binary64 is not exact")
    return step.add((1, result), (1, c), roundings=roundings)


def _inside(places: Ints, size: int) -> Ints:
    return np.where((places >= 0) & (places < size), places, -1)


def _geometry(step: Step, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads."""
    ones = [1] * len(kernel)
    strides, dilations = step.attribute("strides", ones), step.attribute("dilations", ones)
    if min(*kernel, *strides, *dilations) < 1 or len(dilations) != len(kernel):
        raise step.refuse(f"kernel {kernel}, strides {strides}, dilations {dilations}")
    return strides, dilations, step.attribute("pads", [0, 0] * len(kernel))


def _window_axes(step: Step, sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[Ints, int]]:
    """For each axis: the place of each window's cells, `[windows, cells]`, and where padding ends.

    Places outside of the axis are padding, or what ceil mode adds to it.
    """
    rank, result = len(kernel), []
    strides, dilations, pads = _geometry(step, kernel)
    automatic, ceil = step.attribute("auto_pad", "NOTSET"), step.attribute("ceil_mode", 0)
    for i, (n, stride) in enumerate(zip(sizes, strides, strict=True)):
        extent = (kernel[i] - 1) * dilations[i] + 1
        begin, end = (0, 0) if automatic == "VALID" else (pads[i], pads[i + rank])
        if automatic.startswith("SAME"):
            both = max(0, (-(-n // stride) - 1) * stride + extent - n)
            begin = both // 2 if automatic == "SAME_UPPER" else both - both // 2
            end = both - begin
        room = n + begin + end - extent
        if room < 0:  # onnxruntime rounds towards zero, and finds a window
            raise step.refuse(f"{n + begin + end} cells for a kernel that spans {extent}")
        count = (-(-room // stride) if ceil else room // stride) + 1
        if ceil and (count - 1) * stride >= n + begin:
            count -= 1
        step.reserve(count, kernel[i])
        cells = np.arange(kernel[i]) * dilations[i] - begin
        result.append((np.arange(count)[:, None] * stride + cells, n + end))
    return result


def _transposed_axes(step: Step, sizes: Sequence[int], kernel: Sequence[int]) -> list[Ints]:
    """For each axis of ConvTranspose: the input that a weight meets, `[outputs, weights]`."""
    rank, result = len(kernel), []
    strides, dilations, pads = _geometry(step, kernel)
    more = step.attribute("output_padding", [0] * rank)
    if step.attribute("auto_pad", "NOTSET") != "NOTSET":
        raise step.refuse("no rule for auto_pad")
    for i, (n, stride) in enumerate(zip(sizes, strides, strict=True)):
        extent = (kernel[i] - 1) * dilations[i] + 1
        count = stride * (n - 1) + more[i] + extent - pads[i] - pads[i + rank]
        step.reserve(count, kernel[i])
        place = np.arange(count)[:, None] + pads[i] - np.arange(kernel[i]) * dilations[i]
        result.append(np.where(place % stride == 0, _inside(place // stride, n), -1))
    return result


def _windows(step: Step, x: Variable, axes: Sequence[Ints]) -> Ints:
    """Which elements of x each window has: `[batch, channels, *windows, *cells]`, or -1."""
    rank = len(axes)
    step.reserve(*x.shape[:2], *(cells.size for cells in axes))
    index = x.numbers()
    for i, cells in enumerate(axes):
        taken = np.take(index, np.maximum(cells, 0), axis=2 + 2 * i)
        inside = (cells >= 0).reshape(*cells.shape, *(1,) * (rank - 1 - i))
        index = np.where(inside, taken, -1)
    return index.transpose(0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2))


def convolution(step: Step) -> Variable:
    """Conv and ConvTranspose: windows of the data times the weights of each group."""
    x, weight, bias = step.variable(), step.constant(1), step.optional(2)
    groups, kernel, batch = step.attribute("group", 1), weight.shape[2:], x.shape[0]
    if tuple(step.attribute("kernel_shape", kernel)) != kernel:
        raise step.refuse(f"weights of shape {weight.shape} are not of the kernel's shape")
    sizes, depth, cells = x.shape[2:], x.shape[1] // groups, math.prod(kernel)
    if step.kind == "ConvTranspose":
        axes = _transposed_axes(step, sizes, kernel)
        parts = weight.reshape(groups, depth, -1, cells).transpose(0, 1, 3, 2)
    else:
        places = _window_axes(step, sizes, kernel)
        axes = [_inside(place, n) for (place, _), n in zip(places, sizes, strict=True)]
        parts = weight.reshape(groups, -1, depth, cells).transpose(0, 2, 3, 1)
    inner, channels = depth * cells, parts.shape[3]
    shape = (batch, groups * channels, *(len(place) for place in axes))
    index = _windows(step, x, axes).reshape(batch, groups, depth, -1, cells)
    patches = step.assemble([x], index.swapaxes(2, 3).reshape(batch * groups, -1, inner))
    step.reserve(batch, *parts.shape)
    stack = np.tile(parts.reshape(groups, inner, channels), (batch, 1, 1))
    added = None if bias is None else np.tile(bias.reshape(groups, 1, channels), (batch, 1, 1))
    product = step.product(patches, stack, added)
    return step.reorder(product, lambda i: i.swapaxes(1, 2).reshape(shape))


def average_pool(step: Step) -> Variable:
    """AveragePool: sums over windows, divided by the number of the cells that count."""
    x, kernel, sizes = step.variable(), step.attribute("kernel_shape"), step.variable().shape[2:]
    padded = step.attribute("count_include_pad", 0)
    places = _window_axes(step, sizes, kernel)
    axes = [_inside(place, n) for (place, _), n in zip(places, sizes, strict=True)]
    counts = [
        (place < end if padded else cells >= 0).sum(axis=1)
        for (place, end), cells in zip(places, axes, strict=True)
    ]
    patches = step.assemble([x], _windows(step, x, axes))
    rank = len(x.shape)
    total = step.total(patches, range(rank, rank + len(kernel)))
    return mean(step, total, reduce(np.multiply.outer, counts))


def max_pool_cells(step: Step) -> list[Variable]:
    """Each cell of MaxPool's windows; padding is replaced by the first cell inside, by axis."""
    x, kernel, sizes = step.variable(), step.attribute("kernel_shape"), step.variable().shape[2:]
    step.attribute("storage_order")  # about the second output, which has no rule
    axes = []
    for (place, _), n in zip(_window_axes(step, sizes, kernel), sizes, strict=True):
        cells = _inside(place, n)
        first = np.take_along_axis(cells, (cells >= 0).argmax(axis=1)[:, None], axis=1)
        if (first < 0).any():
            raise step.refuse("a window lies in the padding")
        axes.append(np.where(cells < 0, first, cells))
    index = _windows(step, x, axes)
    rows = index.reshape(*index.shape[: len(x.shape)], -1)
    return [step.assemble([x], rows[..., i]) for i in range(rows.shape[-1])]


_ROUNDINGS: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]] = MappingProxyType(
    {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda place: np.ceil(place - np.float32(0.5)),
        "round_prefer_ceil": lambda place: np.floor(place + np.float32(0.5)),
    }
)


def resize(step: Step) -> Variable:
    """Resize and Upsample to the nearest cell, whose place is computed in binary32."""
    x, half = step.variable(), np.float32(0.5)
    recent = step.kind == "Resize" and step.opset >= 11
    transform, rounding = "asymmetric", "floor"
    if recent:
        transform = step.attribute("coordinate_transformation_mode", "half_pixel")
        rounding = step.attribute("nearest_mode", "round_prefer_floor")
    for unused in ("cubic_coeff_a", "exclude_outside", "extrapolation_value"):
        step.attribute(unused)
    known = transform in ("asymmetric", "half_pixel", "align_corners")
    if step.attribute("mode", "nearest") != "nearest" or not known:
        raise step.refuse(f"no rule for {transform}, or for another mode than nearest")
    data = np.array(x.shape, np.float32)
    sizes = step.optional(3) if recent else None
    factors = step.optional(2 if recent else 1) if sizes is None else sizes / data
    scales = np.asarray(step.attribute("scales") if factors is None else factors, np.float32)
    counts = (np.floor(scales * data) if sizes is None else sizes).astype(int).tolist()
    step.reserve(*counts)
    cells = []
    for n, m, scale in zip(x.shape, counts, scales, strict=True):
        place = np.arange(m, dtype=np.float32)
        if transform == "align_corners":
            place = place * np.float32(n - 1) / np.float32(max(m - 1, 1))
        else:
            place = place / scale if transform == "asymmetric" else (place + half) / scale - half
        cells.append(np.clip(_ROUNDINGS[rounding](place), 0, n - 1).astype(int))
    return step.move(x, lambda i: i[np.ix_(*cells)])
