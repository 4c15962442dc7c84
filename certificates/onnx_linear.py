"""Sums of products: matrices, convolutions and the windows that they share with pools."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from absolver.certificates.network import Floats, Ints, Product, Scale, Total
from absolver.certificates.onnx_graph import Step, Value, Variable


def batch_normalization(step: Step) -> Variable:
    """`x f + (bias - f mean)` with `f = scale / sqrt(variance + epsilon)` for each channel."""
    x = step.variable()
    step.attribute("momentum")
    epsilon = step.attribute("epsilon", np.float32(1e-5))
    if step.attribute("training_mode", 0) or not step.attribute("spatial", 1):
        raise step.refuse("no rule for training, nor for statistics of each element")
    shape = (x.shape[1],) + (1,) * (len(x.shape) - 2)
    parameters = (step.floats(step.constant(i)).reshape(shape) for i in range(1, 5))
    scale, bias, centre, variance = parameters
    if not (variance + epsilon > 0).all():
        raise step.refuse("a variance is not positive")
    factor = step.floats(scale / np.sqrt(variance + epsilon))
    shift = -factor * centre
    # At most five roundings of 2^-53 here. The absolute parts are what an execution may lose to
    # underflow, at most 2^-149 in each of its operations, times the factors that follow.
    error = 2.0**-50 * abs(factor) + 2.0**-140
    shift_error = 2.0**-50 * abs(shift) + 2.0**-140 * (1 + abs(centre) + abs(scale))
    # Two nodes, so that the sizes of all terms count: an execution makes at most 7 roundings,
    # in x scale (1 / sqrt(variance + epsilon)) + (bias - mean scale (...)).
    parts = (factor, np.ones(()), error)
    linear = Scale(*(np.broadcast_to(part, x.shape).flatten() for part in parts))
    scaled = step.affine([(step.whole(x).node, linear)], shift, 7, x.shape, shift_error)
    return step.add(scaled, bias, roundings=7)


def total(step: Step, x: Variable, *, products: bool = False, more: int = 0) -> Variable:
    """The sums over the last axis.

    Where the entries are `products`, an execution rounds them here; `more` are the roundings that
    it may add to those of the sums.
    """
    *shape, n = x.shape
    size, roundings = math.prod(shape), max(n - (not products) + more, 0)
    linear = Total(np.repeat(np.arange(size), n), size)
    return step.affine([(step.whole(x).node, linear)], None, roundings, shape)


def _product(
    step: Step, x: Variable, weight: ArrayLike, bias: Floats | None, more: int = 0
) -> Variable:
    """`x [groups, outer, k]` times `weight [groups, k, n]`, plus a bias; `more` as in `total`."""
    matrix = step.floats(weight)
    terms = int(np.count_nonzero(matrix, axis=1).max(initial=0))
    shape, linear = (*x.shape[:2], matrix.shape[2]), Product(matrix, x.shape[1])
    roundings = terms + (bias is not None) + more
    return step.affine([(step.whole(x).node, linear)], bias, roundings, shape)


def _arranged(value: Value, arrange: Callable[[Ints], Ints]) -> Value:
    return value.arranged(arrange) if isinstance(value, Variable) else arrange(value)


def _swapped(value: Value) -> Value:
    return _arranged(value, lambda array: array.swapaxes(-1, -2))


def _matrices(
    step: Step, x: Value, y: Value, bias: Floats | None = None, more: int = 0
) -> Variable:
    """The product of stacks of matrices, plus a bias where one of them is constant."""
    if not isinstance(x, Variable):
        turned = None if bias is None else bias.T
        product = _matrices(step, _swapped(y), _swapped(x), turned, more)
        return step.whole(product.arranged(lambda index: index.swapaxes(-1, -2)), bias=0.0)
    rows, inner, columns = *x.shape[-2:], y.shape[-1]
    if y.shape[-2] != inner:
        raise step.refuse(f"no product of {x.shape} and {y.shape}")
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    if isinstance(y, Variable):
        wide = (*batch, rows, columns, inner)
        left = x.arranged(lambda index: index[..., None, :])
        right = y.arranged(lambda index: index.swapaxes(-1, -2)[..., None, :, :])
        products = step.apply("mul", left.broadcast(wide), right, executed="matmul")
        return total(step, products, products=True, more=more)
    stack = batch if math.prod(y.shape[:-2]) > 1 else ()
    step.reserve(*batch, rows, inner)
    step.reserve(*stack, inner, columns)
    weight = np.broadcast_to(y if stack else y.reshape(inner, columns), (*stack, inner, columns))
    spread = x.broadcast((*batch, rows, inner))
    flat = spread.arranged(lambda index: index.reshape(math.prod(stack), -1, inner))
    product = _product(step, flat, weight.reshape(-1, inner, columns), bias, more)
    return product.arranged(lambda index: index.reshape(*batch, rows, columns))


def matmul(step: Step) -> Variable:
    """MatMul; a vector counts as a row on the left, as a column on the right."""
    x, y = step.operands
    left = _arranged(x, lambda vector: vector[None]) if len(x.shape) == 1 else x
    right = _arranged(y, lambda vector: vector[:, None]) if len(y.shape) == 1 else y
    axes = (-2,) * (left is not x) + (-1,) * (right is not y)
    return _matrices(step, left, right).arranged(lambda index: index.squeeze(axes))


def gemm(step: Step) -> Variable:
    """Gemm, `alpha x y + beta c`."""
    x, y, c = (*step.operands, None)[:3]
    x = _swapped(x) if step.attribute("transA", 0) else x
    y = _swapped(y) if step.attribute("transB", 0) else y
    alpha, beta = step.attribute("alpha", 1.0), step.attribute("beta", 1.0)
    both = isinstance(x, Variable) and isinstance(y, Variable)
    if alpha == beta == 1 and not both and not isinstance(c, Variable):
        shape = (x.shape[0], y.shape[1])
        return _matrices(step, x, y, None if c is None else np.broadcast_to(step.floats(c), shape))
    # An execution may start its sum with c: every node allows for all roundings.
    roundings = x.shape[1] + 3
    result = step.scale(_matrices(step, x, y, more=3), alpha, roundings=roundings)
    if c is None:
        return result
    if isinstance(c, Variable):
        return step.add(result, step.scale(c, beta, roundings=roundings), roundings=roundings)
    if c.dtype != np.float32:  # the product of two binary32 numbers is exact in binary64
        raise step.refuse(f"no rule for a factor of constants of {c.dtype}")
    return step.add(result, step.floats(c) * beta, roundings=roundings)


def window_axes(step: Step, sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[Ints, Ints]]:
    """For each axis: the place of each window's cells, `[windows, cells]`, -1 for padding.

    And how many cells of a window count with padding, which are not those that ceil mode adds. A
    window of ConvTranspose has the cells whose products an output sums.
    """
    result, ones = list[tuple[Ints, Ints]](), [1] * len(kernel)
    strides, dilations = step.attribute("strides", ones), step.attribute("dilations", ones)
    pads = np.reshape(step.attribute("pads", [0, 0] * len(kernel)), (2, -1)).T.tolist()
    automatic, ceil = step.attribute("auto_pad", "NOTSET"), step.attribute("ceil_mode", 0)
    transposed = step.kind == "ConvTranspose"
    more = step.attribute("output_padding", [0] * len(kernel)) if transposed else ones
    if min(*kernel, *strides, *dilations) < 1 or (transposed and automatic != "NOTSET"):
        raise step.refuse(f"kernel {kernel}, strides {strides}, dilations {dilations}, {automatic}")
    axes = zip(sizes, kernel, strides, dilations, pads, more, strict=True)
    for n, width, stride, dilation, (begin, end), added in axes:
        extent = (width - 1) * dilation + 1
        if automatic != "NOTSET":
            both = max(0, (-(-n // stride) - 1) * stride + extent - n)
            both = both if automatic.startswith("SAME") else 0
            begin = both - both // 2 if automatic == "SAME_LOWER" else both // 2
            end = both - begin
        room = n + begin + end - extent
        if transposed:
            count = stride * (n - 1) + added + extent - begin - end
        elif room < 0:  # onnxruntime rounds towards zero, and finds a window
            raise step.refuse(f"{n + begin + end} cells for a kernel that spans {extent}")
        else:  # a window of ceil mode does not start in the padding at the end
            count = (-(-room // stride) if ceil else room // stride) + 1
            count -= ceil and (count - 1) * stride >= n + begin
        step.reserve(count, width)
        windows, cells = np.arange(count)[:, None], np.arange(width) * dilation
        place = windows * stride + cells - begin
        if transposed:
            place = windows + begin - cells
            place = np.where(place % stride == 0, place // stride, -1)
        inside = np.where((place >= 0) & (place < n), place, -1)
        result.append((inside, (place < n + end).sum(axis=1)))
    return result


def without_padding(step: Step, cells: Ints) -> Ints:
    """The places of one axis; the first cell of a window inside of the data replaces padding."""
    first = np.take_along_axis(cells, (cells >= 0).argmax(axis=1)[:, None], axis=1)
    if (first < 0).any():
        raise step.refuse("a window lies in the padding")
    return np.where(cells < 0, first, cells)


def windows(step: Step, x: Variable, axes: Sequence[Ints]) -> Variable:
    """The cells of each window, `[batch, channels, *windows, cells]`; a place of -1 is 0."""
    rank = len(axes)
    step.reserve(*x.shape[:2], *(places.size for places in axes))
    index = np.pad(x.index, [(0, 0)] * 2 + [(0, 1)] * rank, constant_values=-1)
    for i, places in enumerate(axes):
        index = index.take(places, axis=2 + i)
        index = np.moveaxis(index, 3 + i, -1)
    return replace(x, index=index.reshape(*index.shape[: 2 + rank], -1))


def convolution(step: Step) -> Variable:
    """Conv and ConvTranspose: windows of the data times the weights of each group."""
    x, weight, bias = step.variable(), step.constant(1), step.constant(2)
    groups, kernel, batch = step.attribute("group", 1), weight.shape[2:], x.shape[0]
    transposed, depth = step.kind == "ConvTranspose", x.shape[1] // groups
    fits = x.shape[1] == (weight.shape[0] if transposed else weight.shape[1] * groups)
    if tuple(step.attribute("kernel_shape", kernel)) != kernel or not fits:
        raise step.refuse(f"weights of shape {weight.shape} fit neither the kernel nor {x.shape}")
    cells = windows(step, x, [places for places, _ in window_axes(step, x.shape[2:], kernel)])
    if transposed:
        weight = weight.reshape(groups, depth, -1, *kernel).swapaxes(1, 2)
    inner = depth * math.prod(kernel)
    weight = weight.reshape(groups, -1, inner).swapaxes(1, 2)
    # [batch, groups, depth, windows, cells] becomes [groups, batch and windows, depth and cells].
    grouped = cells.index.reshape(batch, groups, depth, -1, math.prod(kernel))
    patches = replace(x, index=grouped.transpose(1, 0, 3, 2, 4).reshape(groups, -1, inner))
    added = None if bias is None else bias.reshape(groups, 1, -1)
    shape = (batch, groups * weight.shape[2], *cells.shape[2:-1])
    result = _product(step, patches, weight, added)
    split = result.index.reshape(groups, batch, -1, weight.shape[2])
    index = split.transpose(1, 0, 3, 2).reshape(shape)
    return step.whole(replace(result, index=index), bias=0.0)
