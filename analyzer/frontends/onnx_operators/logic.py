"""ONNX's casts, comparisons and choices that depend on the input."""

import numpy as np
import onnx

from absolver.analyzer.frontends.builder import Symbol
from absolver.analyzer.frontends.errors import LoweringError
from absolver.analyzer.frontends.handlers import Lowered, handles
from absolver.analyzer.frontends.lowering import arithmetic, logic, movement
from absolver.analyzer.frontends.onnx_operators.operation import Operation


@handles("Cast", "CastLike")
def cast(operation: Operation) -> Lowered:
    """Change the element type: to bool a test for 0, from float to integer a truncation."""
    builder, x = operation.builder, operation.symbol()
    if operation.operator == "CastLike":
        like = operation.operand(1)
        element = like.element if isinstance(like, Symbol) else like.dtype
    else:
        element = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(operation.attribute("to")))
    match element.kind:
        case "b":
            x = logic.truth(builder, x)
        case "i":
            x = logic.truncate(builder, x)
        case "f" if element.itemsize >= 4:
            pass
        case _:
            raise LoweringError(f"a cast to {element} is not covered")
    return Symbol(x.key, x.shape, element)


@handles("Equal")
def equal(operation: Operation) -> Lowered:
    """Compare for equality."""
    x, y = operation.operand(0), operation.operand(1)
    return _boolean(logic.equal(operation.builder, x, y))


@handles("Greater", "Less", "GreaterOrEqual", "LessOrEqual")
def compare(operation: Operation) -> Lowered:
    """Compare: x < y is y > x, and x >= y is not y > x."""
    x, y = operation.operand(0), operation.operand(1)
    if operation.operator in ("Less", "GreaterOrEqual"):
        x, y = y, x
    result = logic.greater(operation.builder, x, y)
    if operation.operator.endswith("OrEqual"):
        result = logic.negated(operation.builder, result)
    return _boolean(result)


@handles("Not")
def negated(operation: Operation) -> Lowered:
    """Negate a truth value."""
    return _boolean(logic.negated(operation.builder, operation.symbol()))


@handles("And")
def conjunction(operation: Operation) -> Lowered:
    """Join truth values by and."""
    return _boolean(
        logic.conjunction(operation.builder, operation.operand(0), operation.operand(1))
    )


@handles("Or")
def disjunction(operation: Operation) -> Lowered:
    """Join truth values by or."""
    return _boolean(
        logic.disjunction(operation.builder, operation.operand(0), operation.operand(1))
    )


@handles("Where")
def where(operation: Operation) -> Lowered:
    """Choose between two tensors."""
    condition, x, y = (operation.operand(i) for i in range(3))
    result = logic.where(operation.builder, condition, x, y)
    return Symbol(result.key, result.shape, x.element if isinstance(x, Symbol) else x.dtype)


@handles("ArgMax", "ArgMin")
def arg_max(operation: Operation) -> Lowered:
    """Return the index of the largest (smallest) entry along an axis."""
    builder, x = operation.builder, operation.symbol()
    axis = operation.attribute("axis", 0) % len(x.shape)
    if operation.operator == "ArgMin":
        x = arithmetic.negate(builder, x)
    last = bool(operation.attribute("select_last_index", 0))
    result = logic.arg_max(builder, x, axis, last=last)
    if not operation.attribute("keepdims", 1):
        shape = tuple(n for i, n in enumerate(result.shape) if i != axis)
        result = movement.reshape(builder, result, shape)
    return Symbol(result.key, result.shape, np.dtype(np.int64))


@handles("OneHot")
def one_hot(operation: Operation) -> Lowered:
    """Write an index i as a row of `off` with `on` at i: off + (on - off) * [i = j]."""
    builder, index = operation.builder, operation.symbol()
    depth = int(operation.constant(1).reshape(()))
    off, on = operation.constant(2)
    if off.dtype.kind not in "if":
        raise LoweringError(f"values of type {off.dtype} are not covered")
    rank = len(index.shape) + 1
    axis = operation.attribute("axis", -1) % rank
    shape = (*index.shape[:axis], 1, *index.shape[axis:])
    classes = np.arange(float(depth)).reshape((depth, *(1,) * (rank - 1 - axis)))
    column = movement.reshape(builder, index, shape)
    hit = logic.equal(builder, column, classes)
    # Indices in [-depth, -1] count from the end.
    hit = arithmetic.add(builder, hit, logic.equal(builder, column, classes - depth))
    result = arithmetic.multiply(builder, hit, np.asarray(on - off))
    result = arithmetic.add(builder, result, np.asarray(off)) if off else result
    return Symbol(result.key, result.shape, operation.constant(2).dtype)


def _boolean(x: Symbol) -> Symbol:
    return Symbol(x.key, x.shape, np.dtype(np.bool_))
