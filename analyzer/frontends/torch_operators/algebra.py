"""ATen's operators on entries, and its sums and products."""

from types import MappingProxyType

import numpy as np

from absolver.analyzer.frontends.builder import GraphBuilder, Symbol, Value
from absolver.analyzer.frontends.errors import LoweringError
from absolver.analyzer.frontends.handlers import Lowered, handles
from absolver.analyzer.frontends.lowering import arithmetic, elementwise, logic
from absolver.analyzer.frontends.torch_operators.arguments import (
    Number,
    Operand,
    as_constant,
    as_value,
    completed,
)

PLAIN = MappingProxyType(
    {name: name for name in ("relu", "sigmoid", "tanh", "exp", "log", "sqrt", "reciprocal")}
    | {name: name for name in ("abs", "sign", "sin", "cos", "tan", "atan", "erf", "silu", "mish")}
    | {name: name for name in ("floor", "ceil", "round")}
    | {"hardswish": "hard_swish"}
)
"""ATen operators of one operand that are operators of the language, with their name there."""


@handles(*PLAIN)
def plain(builder: GraphBuilder, operator: str, x: Symbol) -> Lowered:
    """Apply the operator of the same meaning."""
    return builder.apply(PLAIN[operator], x)


@handles("add", "sub")
def add(
    builder: GraphBuilder, operator: str, x: Operand, y: Operand, *, alpha: Number = 1
) -> Lowered:
    """Give `x + alpha * y`, or `x - alpha * y`."""
    x, y = as_value(x), as_value(y)
    if alpha != 1:
        factor = np.asarray(float(alpha))
        y = arithmetic.multiply(builder, y, factor) if isinstance(y, Symbol) else y * factor
    return (
        arithmetic.add(builder, x, y) if operator == "add" else arithmetic.subtract(builder, x, y)
    )


@handles("rsub")
def reversed_subtract(builder: GraphBuilder, operator: str, x: Symbol, y: Operand) -> Lowered:
    """Give `y - x`."""
    return arithmetic.subtract(builder, as_value(y), x)


@handles("neg")
def negate(builder: GraphBuilder, operator: str, x: Symbol) -> Lowered:
    """Change the sign."""
    return arithmetic.negate(builder, x)


@handles("mul")
def multiply(builder: GraphBuilder, operator: str, x: Operand, y: Operand) -> Lowered:
    """Multiply elementwise."""
    return arithmetic.multiply(builder, as_value(x), as_value(y))


@handles("div")
def divide(
    builder: GraphBuilder,
    operator: str,
    x: Operand,
    y: Operand,
    *,
    rounding_mode: str | None = None,
) -> Lowered:
    """Divide elementwise."""
    quotient = arithmetic.divide(builder, as_value(x), as_value(y))
    match rounding_mode:
        case None:
            return quotient
        case "floor":
            return builder.apply("floor", quotient)
    return logic.truncate(builder, quotient)


@handles("rsqrt")
def reciprocal_root(builder: GraphBuilder, operator: str, x: Symbol) -> Lowered:
    """Divide 1 by the root."""
    return builder.apply("reciprocal", builder.apply("sqrt", x))


@handles("mm", "bmm", "matmul")
def matmul(builder: GraphBuilder, operator: str, x: Value, y: Value) -> Lowered:
    """Multiply matrices."""
    return arithmetic.matmul(builder, x, y)


@handles("linear")
def linear(
    builder: GraphBuilder, operator: str, x: Symbol, weight: Value, bias: Value | None = None
) -> Lowered:
    """Apply a dense layer to the last axis."""
    if isinstance(weight, Symbol) or isinstance(bias, Symbol):
        raise LoweringError("a weight that depends on the input is not covered")
    return arithmetic.dense(builder, x, weight, bias)


@handles("addmm", "baddbmm")
def add_product(builder: GraphBuilder, operator: str, bias: Value, x: Value, y: Value) -> Lowered:
    """Add a product of matrices."""
    return arithmetic.add(builder, arithmetic.matmul(builder, x, y), bias)


@handles("pow")
def power(builder: GraphBuilder, operator: str, x: Operand, exponent: Operand) -> Lowered:
    """Raise to a constant power."""
    if not isinstance(x, Symbol) or isinstance(exponent, Symbol):
        raise LoweringError("an exponent that depends on the input is not covered")
    return elementwise.power(builder, x, as_constant(exponent))


@handles("maximum", "minimum")
def extreme(builder: GraphBuilder, operator: str, x: Operand, y: Operand) -> Lowered:
    """Take the larger (smaller) of two tensors."""
    lower = elementwise.maximum if operator == "maximum" else elementwise.minimum
    return lower(builder, as_value(x), as_value(y))


@handles("clamp", "hardtanh", "clamp_min", "clamp_max", "relu6")
def clip(builder: GraphBuilder, operator: str, x: Symbol, *bounds: Operand | None) -> Lowered:
    """Confine to an interval."""
    default: tuple[Operand | None, ...] = {
        "hardtanh": (-1.0, 1.0),
        "relu6": (0.0, 6.0),
    }.get(operator, (None, None))
    if operator == "clamp_max":
        bounds = (None, *bounds)
    low, high = (None if b is None else as_value(b) for b in (*bounds, *default[len(bounds) :]))
    return elementwise.clip(builder, x, low, high)


@handles("leaky_relu")
def leaky_relu(builder: GraphBuilder, operator: str, x: Symbol, slope: Number = 0.01) -> Lowered:
    """Multiply negative entries by a number."""
    return elementwise.leaky_relu(builder, x, np.asarray(slope))


@handles("prelu", "_prelu_kernel")
def learned_leaky_relu(builder: GraphBuilder, operator: str, x: Symbol, alpha: Value) -> Lowered:
    """Multiply negative entries by one number a channel."""
    slope = as_constant(alpha)
    if operator == "prelu" and slope.size > 1:
        slope = slope.reshape(-1, *(1,) * (len(x.shape) - 2))
    return elementwise.leaky_relu(builder, x, slope)


@handles("elu")
def elu(builder: GraphBuilder, operator: str, x: Symbol, *parameters: Number) -> Lowered:
    """Give `scale * elu(x * input_scale)`, alpha being `scale`'s companion below 0."""
    alpha, scale, input_scale = completed(parameters, 1, 1, 1)
    if input_scale != 1:
        raise LoweringError("an ELU that scales its input is not covered")
    curved = builder.apply("elu", x, alpha=float(alpha))
    return curved if scale == 1 else arithmetic.multiply(builder, curved, np.asarray(scale))


@handles("gelu")
def gelu(builder: GraphBuilder, operator: str, x: Symbol, *, approximate: str = "none") -> Lowered:
    """Apply GELU."""
    return builder.apply("gelu", x, approximate=approximate)


@handles("hardsigmoid")
def hard_sigmoid(builder: GraphBuilder, operator: str, x: Symbol) -> Lowered:
    """Give `clip(x + 3, 0, 6) / 6`."""
    line = arithmetic.add(builder, x, np.asarray(3.0))
    clipped = elementwise.clip(builder, line, np.asarray(0.0), np.asarray(6.0))
    return arithmetic.divide(builder, clipped, np.asarray(6.0))


@handles("softplus")
def softplus(
    builder: GraphBuilder, operator: str, x: Symbol, beta: Number = 1, threshold: Number = 20
) -> Lowered:
    """Give `softplus(beta * x) / beta`.

    Beyond the threshold torch returns x itself, which differs by less than exp(-threshold) / beta.
    """
    if beta == 1:
        return builder.apply("softplus", x)
    factor = np.asarray(float(beta))
    inner = arithmetic.multiply(builder, x, factor)
    return arithmetic.divide(builder, builder.apply("softplus", inner), factor)


@handles("gt", "lt", "ge", "le", "eq", "ne")
def compare(builder: GraphBuilder, operator: str, x: Operand, y: Operand) -> Lowered:
    """Compare."""
    first, second = as_value(x), as_value(y)
    if operator in ("lt", "ge"):
        first, second = second, first
    if operator in ("eq", "ne"):
        result = logic.equal(builder, first, second)
    else:
        result = logic.greater(builder, first, second)
    return logic.negated(builder, result) if operator in ("ge", "le", "ne") else result


@handles("logical_not")
def negated(builder: GraphBuilder, operator: str, x: Symbol) -> Lowered:
    """Negate a truth value."""
    return logic.negated(builder, x)


@handles("where")
def where(builder: GraphBuilder, operator: str, condition: Value, x: Value, y: Value) -> Lowered:
    """Choose between two tensors."""
    return logic.where(builder, condition, x, y)
