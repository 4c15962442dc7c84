"""What a network that was read computes, by the definitions of its nodes, in float64."""

import math

import numpy as np
from scipy.special import erf, expit

from absolver.certificates.network import (
    Affine,
    LinearMap,
    Move,
    Network,
    Operator,
    Product,
    Scale,
)

FUNCTIONS = {
    "abs": np.abs,
    "ceil": np.ceil,
    "cos": np.cos,
    "erf": erf,
    "exp": np.exp,
    "floor": np.floor,
    "log": np.log,
    "reciprocal": lambda x: 1 / x,
    "relu": lambda x: np.maximum(x, 0),
    "round": np.rint,
    "sigmoid": expit,
    "sign": np.sign,
    "sin": np.sin,
    "softplus": lambda x: np.logaddexp(0, x),
    "sqrt": np.sqrt,
    "square": np.square,
    "cube": lambda x: x * x * x,
    "tanh": np.tanh,
}


def evaluate(network: Network, x: np.ndarray) -> np.ndarray:
    """The output at one point."""
    values = [np.asarray(x, np.float64)]
    for node in network.nodes[1:]:
        assert node is not None
        value = _affine(node, values) if isinstance(node, Affine) else _operator(node, values)
        assert value.shape == (node.size,)
        values.append(value)
    return values[network.output]


def _affine(node: Affine, values: list[np.ndarray]) -> np.ndarray:
    total = np.zeros(node.size) if node.bias is None else node.bias.copy()
    for source, linear in node.terms:
        total = total + _mapped(linear, values[source])
    return total


def _mapped(linear: LinearMap, x: np.ndarray) -> np.ndarray:
    if isinstance(linear, Move):
        assert linear.size == x.size
        return np.where(linear.index >= 0, x[linear.index], 0.0)
    if isinstance(linear, Product):
        groups, k, _ = linear.weight.shape
        return (x.reshape(groups, linear.outer, k) @ linear.weight).ravel()
    if isinstance(linear, Scale):
        return x * linear.numerator / linear.denominator
    return np.bincount(linear.index, x, linear.size)


def _operator(node: Operator, values: list[np.ndarray]) -> np.ndarray:
    operands, attributes = [values[p] for p in node.operands], node.attributes
    x = operands[0]
    match node.function:
        case "max" | "min":
            return (np.maximum if node.function == "max" else np.minimum).reduce(operands)
        case "mul":
            return x * operands[1]
        case "clip":
            low = attributes.get("min", -math.inf)
            return np.minimum(np.maximum(x, low), attributes.get("max", math.inf))
        case "leaky_relu":
            return np.where(x > 0, x, attributes["alpha"] * x)
        case "elu":
            return np.where(x > 0, x, attributes["alpha"] * np.expm1(np.minimum(x, 0)))
        case "pow":
            return x ** attributes["exponent"]
    return FUNCTIONS[node.function](x)
