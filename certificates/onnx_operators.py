"""What each ONNX operator becomes, as lowering.md says."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from absolver.certificates.onnx_evaluation import MOVED, moved
from absolver.certificates.onnx_graph import Step, Value, Variable
from absolver.certificates.onnx_linear import (
    addition,
    average_pool,
    batch_normalization,
    convolution,
    gemm,
    matmul,
    max_pool_cells,
    mean,
    resize,
)

# Operators of the language as they are, and what their attributes are where the file is silent.
_CURVES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    dict.fromkeys(
        "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor HardSwish Log Mish "
        "Reciprocal Relu Round Sigmoid Sign Sin Sinh Softplus Sqrt Tan Tanh".split(),
        {},
    )
    | {"Elu": {"alpha": 1.0}, "LeakyRelu": {"alpha": float(np.float32(0.01))}}
)


def lower(step: Step) -> list[Variable]:
    """The outputs of a node with an operand that depends on the input."""
    if step.kind in _CURVES:
        attributes = _CURVES[step.kind].items()
        read = {
            name: step.floats(step.attribute(name, default)).item() for name, default in attributes
        }
        name = {"LeakyRelu": "leaky_relu"}.get(step.kind, step.kind.lower())
        results = [step.apply(name, step.variable(), executed="", **read)]
    elif step.kind in _LOWERINGS:
        results = [_LOWERINGS[step.kind](step)]
    elif step.kind in MOVED:
        return moved(step)
    else:
        raise step.refuse("no rule for this operator")
    step.finish()
    return results


def _constant_one() -> NDArray[np.float32]:
    return np.ones((), np.float32)


def _difference(step: Step) -> Variable:
    return step.add((1, step.value(0)), (-1, step.value(1)), roundings=1)


def _negated(step: Step, x: Variable) -> Variable:
    return step.scale(x, -1, roundings=0)


def _times(step: Step, x: Value, y: Value, executed: str = "mul") -> Variable:
    if not isinstance(x, Variable):
        x, y = y, x
    assert isinstance(x, Variable)
    if not isinstance(y, Variable):
        return step.scale(x, y, roundings=0 if executed == "exact" else 1)
    if x == y:
        return step.apply("square", x, executed=executed)
    return step.apply("mul", x, y, executed=executed)


def _quotient(step: Step) -> Variable:
    x, y = step.value(0), step.value(1)
    if x.dtype.kind != "f":
        raise step.refuse("no rule for a division of integers")
    if not isinstance(y, Variable):
        return step.scale(step.variable(), 1.0, y)
    inverse = step.apply("reciprocal", y, executed="exact")
    if isinstance(x, Variable):
        return step.apply("mul", x, inverse, executed="division")
    return step.scale(inverse, x)


def _power(step: Step) -> Variable:
    x, exponents = step.variable(), step.floats(step.constant(1))
    if np.ptp(exponents) or np.broadcast_shapes(x.shape, exponents.shape) != x.shape:
        raise step.refuse("only a single exponent has a rule")
    exponent = float(exponents.flat[0])
    if exponent == 1:
        return x
    named = {2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"}.get(exponent)
    if named:
        return step.apply(named, x, executed="pow")
    return step.apply("pow", x, exponent=exponent)


def _extreme(step: Step, function: str, values: Sequence[Value]) -> Variable:
    """`max` or `min` of all values; an execution of it makes no rounding."""
    variables = [value for value in values if isinstance(value, Variable)]
    constants = [step.floats(value) for value in values if not isinstance(value, Variable)]
    result = step.apply(function, *variables) if len(variables) > 1 else variables[0]
    if not constants:
        return result
    bound = reduce(np.maximum if function == "max" else np.minimum, constants)
    if bound.size == 1:
        low, high = (bound.item(), math.inf) if function == "max" else (-math.inf, bound.item())
        wide = step.broadcast(result, np.broadcast_shapes(result.shape, bound.shape))
        return step.apply("clip", wide, min=low, max=high)
    sign = 1 if function == "max" else -1
    excess = step.apply("relu", step.add((sign, result), (-sign, bound)))
    return step.add((sign, excess), (1, bound))


def _clip(step: Step) -> Variable:
    x = step.variable()
    low, high = step.attribute("min"), step.attribute("max")
    if step.opset >= 11:
        low, high = (*step.operands[1:3], None, None)[:2]
    if isinstance(low, Variable) or isinstance(high, Variable):
        x = x if low is None else _extreme(step, "max", [x, low])
        return x if high is None else _extreme(step, "min", [x, high])
    least = -math.inf if low is None else np.asarray(low).item()
    most = math.inf if high is None else np.asarray(high).item()
    if math.isnan(least) or math.isnan(most):
        raise step.refuse("a bound is no number")
    # Where the bounds cross, the upper one wins.
    return step.apply("clip", x, min=float(min(least, most)), max=float(most))


def _prelu(step: Step) -> Variable:
    x, slopes = step.variable(), step.floats(step.constant(1))
    return step.apply("leaky_relu", x, alpha=np.broadcast_to(slopes, x.shape).flatten())


def _hard_sigmoid(step: Step) -> Variable:
    alpha, beta = step.attribute("alpha", np.float32(0.2)), step.attribute("beta", 0.5)
    line = step.scale(step.variable(), alpha, bias=beta, roundings=2)
    return step.apply("clip", line, min=0.0, max=1.0)


def _gelu(step: Step) -> Variable:
    exact = step.attribute("approximate", "none") == "none"
    return step.apply("gelu" if exact else "gelu_tanh", step.variable())


def _reduction(step: Step) -> Variable:
    x, rank, kind = step.variable(), len(step.variable().shape), step.kind
    pooled = kind.startswith("Global")
    operand = step.optional(1)
    given = step.attribute("axes") if operand is None else operand.tolist()
    if step.attribute("noop_with_empty_axes", 0) and not given:
        raise step.refuse("no rule for noop_with_empty_axes")
    keep = step.attribute("keepdims", 1)
    axes = tuple(range(2, rank)) if pooled else tuple(i % rank for i in given or range(rank))
    if kind.endswith(("Max", "Min", "MaxPool")):
        index = np.moveaxis(x.numbers(), axes, range(len(axes)))
        rows = index.reshape(-1, *index.shape[len(axes) :])
        function = "min" if kind == "ReduceMin" else "max"
        result = _extreme(step, function, [step.assemble([x], row) for row in rows])
    elif kind in ("ReduceSumSquare", "ReduceL2"):
        squares = step.apply("square", x, executed="exact")
        result = step.total(squares, axes, products=True)
        result = step.apply("sqrt", result) if kind == "ReduceL2" else result
    else:
        result = step.total(x, axes)
        if kind != "ReduceSum":
            result = mean(step, result, math.prod(x.shape[i] for i in axes))
    return _kept(result, x, axes) if keep else result


def _kept(result: Variable, x: Variable, axes: Sequence[int]) -> Variable:
    return result.reshape(*(1 if i in axes else n for i, n in enumerate(x.shape)))


def _softmax(step: Step) -> Variable:
    x = step.variable()
    axis = step.attribute("axis", -1 if step.opset >= 13 else 1) % len(x.shape)
    if step.opset >= 13:
        rows = np.moveaxis(x.numbers(), axis, -1)
    else:
        rows = x.numbers().reshape(math.prod(x.shape[:axis]), -1)
    shape, n = rows.shape, rows.shape[-1]
    step.reserve(*shape, n)
    other = step.assemble([x], np.broadcast_to(rows[..., None, :], (*shape, n)))
    own = step.assemble([x], np.broadcast_to(rows[..., :, None], (*shape, n)))
    apart = ~np.eye(n, dtype=bool)
    differences = step.move(
        step.add((1, other), (-1, own)), lambda i: i[..., apart].reshape(*shape, n - 1)
    )
    powers = step.apply("exp", differences, executed="composite")
    total = step.add((1, step.total(powers, (len(shape),))), (1, _constant_one()))
    if step.kind == "Softmax":
        result = step.apply("reciprocal", total, executed="composite")
    else:
        result = _negated(step, step.apply("log", total, executed="composite"))
    return step.assemble([result], np.argsort(rows, axis=None).reshape(x.shape))


def _normalization(step: Step) -> Variable:
    x, rank = step.variable(), len(step.variable().shape)
    epsilon = np.array(step.attribute("epsilon", 1e-5), np.float32)
    if step.kind == "LayerNormalization":
        first, scale, bias = step.attribute("axis", -1) % rank, step.constant(1), step.optional(2)
        step.attribute("stash_type")
    else:
        first, spread = 2, (-1,) + (1,) * (rank - 2)
        scale, bias = (step.constant(i).reshape(spread) for i in (1, 2))
    axes = range(first, rank)

    def average(values: Variable) -> Variable:
        total = mean(step, step.total(values, axes), math.prod(x.shape[first:]))
        return _kept(total, x, axes)

    centred = step.add((1, x), (-1, average(x)))
    variance = average(step.apply("square", centred, executed="composite"))
    deviation = step.apply("sqrt", step.add((1, variance), (1, epsilon)), executed="composite")
    inverse = step.apply("reciprocal", deviation, executed="composite")
    ratio = step.apply("mul", centred, inverse, executed="composite")
    return step.scale(ratio, scale, bias=bias)


# Truth values and integers: executions of these make no rounding.


def _above(step: Step, x: Value, y: Value) -> Variable:
    return step.apply("relu", step.apply("sign", step.add((1, x), (-1, y))))


def _not(step: Step, x: Variable) -> Variable:
    return step.add((1, _constant_one()), (-1, x))


def _and(step: Step, x: Variable, y: Variable) -> Variable:
    return step.apply("relu", step.add((1, x), (1, y), (-1, _constant_one())))


def _or(step: Step, x: Variable, y: Variable) -> Variable:
    return step.add((1, x), (1, y), (-1, _and(step, x, y)))


def _equal(step: Step, x: Value, y: Value) -> Variable:
    difference = step.add((1, x), (-1, y))
    return _not(step, step.apply("abs", step.apply("sign", difference)))


def _truth(result: Variable) -> Variable:
    return replace(result, dtype=np.dtype(bool))


def _where(step: Step) -> Variable:
    condition, x, y = (step.value(i) for i in range(3))
    if not isinstance(condition, Variable):
        return moved(step)[0]
    yes = _times(step, condition, x, "exact")
    no = _times(step, _not(step, condition), y, "exact")
    return replace(step.add((1, yes), (1, no)), dtype=x.dtype)


def _cast(step: Step) -> Variable:
    x, target = step.variable(), helper.tensor_dtype_to_np_dtype(step.attribute("to"))
    step.attribute("saturate")  # about floats of 8 bits
    if target.kind == "b" and x.dtype.kind != "b":
        x = step.apply("abs", step.apply("sign", x))
    if target.kind == "i" and x.dtype.kind == "f":
        up = step.apply("floor", step.apply("relu", x))
        down = step.apply("floor", step.apply("relu", _negated(step, x)))
        x = step.add((1, up), (-1, down))
    return replace(x, dtype=target)


def _arg_max(step: Step) -> Variable:
    x = step.variable()
    axis = step.attribute("axis", 0) % len(x.shape)
    last, keep = step.attribute("select_last_index", 0), step.attribute("keepdims", 1)
    signed = x if step.kind == "ArgMax" else _negated(step, x)
    rows = np.moveaxis(x.numbers(), axis, 0)
    entries = [step.assemble([signed], row) for row in rows]
    terms: list[tuple[int, Value]] = []
    for i, entry in enumerate(entries[1:], 1):
        # Of equal entries the first one counts, or the last one.
        before = _extreme(step, "max", entries[:i])
        found = _not(step, _above(step, before, entry)) if last else _above(step, entry, before)
        if entries[i + 1 :]:
            after = _extreme(step, "max", entries[i + 1 :])
            rest = _above(step, entry, after) if last else _not(step, _above(step, after, entry))
            found = _and(step, found, rest)
        terms.append((1, step.scale(found, i, roundings=0)))
    result = replace(step.add(*terms), dtype=np.dtype(np.int64))
    return _kept(result, x, (axis,)) if keep else result


def _one_hot(step: Step) -> Variable:
    x, depth, values = step.variable(), int(step.constant(1).item()), step.constant(2)
    off, on = step.floats(values).tolist()
    if off:
        raise step.refuse("only 0 has a rule for the other classes")
    rank = len(x.shape) + 1
    axis = step.attribute("axis", -1) % rank
    step.reserve(x.size, depth)
    classes = np.arange(depth).reshape([depth if i == axis else 1 for i in range(rank)])
    wide = x.reshape(*np.expand_dims(x.numbers(), axis).shape)
    hits = [_equal(step, wide, classes - shift) for shift in (0, depth)]
    result = step.scale(step.add((1, hits[0]), (1, hits[1])), on, roundings=0)
    return replace(result, dtype=values.dtype)


def _gather_elements(step: Step) -> Variable:
    indices, axis = step.constant(1), step.attribute("axis", 0)
    places = np.indices(indices.shape)
    places[axis] = indices
    return step.move(step.variable(), lambda i: i[tuple(places)])


def _dropout(step: Step) -> Variable:
    step.attribute("ratio"), step.attribute("seed")
    training = step.optional(2)
    if training is not None and training.any():
        raise step.refuse("no rule for training")
    return step.variable()


_LOWERINGS: Mapping[str, Callable[[Step], Variable]] = MappingProxyType(
    dict.fromkeys("ArgMax ArgMin".split(), _arg_max)
    | dict.fromkeys("Conv ConvTranspose".split(), convolution)
    | dict.fromkeys("GlobalAveragePool GlobalMaxPool".split(), _reduction)
    | dict.fromkeys(
        "ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare".split(), _reduction
    )
    | dict.fromkeys("InstanceNormalization LayerNormalization".split(), _normalization)
    | dict.fromkeys("LogSoftmax Softmax".split(), _softmax)
    | dict.fromkeys("Resize Upsample".split(), resize)
    | {
        "Add": addition,
        "And": lambda step: _truth(_and(step, step.variable(0), step.variable(1))),
        "AveragePool": average_pool,
        "BatchNormalization": batch_normalization,
        "Cast": _cast,
        "Clip": _clip,
        "Div": _quotient,
        "Dropout": _dropout,
        "Equal": lambda step: _truth(_equal(step, *step.values())),
        "GatherElements": _gather_elements,
        "Gelu": _gelu,
        "Gemm": gemm,
        "Greater": lambda step: _truth(_above(step, *step.values())),
        "GreaterOrEqual": lambda step: _truth(_not(step, _above(step, *step.values()[::-1]))),
        "HardSigmoid": _hard_sigmoid,
        "Identity": lambda step: step.variable(),
        "Less": lambda step: _truth(_above(step, *step.values()[::-1])),
        "LessOrEqual": lambda step: _truth(_not(step, _above(step, *step.values()))),
        "MatMul": matmul,
        "Max": lambda step: _extreme(step, "max", step.values()),
        "MaxPool": lambda step: _extreme(step, "max", max_pool_cells(step)),
        "Mean": lambda step: mean(step, addition(step), len(step.operands)),
        "Min": lambda step: _extreme(step, "min", step.values()),
        "Mul": lambda step: _times(step, *step.values()),
        "Neg": lambda step: _negated(step, step.variable()),
        "Not": lambda step: _truth(_not(step, step.variable())),
        "OneHot": _one_hot,
        "Or": lambda step: _truth(_or(step, step.variable(0), step.variable(1))),
        "PRelu": _prelu,
        "Pow": _power,
        "Sub": _difference,
        "Sum": addition,
        "Where": _where,
    }
)
