"""The arguments of ATen operators as the lowerings take them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from absolver.analyzer.frontends.builder import Constant, Symbol, Value
from absolver.analyzer.frontends.errors import LoweringError
from absolver.analyzer.frontends.lowering.convolution import Window

Argument = Any
"""What ATen's schema gives an operator: a tensor, a number, a flag or a list of them."""

Number = int | float
Operand = Value | Number


def completed(given: Sequence[Argument], *defaults: Argument) -> list[Argument]:
    """Fill up positional arguments with the defaults of those that are left out."""
    return [*given, *defaults[len(given) :]]


def as_value(operand: Operand) -> Value:
    """Give a number as a constant tensor."""
    return np.asarray(float(operand)) if isinstance(operand, Number) else operand


def as_constant(operand: Operand) -> Constant:
    """Give an operand that must not depend on the input."""
    value = as_value(operand)
    if isinstance(value, Symbol):
        raise LoweringError("an operand depends on the input; only a constant is covered there")
    return value


def as_tuple(sizes: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """Repeat a single number for each axis."""
    if isinstance(sizes, int):
        return (sizes,) * rank
    return tuple(sizes) * (rank if len(sizes) == 1 else 1)


def window_of(
    kernel: Sequence[int],
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    *,
    ceil_mode: bool = False,
) -> Window:
    """Return the window that torch's symmetric padding describes."""
    rank = len(kernel)
    return Window(
        kernel=tuple(kernel),
        stride=as_tuple(stride, rank),
        padding=tuple((cells, cells) for cells in as_tuple(padding, rank)),
        dilation=as_tuple(dilation, rank),
        ceil_mode=ceil_mode,
    )
