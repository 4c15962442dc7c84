"""Lowerings of softmax and layer normalisation."""

from collections.abc import Sequence

import numpy as np

from absolver.analyzer.frontends.builder import GraphBuilder, Symbol, Value
from absolver.analyzer.frontends.lowering.arithmetic import add, multiply, negate, subtract
from absolver.analyzer.frontends.lowering.movement import (
    expand,
    reduce_sum,
    reshape,
    take,
    transpose,
)


def softmax(builder: GraphBuilder, x: Symbol, axis: int) -> Symbol:
    """Normalise exponentials: y_i = 1 / (1 + sum over j != i of exp(x_j - x_i)).

    Every difference is formed before the exponential, so that nothing overflows where the inputs
    are large, and the term of j = i is the constant that it is.
    """
    moved, back = _axis_last(builder, x, axis)
    result = builder.apply("reciprocal", _relative_sum(builder, moved))
    return result if back is None else transpose(builder, result, back)


def log_softmax(builder: GraphBuilder, x: Symbol, axis: int) -> Symbol:
    """Give the logarithm of softmax: y_i = -log(1 + sum over j != i of exp(x_j - x_i))."""
    moved, back = _axis_last(builder, x, axis)
    result = negate(builder, builder.apply("log", _relative_sum(builder, moved)))
    return result if back is None else transpose(builder, result, back)


def standardise(
    builder: GraphBuilder, x: Symbol, axes: Sequence[int], epsilon: float
) -> tuple[Symbol, Symbol, Symbol]:
    """Subtract the mean over some axes and divide by the deviation: (result, mean, 1 / deviation).

    With d = x - mean(x): result = d * 1 / sqrt(mean(d^2) + epsilon).
    """
    mean = reduce_sum(builder, x, axes, True, mean=True)
    centred = subtract(builder, x, mean)
    variance = reduce_sum(builder, builder.apply("square", centred), axes, True, mean=True)
    deviation = builder.apply("sqrt", add(builder, variance, np.asarray(epsilon)))
    inverse = builder.apply("reciprocal", deviation)
    return multiply(builder, centred, inverse), mean, inverse


def layer_normalise(
    builder: GraphBuilder,
    x: Symbol,
    axes: Sequence[int],
    epsilon: float,
    affine: tuple[Value | None, Value | None],
) -> tuple[Symbol, Symbol, Symbol]:
    """Standardise, then scale and shift by `affine`; also the mean and 1 / deviation."""
    scale, shift = affine
    result, mean, inverse = standardise(builder, x, axes, epsilon)
    if scale is not None:
        result = multiply(builder, result, scale)
    if shift is not None:
        result = add(builder, result, shift)
    return result, mean, inverse


def _axis_last(
    builder: GraphBuilder, x: Symbol, axis: int
) -> tuple[Symbol, tuple[int, ...] | None]:
    """Move an axis to the end; also the order that moves it back, None where it was there."""
    rank = len(x.shape)
    axis %= rank
    if axis == rank - 1:
        return x, None
    order = (*(i for i in range(rank) if i != axis), axis)
    back = tuple(sorted(range(rank), key=order.__getitem__))
    return transpose(builder, x, order), back


def _relative_sum(builder: GraphBuilder, x: Symbol) -> Symbol:
    """Return 1 + sum over j != i of exp(x_j - x_i), for each i of the last axis."""
    *leading, n = x.shape
    if n == 1:
        return add(builder, multiply(builder, x, np.zeros(())), np.ones(()))
    square = (*leading, n, n)
    others = expand(builder, reshape(builder, x, (*leading, 1, n)), square)
    own = reshape(builder, x, (*leading, n, 1))
    differences = _off_diagonal(builder, subtract(builder, others, own))
    total = reduce_sum(builder, builder.apply("exp", differences), (-1,), False)
    return add(builder, total, np.ones(()))


def _off_diagonal(builder: GraphBuilder, x: Symbol) -> Symbol:
    """Drop the diagonal of the last two axes: `[n, n]` becomes `[n, n - 1]`.

    Read row by row, the diagonal's entries are every (n + 1)-th one. Without the last entry the
    rest is n - 1 rows of n + 1 entries that start with one of the diagonal.
    """
    *leading, n, _ = x.shape
    keep = [range(size) for size in leading]
    flat = reshape(builder, x, (*leading, n * n))
    flat = take(builder, flat, [*keep, range(n * n - 1)])
    rows = reshape(builder, flat, (*leading, n - 1, n + 1))
    rows = take(builder, rows, [*keep, range(n - 1), range(1, n + 1)])
    return reshape(builder, rows, (*leading, n, n - 1))
