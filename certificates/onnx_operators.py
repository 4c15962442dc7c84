"""What each ONNX operator becomes, as lowering.md says."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
from onnx import helper

from absolver.certificates import onnx_linear as linear
from absolver.certificates.onnx_evaluation import MOVED, moved
from absolver.certificates.onnx_graph import Step, Value, Variable

# Operators of one operand that have a rule under their own name.
_CURVES = frozenset("Abs Ceil Cos Exp Floor Log Reciprocal Relu Sigmoid Sign Sin Sqrt Tanh".split())


def lower(step: Step) -> list[Variable]:
    """The outputs of a node with an operand that depends on the input."""
    if step.kind in MOVED:
        return moved(step)
    if step.kind in _CURVES:
        result = step.apply(step.kind.lower(), step.variable())
    elif step.kind in _LOWERINGS:
        result = _LOWERINGS[step.kind](step)
    else:
        raise step.refuse("no rule for this operator")
    step.finish()
    return [result]


def _sum(step: Step) -> Variable:
    """Add and Sum; an execution may take another order: every node allows for all additions."""
    values = sorted(step.operands, key=lambda value: not isinstance(value, Variable))
    result: Variable = values[0]
    for value in values[1:]:
        result = step.add(result, value, roundings=len(values) - 1)
    return result


def _product(step: Step) -> Variable:
    x, y = step.operands
    if isinstance(x, Variable) and isinstance(y, Variable):
        return step.apply("square", x, executed="mul") if x is y else step.apply("mul", x, y)
    return step.scale(x, y) if isinstance(x, Variable) else step.scale(y, x)


def _quotient(step: Step) -> Variable:
    x, y = step.operands
    if not isinstance(y, Variable):
        return step.scale(x, 1.0, y)
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
    named = {2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"}
    if exponent in named:
        return step.apply(named[exponent], x, executed="pow")
    return step.apply("cube", x) if exponent == 3 else step.apply("pow", x, exponent=exponent)


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
        wide = result.broadcast(np.broadcast_shapes(result.shape, bound.shape))
        return step.apply("clip", wide, min=low, max=high)
    if function == "max":
        return step.add(step.apply("relu", step.add(result, -bound)), bound)
    return step.add(step.negate(step.apply("relu", step.add(step.negate(result), bound))), bound)


def _clip(step: Step) -> Variable:
    low, high = (
        step.constant(position) if step.opset >= 11 else step.attribute(name)
        for position, name in ((1, "min"), (2, "max"))
    )
    least = -math.inf if low is None else float(low)
    most = math.inf if high is None else float(high)
    if math.isnan(least) or math.isnan(most):
        raise step.refuse("a bound is no number")
    # Where the bounds cross, the upper one wins.
    return step.apply("clip", step.variable(), min=min(least, most), max=most)


def _leaky_relu(step: Step) -> Variable:
    alpha = step.floats(step.attribute("alpha", np.float32(0.01))).item()
    return step.apply("leaky_relu", step.variable(), alpha=alpha)


def _pooled(step: Step) -> Variable:
    """Pools and reductions: the extreme, sum or mean of the cells for each entry of the result."""
    x, kind = step.variable(), step.kind
    if kind in ("MaxPool", "AveragePool"):
        step.attribute("storage_order")  # about the second output of MaxPool, which has no rule
        axes = linear.window_axes(step, x.shape[2:], step.attribute("kernel_shape"))
        places = [inside for inside, _ in axes]
        if kind == "MaxPool":
            places = [linear.without_padding(step, inside) for inside in places]
        padded = step.attribute("count_include_pad", 0)
        counts = [both if padded else (inside >= 0).sum(axis=1) for inside, both in axes]
        cells, count = linear.windows(step, x, places), reduce(np.multiply.outer, counts)
        shape = list(cells.shape[:-1])
    else:
        rank, operand, keep = len(x.shape), step.constant(1), step.attribute("keepdims", 1)
        given = step.attribute("axes") if operand is None else operand.tolist()
        if step.attribute("noop_with_empty_axes", 0) and not given:
            raise step.refuse("no rule for noop_with_empty_axes")
        reduced = [i % rank for i in given or range(2 * kind.startswith("Global"), rank)]
        kept = [n for i, n in enumerate(x.shape) if i not in reduced]
        shape = [1 if i in reduced else n for i, n in enumerate(x.shape)] if keep else kept
        index = np.moveaxis(x.index, reduced, range(len(kept), rank))
        cells = replace(x, index=index.reshape(*kept, -1))
        count = cells.shape[-1]
    if kind.endswith(("Max", "Min", "MaxPool")):
        entries = [replace(x, index=part) for part in np.moveaxis(cells.index, -1, 0)]
        result = _extreme(step, "min" if kind == "ReduceMin" else "max", entries)
    else:
        result = linear.total(step, cells)
        if kind != "ReduceSum":  # executions may multiply by the reciprocal
            result = step.scale(result, 1.0, count, roundings=2)
    return result.arranged(lambda index: index.reshape(shape))


def _softmax(step: Step) -> Variable:
    x = step.variable()
    numbers = np.arange(x.size).reshape(x.shape)
    axis = step.attribute("axis", -1 if step.opset >= 13 else 1) % len(x.shape)
    if step.opset >= 13:
        rows = np.moveaxis(numbers, axis, -1)
    else:
        rows = numbers.reshape(math.prod(x.shape[:axis]), -1)
    n = rows.shape[-1]
    other, own = x.at(rows[..., None, :]), step.negate(x).at(rows[..., None])
    differences = step.add(other, own)
    apart = ~np.eye(n, dtype=bool)
    left = differences.arranged(lambda i: i[..., apart].reshape(*rows.shape, n - 1))
    powers = step.apply("exp", left, executed="composite")
    others = step.add(linear.total(step, powers), np.ones(()))
    result = step.apply("reciprocal", others, executed="composite")
    return result.at(np.argsort(rows, axis=None).reshape(x.shape))


def _resize(step: Step) -> Variable:
    """Resize and Upsample: cell i comes from cell `floor(i / scale)`, computed in binary32."""
    x, recent = step.variable(), step.kind == "Resize" and step.opset >= 11
    scales = step.constant(2 if recent else 1)
    step.attribute("cubic_coeff_a")
    usual = ("half_pixel", "round_prefer_floor") if recent else ("asymmetric", "floor")
    names = ("coordinate_transformation_mode", "nearest_mode", "mode")
    modes = [step.attribute(*each) for each in zip(names, (*usual, "nearest"), strict=True)]
    if modes != ["asymmetric", "floor", "nearest"] or len(step.operands) > 3:
        raise step.refuse(f"no rule for {', '.join(modes)}, or for sizes")
    counts = np.floor(scales * np.array(x.shape, np.float32)).astype(int).tolist()
    step.reserve(*counts)
    places = [
        np.clip(np.floor(np.arange(m, dtype=np.float32) / scale), 0, n - 1).astype(int)
        for m, n, scale in zip(counts, x.shape, scales, strict=True)
    ]
    return x.arranged(lambda index: index[np.ix_(*places)])


def _cast(step: Step) -> Variable:
    target = helper.tensor_dtype_to_np_dtype(step.attribute("to"))
    step.attribute("saturate")  # about floats of 8 bits
    if target.name not in ("float32", "float64"):
        raise step.refuse(f"no rule for a cast to {target}")
    return replace(step.variable(), dtype=target)


def _dropout(step: Step) -> Variable:
    step.attribute("ratio"), step.attribute("seed")
    training = step.constant(2)
    if training is not None and training.any():
        raise step.refuse("no rule for training")
    return step.variable()


_LOWERINGS: Mapping[str, Callable[[Step], Variable]] = {
    **dict.fromkeys("AveragePool GlobalAveragePool GlobalMaxPool MaxPool".split(), _pooled),
    **dict.fromkeys("ReduceMax ReduceMean ReduceMin ReduceSum".split(), _pooled),
    **dict.fromkeys(("Conv", "ConvTranspose"), linear.convolution),
    **dict.fromkeys(("Add", "Sum"), _sum),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "BatchNormalization": linear.batch_normalization,
    "Cast": _cast,
    "Clip": _clip,
    "Div": _quotient,
    "Dropout": _dropout,
    "Gemm": linear.gemm,
    "Identity": Step.variable,
    "LeakyRelu": _leaky_relu,
    "MatMul": linear.matmul,
    "Max": lambda step: _extreme(step, "max", step.operands),
    "Min": lambda step: _extreme(step, "min", step.operands),
    "Mul": _product,
    "Neg": lambda step: step.negate(step.variable()),
    "Pow": _power,
    "Softmax": _softmax,
    "Sub": lambda step: step.add(step.operands[0], step.negate(step.operands[1]), roundings=1),
}
