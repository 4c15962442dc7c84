"""ONNX's operators that act on each entry and are not an operator of the language as they are."""

import numpy as np

from absolver.analyzer.frontends.builder import Symbol, Value
from absolver.analyzer.frontends.errors import LoweringError
from absolver.analyzer.frontends.handlers import Lowered, handles
from absolver.analyzer.frontends.lowering import arithmetic, elementwise
from absolver.analyzer.frontends.onnx_operators.operation import Operation


@handles("Max", "Min")
def extreme(operation: Operation) -> Lowered:
    """Take the largest, or the smallest, of some tensors."""
    operands = [operation.operand(i) for i in range(len(operation.operands))]
    lower = elementwise.minimum if operation.operator == "Min" else elementwise.maximum
    return lower(operation.builder, *operands)


@handles("Clip")
def clip(operation: Operation) -> Lowered:
    """Confine to an interval, given as attributes (before opset 11) or operands."""
    bounds: list[Value | None] = []
    for index, name in ((1, "min"), (2, "max")):
        number = operation.attribute(name)
        given = operation.operand(index) if operation.has(index) else None
        bounds.append(given if number is None else np.asarray(number))
    return elementwise.clip(operation.builder, operation.symbol(), bounds[0], bounds[1])


@handles("PRelu")
def learned_leaky_relu(operation: Operation) -> Lowered:
    """Multiply negative entries by a constant tensor."""
    return elementwise.leaky_relu(operation.builder, operation.symbol(), operation.constant(1))


@handles("HardSigmoid")
def hard_sigmoid(operation: Operation) -> Lowered:
    """Confine `alpha * x + beta` to [0, 1]."""
    builder, beta = operation.builder, operation.attribute("beta", 0.5)
    slope = np.asarray(operation.attribute("alpha", 0.2))
    line = arithmetic.multiply(builder, operation.symbol(), slope)
    if beta:
        line = arithmetic.add(builder, line, np.asarray(beta))
    return elementwise.clip(builder, line, np.zeros(()), np.ones(()))


@handles("Celu")
def celu(operation: Operation) -> Lowered:
    """Stretch an ELU: `alpha * elu(x / alpha)`."""
    builder, alpha = operation.builder, np.asarray(operation.attribute("alpha", 1.0))
    curved = builder.apply("elu", arithmetic.divide(builder, operation.symbol(), alpha))
    return arithmetic.multiply(builder, curved, alpha)


@handles("Selu")
def selu(operation: Operation) -> Lowered:
    """Scale an ELU: `gamma * elu(x, alpha)`."""
    alpha = operation.attribute("alpha", 1.67326319217681884765625)
    gamma = operation.attribute("gamma", 1.05070102214813232421875)
    curved = operation.builder.apply("elu", operation.symbol(), alpha=alpha)
    return arithmetic.multiply(operation.builder, curved, np.asarray(gamma))


@handles("Pow")
def power(operation: Operation) -> Lowered:
    """Raise to a constant power, or a positive constant to a power."""
    builder, base = operation.builder, operation.operand(0)
    if isinstance(base, Symbol):
        return elementwise.power(builder, base, operation.constant(1))
    if not (base > 0).all():
        raise LoweringError("a power of a constant that is not positive is not covered")
    # c^x = exp(x * log c)
    logarithm = np.log(base.astype(np.float64))
    exponent = arithmetic.multiply(builder, operation.symbol(1), logarithm)
    return builder.apply("exp", exponent)


@handles("Swish", "Silu")
def silu(operation: Operation) -> Lowered:
    """Multiply x by `sigmoid(alpha * x)`: with alpha = 1 an operator of the language."""
    builder, x = operation.builder, operation.symbol()
    alpha = operation.attribute("alpha", 1.0)
    if alpha == 1:
        return builder.apply("silu", x)
    gate = builder.apply("sigmoid", arithmetic.multiply(builder, x, np.asarray(alpha)))
    return arithmetic.multiply(builder, x, gate)


@handles("Softsign")
def softsign(operation: Operation) -> Lowered:
    """Divide x by `1 + |x|`."""
    builder, x = operation.builder, operation.symbol()
    below = arithmetic.add(builder, builder.apply("abs", x), np.ones(()))
    return arithmetic.divide(builder, x, below)
