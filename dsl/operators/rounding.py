"""Declared rounding errors of elementary functions: of torch in float64, of runtimes in float32.

Version 1. The tables have head-room over what was measured (`tests/dsl/operators/test_rounding.py`
measures again): torch 2.11 to 2.13 on CPUs (SLEEF, at most 1.5 ulp), CUDA's documented maximum
errors (at most 5 ulp in float64), onnxruntime 1.26 and 1.32 in float32, whose `Tanh` is off by
3.3e-7 of the value and whose `Sigmoid` by 1.8e-7 in absolute value (docs/error-tables.md).
"""

from collections.abc import Mapping
from math import inf
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

UNIT = 2.0**-53
"""The unit roundoff of float64, in which supports are proved."""
SINGLE = 2.0**-24
"""The unit roundoff of float32."""
FLOOR = 1e-250
"""Far above whatever underflow can lose in a few float64 operations, and far below any bound."""


class Roundings(NamedTuple):
    """`|computed - exact| <= u (absolute + relative |exact| + by_operand |x|)`, up to underflow.

    `exact` is the function at the floating-point argument x, and u the format's unit roundoff.
    """

    absolute: float = 0.0
    relative: float = 0.0
    by_operand: float = 0.0

    def size(self, value: Tensor, operand: Tensor) -> Tensor:
        """Return the error in units of u, from the sizes of the value and the operand."""
        size = torch.full_like(value, self.absolute)
        # No term where nothing is declared: 0 times infinity is no number.
        if self.relative:
            size = size + self.relative * value
        return size + self.by_operand * operand if self.by_operand else size

    def times(self, factor: float) -> "Roundings":
        """Return the errors of a function that is this one times a factor."""
        return Roundings(self.absolute * factor, self.relative, self.by_operand * factor)


class Declared(NamedTuple):
    """What is declared of one operator."""

    value: Roundings
    """Of the operator's formula as torch evaluates it in float64."""
    slope: Roundings
    """Of its derivative's formula."""
    execution: Roundings
    """Of the operator in float32 in any runtime, in units of float32's u."""
    least: float = -inf
    """What no value is below, neither an exact one nor one of any runtime."""


_EXACT = Roundings()

DECLARED: Mapping[str, Declared] = MappingProxyType(
    {
        "abs": Declared(_EXACT, _EXACT, _EXACT),
        "atan": Declared(Roundings(relative=8), Roundings(relative=8), Roundings(2, 4)),
        "ceil": Declared(_EXACT, _EXACT, _EXACT),
        "clip": Declared(_EXACT, _EXACT, _EXACT),
        "cos": Declared(Roundings(8), Roundings(8), Roundings(8)),
        "elu": Declared(Roundings(relative=8), Roundings(relative=8), Roundings(8, 8)),
        "erf": Declared(Roundings(relative=8), Roundings(8, 16), Roundings(4, 4)),
        "exp": Declared(Roundings(relative=8), Roundings(relative=8), Roundings(0, 8), 0.0),
        "floor": Declared(_EXACT, _EXACT, _EXACT),
        "gelu": Declared(Roundings(64, 64), Roundings(512, 64), Roundings(8, 8, 16)),
        "hard_swish": Declared(Roundings(0, 8), Roundings(16, 8), Roundings(0, 8, 8)),
        "leaky_relu": Declared(Roundings(relative=2), _EXACT, Roundings(relative=2)),
        "log": Declared(Roundings(relative=8), Roundings(relative=4), Roundings(4, 8)),
        "max": Declared(_EXACT, _EXACT, _EXACT),
        "min": Declared(_EXACT, _EXACT, _EXACT),
        "mish": Declared(Roundings(0, 128), Roundings(1024, 128), Roundings(8, 8, 16)),
        "mul": Declared(Roundings(relative=2), _EXACT, Roundings(relative=2)),
        "pow": Declared(Roundings(relative=16), Roundings(relative=2048), Roundings(0, 16)),
        "reciprocal": Declared(Roundings(relative=4), Roundings(relative=8), Roundings(0, 4)),
        "relu": Declared(_EXACT, _EXACT, _EXACT),
        "round": Declared(_EXACT, _EXACT, _EXACT),
        "sigmoid": Declared(Roundings(relative=16), Roundings(relative=64), Roundings(4, 4)),
        "sign": Declared(_EXACT, _EXACT, _EXACT),
        "silu": Declared(Roundings(relative=32), Roundings(256, 64), Roundings(4, 4, 4)),
        "sin": Declared(Roundings(8), Roundings(8), Roundings(8)),
        "softplus": Declared(Roundings(relative=32), Roundings(relative=16), Roundings(8, 8), 0.0),
        "sqrt": Declared(Roundings(relative=4), Roundings(relative=8), Roundings(0, 4), 0.0),
        "square": Declared(Roundings(relative=2), Roundings(relative=2), Roundings(0, 4), 0.0),
        "tan": Declared(Roundings(0, 8), Roundings(0, 32), Roundings(4, 16)),
        "tanh": Declared(Roundings(relative=8), Roundings(relative=64), Roundings(8, 4)),
    }
)
"""By the operator's name. One that is missing here is refused by rigorous analyses."""


class UndeclaredError(ValueError):
    """Nothing is declared of an operator's rounding errors."""


def declared(name: str) -> Declared:
    """Look an operator up."""
    if name not in DECLARED:
        raise UndeclaredError(
            f"no rounding error of the operator '{name}' is declared, so nothing about it can be "
            "proved in floating point; add it to dsl/operators/rounding.py, or use plain bounds"
        )
    return DECLARED[name]


def magnitude(lower: Tensor, upper: Tensor) -> Tensor:
    """Return the largest absolute value in an interval."""
    return torch.maximum(lower.abs(), upper.abs())


def product(size: Tensor, other: Tensor) -> Tensor:
    """Multiply sizes, of which 0 times infinity is 0."""
    return torch.where((size == 0) | (other == 0), 0.0, size * other)
