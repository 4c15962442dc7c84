"""Lowerings that move data: reshape, transpose, slice, select, pad, concatenate, broadcast."""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from absolver.analyzer.frontends.builder import GraphBuilder, Symbol, Value
from absolver.analyzer.frontends.errors import LoweringError
from absolver.analyzer.graph.linear import movement
from absolver.analyzer.graph.linear.map import LinearMap, Shape
from absolver.analyzer.graph.linear.movement import Embed, Select, Slice
from absolver.analyzer.graph.linear.reduction import AxisSum, Broadcast


def reshape(builder: GraphBuilder, x: Symbol, shape: Shape) -> Symbol:
    """Give the same numbers another shape."""
    if prod(shape) != prod(x.shape):
        raise LoweringError(f"shape {list(x.shape)} cannot become {list(shape)}")
    return builder.affine([(x, movement.Reshape(x.shape, shape))])


def transpose(builder: GraphBuilder, x: Symbol, order: Sequence[int]) -> Symbol:
    """Permute axes: axis i of the result is axis `order[i]` of the operand."""
    order = tuple(axis % len(x.shape) for axis in order)
    return builder.affine([(x, movement.Transpose(order, x.shape))])


def expand(builder: GraphBuilder, x: Symbol, shape: Shape) -> Symbol:
    """Repeat the operand along axes that it lacks; itself where it lacks none."""
    if x.shape == shape:
        return x
    return builder.affine([(x, Broadcast(x.shape, shape))])


def take(builder: GraphBuilder, x: Symbol, ranges: Sequence[range]) -> Symbol:
    """Cut out cells that one range for each axis names; steps may be negative."""
    if all(r.step > 0 for r in ranges):
        cut = Slice(
            tuple(r.start for r in ranges),
            tuple(max(r.start, r.stop) for r in ranges),
            tuple(r.step for r in ranges),
            x.shape,
        )
        return builder.affine([(x, cut)])
    return select(builder, x, cells(x)[np.ix_(*(np.asarray(r) for r in ranges))])


def gather(builder: GraphBuilder, x: Symbol, axis: int, indices: NDArray[np.int64]) -> Symbol:
    """Pick entries along an axis, as numpy's `take` does."""
    size = x.shape[axis]
    if ((indices < -size) | (indices >= size)).any():
        raise LoweringError(f"an index is outside of axis {axis}, whose size is {size}")
    run = _as_range(indices.ravel() % size) if indices.size else None
    if run is not None:
        ranges = [range(n) for n in x.shape]
        ranges[axis] = run
        part = take(builder, x, ranges)
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        return part if part.shape == shape else reshape(builder, part, shape)
    return select(builder, x, np.take(cells(x), indices % size, axis=axis))


def select(builder: GraphBuilder, x: Symbol, source: NDArray[np.int64]) -> Symbol:
    """Build a tensor whose cells are the flat cells of `x` named in `source`; `MISSING` gives 0."""
    indices = torch.from_numpy(np.ascontiguousarray(source).ravel().astype(np.int64))
    return builder.affine([(x, Select(indices, x.shape, source.shape))])


def cells(x: Symbol) -> NDArray[np.int64]:
    """Return the flat index of each cell of `x`, in its shape."""
    return np.arange(prod(x.shape), dtype=np.int64).reshape(x.shape)


def concatenate(builder: GraphBuilder, parts: Sequence[Value], axis: int) -> Symbol:
    """Join tensors along an axis: each symbol is a term, constants go into the bias."""
    axis %= len(parts[0].shape)
    total = sum(part.shape[axis] for part in parts)
    shape = (*parts[0].shape[:axis], total, *parts[0].shape[axis + 1 :])
    bias = np.zeros(shape, dtype=np.float64)
    terms: list[tuple[Symbol, LinearMap]] = []
    start = 0
    for part in parts:
        place = _place(shape, axis, start, part.shape[axis])
        start += part.shape[axis]
        if isinstance(part, Symbol):
            terms.append((part, Embed(place)))
        else:
            bias[place.index[1:]] = part
    return builder.affine(terms, bias if bias.any() else None)


def split(builder: GraphBuilder, x: Symbol, axis: int, sizes: Sequence[int]) -> tuple[Symbol, ...]:
    """Cut a tensor along an axis into parts of the given sizes."""
    axis %= len(x.shape)
    if sum(sizes) != x.shape[axis]:
        raise LoweringError(f"parts of sizes {list(sizes)} do not fill axis {axis} of {x.shape}")
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    places = [_place(x.shape, axis, s, n) for s, n in zip(starts, sizes, strict=True)]
    return tuple(builder.affine([(x, place)]) for place in places)


def pad(
    builder: GraphBuilder, x: Symbol, amounts: Sequence[tuple[int, int]], mode: str, value: float
) -> Symbol:
    """Add cells around a tensor (negative amounts cut): constant, or copies as the mode says."""
    kept = [range(max(0, -b), n - max(0, -a)) for n, (b, a) in zip(x.shape, amounts, strict=True)]
    if any(before < 0 or after < 0 for before, after in amounts):
        x = take(builder, x, kept)
    grown = [(max(0, before), max(0, after)) for before, after in amounts]
    if mode != "constant":
        return select(builder, x, np.pad(cells(x), grown, mode=mode))  # type: ignore[call-overload]
    start = tuple(before for before, _ in grown)
    stop = tuple(before + n for (before, _), n in zip(grown, x.shape, strict=True))
    shape = tuple(b + n + a for (b, a), n in zip(grown, x.shape, strict=True))
    place = Slice(start, stop, (1,) * len(shape), shape)
    bias = np.full(shape, value) if value else None
    if bias is not None:
        bias[place.index[1:]] = 0
    return builder.affine([(x, Embed(place))], bias)


def tile(builder: GraphBuilder, x: Symbol, repeats: Sequence[int]) -> Symbol:
    """Repeat a tensor as numpy's `tile` does."""
    return select(builder, x, np.tile(cells(x), repeats))


def reduce_sum(
    builder: GraphBuilder, x: Symbol, axes: Sequence[int], keep_axes: bool, *, mean: bool = False
) -> Symbol:
    """Sum, or average, over axes."""
    axes = tuple(sorted({axis % len(x.shape) for axis in axes}))
    divisor = prod(x.shape[axis] for axis in axes) if mean else 1
    return builder.affine([(x, AxisSum(axes, keep_axes, divisor, x.shape))])


def _place(shape: Shape, axis: int, start: int, size: int) -> Slice:
    starts = tuple(start if i == axis else 0 for i in range(len(shape)))
    stops = tuple(start + size if i == axis else n for i, n in enumerate(shape))
    return Slice(starts, stops, (1,) * len(shape), shape)


def _as_range(indices: NDArray[np.int64]) -> range | None:
    """Return the increasing range that lists these indices, where there is one."""
    step = int(indices[1] - indices[0]) if len(indices) > 1 else 1
    if step < 1:
        return None
    run = range(int(indices[0]), int(indices[-1]) + 1, step)
    return run if np.array_equal(indices, np.asarray(run)) else None
