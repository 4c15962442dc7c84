"""ONNX's sums, products, matrix products and reductions."""

import numpy as np

from absolver.analyzer.frontends.builder import Symbol, Value
from absolver.analyzer.frontends.errors import LoweringError
from absolver.analyzer.frontends.handlers import Lowered, handles
from absolver.analyzer.frontends.lowering import arithmetic, elementwise, movement
from absolver.analyzer.frontends.onnx_operators.operation import Operation


@handles("Add", "Sum")
def add(operation: Operation) -> Lowered:
    """Add any number of tensors."""
    operands = _operands(operation)
    if len(operands) == 1:
        return operands[0]
    return arithmetic.add(operation.builder, *operands)


@handles("Mean")
def mean(operation: Operation) -> Lowered:
    """Average any number of tensors."""
    operands = _operands(operation)
    total = arithmetic.add(operation.builder, *operands)
    return arithmetic.divide(operation.builder, total, np.asarray(float(len(operands))))


@handles("Sub")
def subtract(operation: Operation) -> Lowered:
    """Subtract."""
    return arithmetic.subtract(operation.builder, operation.operand(0), operation.operand(1))


@handles("Neg")
def negate(operation: Operation) -> Lowered:
    """Change the sign."""
    return arithmetic.negate(operation.builder, operation.symbol())


@handles("Mul")
def multiply(operation: Operation) -> Lowered:
    """Multiply elementwise."""
    return arithmetic.multiply(operation.builder, operation.operand(0), operation.operand(1))


@handles("Div")
def divide(operation: Operation) -> Lowered:
    """Divide elementwise."""
    return arithmetic.divide(operation.builder, operation.operand(0), operation.operand(1))


@handles("MatMul")
def matmul(operation: Operation) -> Lowered:
    """Multiply matrices."""
    return arithmetic.matmul(operation.builder, operation.operand(0), operation.operand(1))


@handles("Gemm")
def gemm(operation: Operation) -> Lowered:
    """Give `alpha * A' B' + beta * C`, a dense layer where B is constant."""
    builder = operation.builder
    a, b = (
        _turned(operation, index, bool(operation.attribute(flag, 0)))
        for index, flag in ((0, "transA"), (1, "transB"))
    )
    alpha, beta = operation.attribute("alpha", 1.0), operation.attribute("beta", 1.0)
    c = operation.operand(2) if operation.has(2) and beta != 0 else None
    fused = alpha == beta == 1 and isinstance(a, Symbol) and not isinstance(b, Symbol)
    if fused and not isinstance(c, Symbol):
        assert isinstance(a, Symbol), "part of `fused`"
        assert not isinstance(b, Symbol), "part of `fused`"
        return arithmetic.dense(builder, a, b.T, c)
    product: Symbol = arithmetic.matmul(builder, a, b)
    if alpha != 1:
        product = arithmetic.multiply(builder, product, np.asarray(alpha))
    if c is None:
        return product
    if beta != 1:
        factor = np.asarray(beta, np.float64)
        c = arithmetic.multiply(builder, c, factor) if isinstance(c, Symbol) else c * factor
    return arithmetic.add(builder, product, c)


@handles("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceL2")
def reduce(operation: Operation) -> Lowered:
    """Reduce over axes, all of them where none are given."""
    builder, x = operation.builder, operation.symbol()
    axes = operation.integers("axes", 1)
    if not axes:
        if operation.attribute("noop_with_empty_axes", 0):
            return x
        axes = list(range(len(x.shape)))
    keep = bool(operation.attribute("keepdims", 1))
    match operation.operator:
        case "ReduceMax" | "ReduceMin":
            return elementwise.extreme_over(
                builder, x, axes, keep, smallest=operation.operator == "ReduceMin"
            )
        case "ReduceSumSquare" | "ReduceL2":
            squares = arithmetic.multiply(builder, x, x)
            total = movement.reduce_sum(builder, squares, axes, keep)
            root = operation.operator == "ReduceL2"
            return builder.apply("sqrt", total) if root else total
    mean = operation.operator == "ReduceMean"
    return movement.reduce_sum(builder, x, axes, keep, mean=mean)


def _operands(operation: Operation) -> list[Value]:
    return [operation.operand(index) for index in range(len(operation.operands))]


def _turned(operation: Operation, index: int, turn: bool) -> Value:
    value = operation.operand(index)
    if len(value.shape) != 2:
        raise LoweringError(f"operand {index} has shape {list(value.shape)}, which is no matrix")
    if not turn:
        return value
    if isinstance(value, Symbol):
        return movement.transpose(operation.builder, value, (1, 0))
    return value.T
