"""Lowerings of comparisons, choices and roundings.

Truth is the number 1, falsehood 0. Each lowering is exact for all real operands: comparisons come
from the sign of a difference, and a domain bounds them as well as it bounds `sign`.
"""

import numpy as np

from absolver.analyzer.frontends.builder import GraphBuilder, Symbol, Value
from absolver.analyzer.frontends.lowering.arithmetic import (
    add,
    common_shape,
    multiply,
    negate,
    subtract,
)
from absolver.analyzer.frontends.lowering.elementwise import maximum
from absolver.analyzer.frontends.lowering.movement import (
    concatenate,
    expand,
    reduce_sum,
    take,
)

_ONE = np.ones(())


def truth(builder: GraphBuilder, x: Symbol) -> Symbol:
    """Cast to bool: |sign(x)|."""
    return x if x.element.kind == "b" else _magnitude_of_sign(builder, x)


def truncate(builder: GraphBuilder, x: Symbol) -> Symbol:
    """Round towards zero: floor(relu(x)) - floor(relu(-x))."""
    if x.element.kind in "iub":
        return x
    above = builder.apply("floor", builder.apply("relu", x))
    below = builder.apply("floor", builder.apply("relu", negate(builder, x)))
    return subtract(builder, above, below)


def equal(builder: GraphBuilder, x: Value, y: Value) -> Symbol:
    """Compare: [x = y] = 1 - |sign(x - y)|."""
    return negated(builder, _magnitude_of_sign(builder, _difference(builder, x, y)))


def greater(builder: GraphBuilder, x: Value, y: Value) -> Symbol:
    """Compare: [x > y] = relu(sign(x - y))."""
    sign = builder.apply("sign", _difference(builder, x, y))
    return builder.apply("relu", sign)


def negated(builder: GraphBuilder, x: Symbol) -> Symbol:
    """Negate a truth value: 1 - x."""
    return subtract(builder, _ONE, x)


def conjunction(builder: GraphBuilder, x: Value, y: Value) -> Symbol:
    """Join truth values: [x and y] = relu(x + y - 1)."""
    return builder.apply("relu", add(builder, _number(x), _number(y), -_ONE))


def disjunction(builder: GraphBuilder, x: Value, y: Value) -> Symbol:
    """Join truth values: [x or y] = x + y - relu(x + y - 1)."""
    both = conjunction(builder, x, y)
    return subtract(builder, add(builder, _number(x), _number(y)), both)


def where(builder: GraphBuilder, condition: Value, x: Value, y: Value) -> Symbol:
    """Choose: c * x + (1 - c) * y; a scaling by 0 and 1 where the condition is known."""
    if isinstance(condition, Symbol):
        first = multiply(builder, condition, _number(x))
        second = multiply(builder, negated(builder, condition), _number(y))
        return add(builder, first, second)
    shape = common_shape((condition, x, y))
    mask = np.broadcast_to(condition, shape).astype(np.float64)
    parts: list[Value] = []
    for value, weight in ((x, mask), (y, 1 - mask)):
        if isinstance(value, Symbol):
            parts.append(multiply(builder, value, weight))
        else:
            # A constant may be infinite where the mask drops it.
            parts.append(np.where(weight > 0, value, 0))
    return add(builder, *parts)


def arg_max(builder: GraphBuilder, x: Symbol, axis: int, *, last: bool = False) -> Symbol:
    """Return the index of the largest entry along an axis (kept, of size 1).

    The sum over i of i * w_i, where w_i says that entry i is the largest: it exceeds all entries
    before it and is no less than those after it (the other way round where the last one of equal
    entries is meant).
    """
    axis %= len(x.shape)
    size = x.shape[axis]
    entries = [_part(builder, x, axis, i, i + 1) for i in range(size)]
    winners = []
    for i in range(1, size):
        before = maximum(builder, *entries[:i])
        wins = _beats(builder, entries[i], before, ties=last)
        if i + 1 < size:
            after = maximum(builder, *entries[i + 1 :])
            wins = conjunction(builder, wins, _beats(builder, entries[i], after, ties=not last))
        winners.append(wins)
    if not winners:
        return multiply(builder, x, np.zeros(()))
    joined = concatenate(builder, winners, axis)
    shape = [1] * len(x.shape)
    shape[axis] = size - 1
    weights = np.arange(1.0, size).reshape(shape)
    return reduce_sum(builder, multiply(builder, joined, weights), (axis,), True)


def _beats(builder: GraphBuilder, x: Symbol, y: Symbol, *, ties: bool) -> Symbol:
    return negated(builder, greater(builder, y, x)) if ties else greater(builder, x, y)


def _part(builder: GraphBuilder, x: Symbol, axis: int, start: int, stop: int) -> Symbol:
    ranges = [range(start, stop) if i == axis else range(n) for i, n in enumerate(x.shape)]
    return take(builder, x, ranges)


def _difference(builder: GraphBuilder, x: Value, y: Value) -> Symbol:
    """Return `x - y` for its sign; without a subtraction, that could round, where y is 0."""
    if isinstance(x, Symbol) and not isinstance(y, Symbol) and not y.any():
        return expand(builder, x, common_shape((x, y)))
    return subtract(builder, _number(x), _number(y))


def _number(value: Value) -> Value:
    """Give a boolean constant as a number."""
    if isinstance(value, Symbol) or value.dtype.kind != "b":
        return value
    return value.astype(np.float64)


def _magnitude_of_sign(builder: GraphBuilder, x: Symbol) -> Symbol:
    return builder.apply("abs", builder.apply("sign", x))
