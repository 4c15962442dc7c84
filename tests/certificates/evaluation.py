"""Evaluates a checker's network in float64, for comparisons; the checker has no use for it."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.network import Affine, Floats, LinearMap, Move, Network, Product, Scale

_ERF = np.vectorize(math.erf, otypes=[float])
FUNCTIONS: Mapping[str, Callable[..., Floats]] = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x, alpha: np.where(x > 0, x, alpha * x),
    "abs": np.abs,
    "clip": lambda x, min, max: np.minimum(np.maximum(x, min), max),
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "max": lambda *xs: np.maximum.reduce(xs),
    "min": lambda *xs: np.minimum.reduce(xs),
    "mul": np.multiply,
    "square": np.square,
    "cube": lambda x: x * x * x,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "reciprocal": np.reciprocal,
    "pow": lambda x, exponent: np.power(x, exponent),
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": _ERF,
    "softplus": lambda x: np.logaddexp(0, x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "elu": lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x * (1 + _ERF(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: (
        x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + np.float32(0.044715) * x**3)))
    ),
}


def evaluate(network: Network, x: NDArray[np.float64]) -> Floats:
    """All outputs, joined flat."""
    values: list[Floats] = [np.asarray(x, np.float64).ravel()]
    assert values[0].size == network.sizes[0]
    for node, size in zip(network.nodes[1:], network.sizes[1:], strict=True):
        assert node is not None and node.size == size
        if isinstance(node, Affine):
            result = np.zeros(size) if node.bias is None else node.bias.copy()
            for of, linear in node.terms:
                result += apply(linear, values[of])
        else:
            operands = [values[of] for of in node.operands]
            assert all(operand.size == size for operand in operands)
            result = FUNCTIONS[node.function](*operands, **node.attributes)
        assert result.shape == (size,)
        values.append(result)
    return values[network.output]


def apply(linear: LinearMap, x: Floats) -> Floats:
    """The value of one map."""
    match linear:
        case Move():
            assert linear.size == x.size
            return np.append(x, 0.0)[linear.index]
        case Product():
            groups, inner, _ = linear.weight.shape
            return (x.reshape(groups, linear.outer, inner) @ linear.weight).ravel()
        case Scale():
            return x * linear.numerator / linear.denominator
        case _:
            result = np.zeros(linear.size)
            np.add.at(result, linear.index, x)
            return result
