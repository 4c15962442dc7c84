"""Lowerings of sums, products and quotients; operands broadcast as numpy's do."""

from collections.abc import Sequence

import numpy as np

from absolver.analyzer.frontends.builder import Constant, GraphBuilder, Symbol, Value
from absolver.analyzer.frontends.errors import LoweringError
from absolver.analyzer.frontends.lowering.movement import (
    expand,
    reduce_sum,
    reshape,
    transpose,
)
from absolver.analyzer.graph.linear.dense import Dense, MatrixProduct
from absolver.analyzer.graph.linear.map import LinearMap, Shape
from absolver.analyzer.graph.linear.reduction import Broadcast
from absolver.analyzer.graph.linear.scaling import Division, Identity, Negation, Scaling


def add(builder: GraphBuilder, *values: Value) -> Symbol:
    """Add tensors; constants together are the bias."""
    shape = common_shape(values)
    symbols = [value for value in values if isinstance(value, Symbol)]
    constants = [value for value in values if not isinstance(value, Symbol)]
    bias = sum(constants[1:], start=constants[0]) if constants else None
    terms: list[tuple[Symbol, LinearMap]] = []
    for symbol in symbols:
        same = symbol.shape == shape
        terms.append((symbol, Identity(shape) if same else Broadcast(symbol.shape, shape)))
    return builder.affine(terms, bias)


def subtract(builder: GraphBuilder, x: Value, y: Value) -> Symbol:
    """Subtract `y` from `x`."""
    if not isinstance(y, Symbol):
        return add(builder, x, -y)
    shape = common_shape((x, y))
    y = expand(builder, y, shape)
    terms: list[tuple[Symbol, LinearMap]] = []
    if isinstance(x, Symbol):
        same = x.shape == shape
        terms.append((x, Identity(shape) if same else Broadcast(x.shape, shape)))
        bias = None
    else:
        bias = x
    return builder.affine([*terms, (y, Negation(shape))], bias)


def negate(builder: GraphBuilder, x: Symbol) -> Symbol:
    """Change the sign."""
    return builder.affine([(x, Negation(x.shape))])


def multiply(builder: GraphBuilder, x: Value, y: Value) -> Symbol:
    """Multiply elementwise: a scaling, a square where both operands are one, or `mul`."""
    shape = common_shape((x, y))
    if not isinstance(x, Symbol):
        assert isinstance(y, Symbol), "products of constants are folded"
        return _scale(builder, y, x, shape)
    if not isinstance(y, Symbol):
        return _scale(builder, x, y, shape)
    if x.key == y.key:
        return builder.apply("square", x)
    return builder.apply("mul", expand(builder, x, shape), expand(builder, y, shape))


def divide(builder: GraphBuilder, x: Value, y: Value) -> Symbol:
    """Divide elementwise: by a constant exactly, by a variable through its reciprocal."""
    if any(value_kind(value) in "iub" for value in (x, y)):
        raise LoweringError("a division of integers rounds towards zero, which is not covered")
    if isinstance(y, Symbol):
        inverse = builder.apply("reciprocal", y)
        if not isinstance(x, Symbol) and (x == 1).all() and common_shape((x, y)) == y.shape:
            return inverse
        return multiply(builder, x, inverse)
    assert isinstance(x, Symbol), "quotients of constants are folded"
    if not y.all():
        raise LoweringError("it divides by a constant that is 0")
    shape = common_shape((x, y))
    divisor = builder.tensor(y)
    return builder.affine([(expand(builder, x, shape), Division(divisor, shape))])


def dense(builder: GraphBuilder, x: Symbol, weight: Constant, bias: Constant | None) -> Symbol:
    """Apply `weight` `[out, in]` to the last axis."""
    if weight.shape[1] != x.shape[-1]:
        raise LoweringError(f"a weight of shape {weight.shape} does not fit {x.shape}")
    return builder.affine([(x, Dense(builder.tensor(weight), x.shape))], bias)


def matmul(builder: GraphBuilder, x: Value, y: Value) -> Symbol:
    """Multiply matrices as numpy's `matmul` does."""
    if not isinstance(y, Symbol) and isinstance(x, Symbol) and y.ndim == 2:
        return dense(builder, x, y.T, None)
    drop_row, drop_column = len(x.shape) == 1, len(y.shape) == 1
    x = _with_axis(builder, x, (1, *x.shape)) if drop_row else x
    y = _with_axis(builder, y, (*y.shape, 1)) if drop_column else y
    if x.shape[-1] != y.shape[-2]:
        raise LoweringError(f"shapes {list(x.shape)} and {list(y.shape)} cannot be multiplied")
    leading = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    result = _matrix_product(builder, x, y, leading)
    shape = list(result.shape)
    if drop_column:
        del shape[-1]
    if drop_row:
        del shape[-1 if drop_column else -2]
    return result if tuple(shape) == result.shape else reshape(builder, result, tuple(shape))


def common_shape(values: Sequence[Value]) -> Shape:
    """Return the shape that operands broadcast to."""
    try:
        return np.broadcast_shapes(*(value.shape for value in values))
    except ValueError:
        shapes = " and ".join(str(list(value.shape)) for value in values)
        raise LoweringError(f"shapes {shapes} do not broadcast") from None


def value_kind(value: Value) -> str:
    """Return numpy's letter for the kind of element: f, i, u or b."""
    return (value.element if isinstance(value, Symbol) else value.dtype).kind


def _scale(builder: GraphBuilder, x: Symbol, factor: Constant, shape: Shape) -> Symbol:
    x = expand(builder, x, shape)
    return builder.affine([(x, Scaling(builder.tensor(factor), shape))])


def _with_axis(builder: GraphBuilder, value: Value, shape: Shape) -> Value:
    return reshape(builder, value, shape) if isinstance(value, Symbol) else value.reshape(shape)


def _matrix_product(builder: GraphBuilder, x: Value, y: Value, leading: Shape) -> Symbol:
    rows, inner, columns = x.shape[-2], x.shape[-1], y.shape[-1]
    if not isinstance(y, Symbol):
        assert isinstance(x, Symbol), "products of constants are folded"
        x = expand(builder, x, (*leading, rows, inner))
        return builder.affine([(x, MatrixProduct(builder.tensor(y), x.shape, on_left=False))])
    y_shape = (*leading, inner, columns)
    if not isinstance(x, Symbol):
        y = expand(builder, y, y_shape)
        return builder.affine([(y, MatrixProduct(builder.tensor(x), y.shape, on_left=True))])
    # (X Y)[i, j] = sum over k of X[i, k] * Y[k, j]; k is the last axis of the products.
    cube = (*leading, rows, columns, inner)
    left = expand(builder, reshape(builder, x, (*x.shape[:-1], 1, inner)), cube)
    order = (*range(len(y.shape) - 2), len(y.shape) - 1, len(y.shape) - 2)
    turned = transpose(builder, y, order)
    right = expand(builder, reshape(builder, turned, (*y.shape[:-2], 1, columns, inner)), cube)
    return reduce_sum(builder, builder.apply("mul", left, right), (-1,), False)
