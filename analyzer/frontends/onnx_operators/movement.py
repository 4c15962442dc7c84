"""ONNX's operators that only move data."""

from math import prod

import numpy as np

from absolver.analyzer.frontends.builder import Symbol, Value
from absolver.analyzer.frontends.errors import LoweringError
from absolver.analyzer.frontends.handlers import Lowered, handles
from absolver.analyzer.frontends.lowering import movement
from absolver.analyzer.frontends.onnx_operators.operation import Operation


@handles("Reshape")
def reshape(operation: Operation) -> Lowered:
    """Reshape; 0 keeps an axis, -1 is what remains."""
    x = operation.symbol()
    target = operation.integers("shape", 1)
    if target is None:
        raise LoweringError("the new shape is missing")
    if not operation.attribute("allowzero", 0):
        target = [x.shape[i] if n == 0 else n for i, n in enumerate(target)]
    if -1 in target:
        known = prod(n for n in target if n != -1)
        target[target.index(-1)] = prod(x.shape) // max(known, 1)
    return movement.reshape(operation.builder, x, tuple(target))


@handles("Flatten")
def flatten(operation: Operation) -> Lowered:
    """Join the axes before `axis`, and those from it on."""
    x = operation.symbol()
    axis = operation.attribute("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    shape = (prod(x.shape[:axis]), prod(x.shape[axis:]))
    return movement.reshape(operation.builder, x, shape)


@handles("Squeeze")
def squeeze(operation: Operation) -> Lowered:
    """Drop axes of size 1, all of them where none are given."""
    x = operation.symbol()
    axes = operation.integers("axes", 1)
    if axes is None:
        axes = [i for i, n in enumerate(x.shape) if n == 1]
    drop = {axis % len(x.shape) for axis in axes}
    shape = tuple(n for i, n in enumerate(x.shape) if i not in drop)
    return movement.reshape(operation.builder, x, shape)


@handles("Unsqueeze")
def unsqueeze(operation: Operation) -> Lowered:
    """Insert axes of size 1."""
    x = operation.symbol()
    axes = operation.integers("axes", 1) or []
    rank = len(x.shape) + len(axes)
    new = {axis % rank for axis in axes}
    rest = iter(x.shape)
    shape = tuple(1 if i in new else next(rest) for i in range(rank))
    return movement.reshape(operation.builder, x, shape)


@handles("Transpose")
def transpose(operation: Operation) -> Lowered:
    """Permute axes, reversing them where no order is given."""
    x = operation.symbol()
    order = operation.integers("perm")
    return movement.transpose(operation.builder, x, reversed_axes(x) if order is None else order)


@handles("Slice")
def take(operation: Operation) -> Lowered:
    """Slice, from attributes (before opset 10) or operands."""
    starts, stops = operation.integers("starts", 1), operation.integers("ends", 2)
    x = operation.symbol()
    if starts is None or stops is None:
        raise LoweringError("its starts or ends are missing")
    axes = operation.integers("axes", 3)
    axes = list(range(len(starts))) if axes is None else axes
    steps = operation.integers("steps", 4) or [1] * len(starts)
    ranges = [range(n) for n in x.shape]
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        size = x.shape[axis]
        ranges[axis] = range(*slice(start, stop, step).indices(size))
        # Counting down to the front, ONNX writes a very negative end where Python writes None.
        if step < 0 and stop < -size:
            ranges[axis] = range(ranges[axis].start, -1, step)
    return movement.take(operation.builder, x, ranges)


@handles("Split")
def split(operation: Operation) -> Lowered:
    """Split into parts of given sizes, or evenly."""
    x = operation.symbol()
    axis = operation.attribute("axis", 0)
    sizes = operation.integers("split", 1)
    if sizes is None:
        count = operation.attribute("num_outputs", operation.outputs)
        size = -(-x.shape[axis] // count)
        sizes = [size] * (count - 1) + [x.shape[axis] - size * (count - 1)]
    return movement.split(operation.builder, x, axis, sizes)


@handles("Concat")
def concatenate(operation: Operation) -> Lowered:
    """Join tensors along an axis."""
    parts = [operation.operand(i) for i in range(len(operation.operands))]
    return movement.concatenate(operation.builder, parts, operation.attribute("axis", 1))


@handles("Gather")
def gather(operation: Operation) -> Lowered:
    """Pick entries along an axis by constant indices."""
    indices = operation.constant(1).astype(np.int64)
    x = operation.symbol()
    axis = operation.attribute("axis", 0) % len(x.shape)
    return movement.gather(operation.builder, x, axis, indices)


@handles("GatherElements")
def gather_elements(operation: Operation) -> Lowered:
    """Pick, for each cell, an entry along an axis."""
    x = operation.symbol()
    axis = operation.attribute("axis", 0) % len(x.shape)
    indices = operation.constant(1).astype(np.int64) % x.shape[axis]
    # The result may be smaller than x along the other axes.
    view = movement.cells(x)[
        tuple(slice(None) if i == axis else slice(n) for i, n in enumerate(indices.shape))
    ]
    return movement.select(operation.builder, x, np.take_along_axis(view, indices, axis))


@handles("GatherND")
def gather_nd(operation: Operation) -> Lowered:
    """Pick slices by constant index tuples."""
    x = operation.symbol()
    if operation.attribute("batch_dims", 0):
        raise LoweringError("batch_dims other than 0 are not covered")
    indices = operation.constant(1).astype(np.int64)
    index = tuple(np.moveaxis(indices, -1, 0))
    return movement.select(operation.builder, x, movement.cells(x)[index])


@handles("ScatterND")
def scatter_nd(operation: Operation) -> Lowered:
    """Replace slices at constant index tuples: data where none was replaced, plus updates."""
    if operation.attribute("reduction", "none") != "none":
        raise LoweringError("a reduction is not covered")
    builder = operation.builder
    data, updates = operation.operand(0), operation.operand(2)
    indices = operation.constant(1).astype(np.int64)
    index = tuple(np.moveaxis(indices, -1, 0))
    # Number the cells of both operands in one sequence, scatter the numbers, read them off.
    size = prod(data.shape)
    source = np.arange(size).reshape(data.shape)
    source[index] = size + np.arange(prod(updates.shape)).reshape(updates.shape)
    parts: list[Value] = []
    for value in (data, updates):
        if isinstance(value, Symbol):
            parts.append(movement.reshape(builder, value, (prod(value.shape),)))
        else:
            parts.append(value.ravel())
    joined = movement.concatenate(builder, parts, 0)
    return movement.select(builder, joined, source)


@handles("Expand")
def expand(operation: Operation) -> Lowered:
    """Broadcast to a shape; a size of 1 there keeps the operand's."""
    x = operation.symbol()
    target = tuple(operation.integers("shape", 1) or ())
    return movement.expand(operation.builder, x, np.broadcast_shapes(x.shape, target))


@handles("Tile")
def tile(operation: Operation) -> Lowered:
    """Repeat along each axis."""
    x = operation.symbol()
    return movement.tile(operation.builder, x, operation.integers("repeats", 1) or [])


@handles("Pad")
def pad(operation: Operation) -> Lowered:
    """Pad with a constant, or with reflected, repeated or wrapped data."""
    x = operation.symbol()
    amounts = operation.integers("pads", 1) or operation.integers("paddings") or []
    value = operation.attribute("value", 0.0)
    if operation.has(2):
        value = float(operation.constant(2).reshape(()))
    axes = operation.integers("axes", 3)
    axes = list(range(len(x.shape))) if axes is None else axes
    pairs = [(0, 0)] * len(x.shape)
    for i, axis in enumerate(axes):
        pairs[axis] = (amounts[i], amounts[i + len(axes)])
    mode = operation.attribute("mode", "constant")
    return movement.pad(operation.builder, x, pairs, mode, value)


@handles("DepthToSpace")
def depth_to_space(operation: Operation) -> Lowered:
    """Move blocks of channels into space."""
    builder, x = operation.builder, operation.symbol()
    block = operation.attribute("blocksize")
    images, channels, height, width = x.shape
    depth = channels // block**2
    if operation.attribute("mode", "DCR") == "DCR":
        split_shape = (images, block, block, depth, height, width)
        order = (0, 3, 4, 1, 5, 2)
    else:
        split_shape = (images, depth, block, block, height, width)
        order = (0, 1, 4, 2, 5, 3)
    moved = movement.transpose(builder, movement.reshape(builder, x, split_shape), order)
    return movement.reshape(builder, moved, (images, depth, height * block, width * block))


@handles("SpaceToDepth")
def space_to_depth(operation: Operation) -> Lowered:
    """Move blocks of space into channels."""
    builder, x = operation.builder, operation.symbol()
    block = operation.attribute("blocksize")
    images, channels, height, width = x.shape
    split_shape = (images, channels, height // block, block, width // block, block)
    moved = movement.reshape(builder, x, split_shape)
    moved = movement.transpose(builder, moved, (0, 3, 5, 1, 2, 4))
    shape = (images, channels * block**2, height // block, width // block)
    return movement.reshape(builder, moved, shape)


@handles("Identity", "Dropout")
def identity(operation: Operation) -> Lowered:
    """Return the operand; a dropout that is switched on is an error."""
    training = operation.has(2) and bool(operation.constant(2).any())
    ratio = operation.constant(1).item() if operation.has(1) else 0.5
    if operation.operator == "Dropout" and training and ratio:
        raise LoweringError("it drops at random: training_mode is on")
    x = operation.symbol()
    return (x, np.ones(x.shape, dtype=bool))[: operation.outputs]


def reversed_axes(x: Symbol) -> list[int]:
    """Return the axes last to first."""
    return list(reversed(range(len(x.shape))))
