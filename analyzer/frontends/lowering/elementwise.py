"""Lowerings that apply one operator, or a few, to each entry."""

from collections.abc import Sequence
from itertools import product
from math import inf, prod

import numpy as np

from absolver.analyzer.frontends.builder import Constant, GraphBuilder, Symbol, Value
from absolver.analyzer.frontends.lowering.arithmetic import add, common_shape, subtract
from absolver.analyzer.frontends.lowering.movement import (
    concatenate,
    expand,
    reshape,
    select,
    take,
)


def maximum(builder: GraphBuilder, *values: Value) -> Symbol:
    """Take the largest of some tensors; with a tensor of constants c, relu(x - c) + c."""
    result, constants = _extreme(builder, "max", values)
    for constant in constants:
        if constant.size == 1:
            result = builder.apply("clip", result, min=float(constant.reshape(())))
        else:
            above = builder.apply("relu", subtract(builder, result, constant))
            result = add(builder, above, constant)
    return result


def minimum(builder: GraphBuilder, *values: Value) -> Symbol:
    """Take the smallest of some tensors; with a tensor of constants c, c - relu(c - x)."""
    result, constants = _extreme(builder, "min", values)
    for constant in constants:
        if constant.size == 1:
            result = builder.apply("clip", result, max=float(constant.reshape(())))
        else:
            below = builder.apply("relu", subtract(builder, constant, result))
            result = subtract(builder, constant, below)
    return result


def clip(builder: GraphBuilder, x: Symbol, low: Value | None, high: Value | None) -> Symbol:
    """Confine to an interval; a bound that depends on the input is a maximum or a minimum."""
    least, most = _number(low, -inf), _number(high, inf)
    if least is not None and most is not None:
        if least == -inf and most == inf:
            return x
        # ONNX: where the bounds cross, the upper one wins.
        return builder.apply("clip", x, min=min(least, most), max=most)
    if low is not None:
        x = maximum(builder, x, low)
    if high is not None:
        x = minimum(builder, x, high)
    return x


def leaky_relu(builder: GraphBuilder, x: Symbol, alpha: Constant) -> Symbol:
    """Multiply negative entries by alpha: a number, or a tensor that broadcasts to `x`."""
    slope = builder.tensor(np.asarray(alpha))
    if slope.numel() > 1:
        slope = slope.expand(x.shape)
    return builder.apply("leaky_relu", x, alpha=slope if slope.numel() > 1 else slope.item())


def power(builder: GraphBuilder, x: Symbol, exponent: Constant) -> Symbol:
    """Raise to constant powers; 2, 1, 1/2 and -1 are operators of their own.

    Where exponents differ, the cells of each distinct one are picked out and put back.
    """
    x = expand(builder, x, common_shape((x, exponent)))
    distinct, which = np.unique(np.broadcast_to(exponent, x.shape), return_inverse=True)
    if len(distinct) == 0:
        return x
    if len(distinct) > 1:
        flat = reshape(builder, x, (prod(x.shape),))
        places = [np.flatnonzero(which == i) for i in range(len(distinct))]
        parts = [
            power(builder, select(builder, flat, cells), number)
            for cells, number in zip(places, distinct, strict=True)
        ]
        order = np.argsort(np.concatenate(places))
        return reshape(builder, select(builder, concatenate(builder, parts, 0), order), x.shape)
    number = float(distinct[0])
    match number:
        case 1.0:
            return x
        case 2.0:
            return builder.apply("square", x)
        case 0.5:
            return builder.apply("sqrt", x)
        case -1.0:
            return builder.apply("reciprocal", x)
    return builder.apply("pow", x, exponent=number)


def extreme_over(
    builder: GraphBuilder,
    x: Symbol,
    axes: Sequence[int],
    keep_axes: bool,
    *,
    smallest: bool = False,
) -> Symbol:
    """Take the largest (smallest) entry over axes: one slice for each entry, and `max` (`min`)."""
    axes = sorted({axis % len(x.shape) for axis in axes})
    entries = []
    for place in product(*(range(x.shape[axis]) for axis in axes)):
        ranges = [range(n) for n in x.shape]
        for axis, index in zip(axes, place, strict=True):
            ranges[axis] = range(index, index + 1)
        entries.append(take(builder, x, ranges))
    if len(entries) > 1:
        result = minimum(builder, *entries) if smallest else maximum(builder, *entries)
    else:
        result = entries[0]
    if keep_axes:
        return result
    return reshape(builder, result, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def _extreme(
    builder: GraphBuilder, name: str, values: Sequence[Value]
) -> tuple[Symbol, list[Constant]]:
    """Apply `max` or `min` to the symbols, broadcast with the constants; return those too."""
    shape = common_shape(values)
    symbols = [expand(builder, v, shape) for v in values if isinstance(v, Symbol)]
    result = symbols[0] if len(symbols) == 1 else builder.apply(name, *symbols)
    return result, [v for v in values if not isinstance(v, Symbol)]


def _number(bound: Value | None, default: float) -> float | None:
    """Return the one number that a bound is; None where it is no single constant number."""
    if bound is None:
        return default
    return None if isinstance(bound, Symbol) or bound.size != 1 else float(bound.reshape(()))
