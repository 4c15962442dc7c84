"""Arithmetics over which an operator's formulas are written once: numbers of torch or of sympy.

A formula is a function `(x, m)` that uses only `+ - * /` on `x` and the functions of `m`. What
runs is the formula over `TORCH`; what is checked or proved is the same formula over another `m`.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

# `Any` is the arithmetic's own number: a tensor, a symbolic expression, an interval.
Formula = Callable[[Any, "Arithmetic"], Any]


@runtime_checkable
class Arithmetic(Protocol):
    """The elementary functions that formulas may use, over one kind of number."""

    pi: Any

    def exp(self, x: Any) -> Any:  # noqa: ANN401
        """e to the power x."""

    def expm1(self, x: Any) -> Any:  # noqa: ANN401
        """`exp(x) - 1` without cancellation near 0."""

    def log(self, x: Any) -> Any:  # noqa: ANN401
        """Natural logarithm."""

    def sqrt(self, x: Any) -> Any:  # noqa: ANN401
        """Non-negative square root."""

    def power(self, x: Any, exponent: float) -> Any:  # noqa: ANN401
        """X to a constant power."""

    def sigmoid(self, x: Any) -> Any:  # noqa: ANN401
        """`1 / (1 + exp(-x))`."""

    def softplus(self, x: Any) -> Any:  # noqa: ANN401
        """`log(1 + exp(x))`."""

    def tanh(self, x: Any) -> Any:  # noqa: ANN401
        """Hyperbolic tangent."""

    def erf(self, x: Any) -> Any:  # noqa: ANN401
        """The error function."""

    def erfc(self, x: Any) -> Any:  # noqa: ANN401
        """`1 - erf(x)` without cancellation for large x."""

    def sin(self, x: Any) -> Any:  # noqa: ANN401
        """Sine."""

    def cos(self, x: Any) -> Any:  # noqa: ANN401
        """Cosine."""

    def tan(self, x: Any) -> Any:  # noqa: ANN401
        """Tangent."""

    def atan(self, x: Any) -> Any:  # noqa: ANN401
        """Inverse tangent."""


class TorchArithmetic:
    """Batched floating-point numbers, as torch rounds."""

    pi = math.pi
    exp = staticmethod(torch.exp)
    expm1 = staticmethod(torch.expm1)
    log = staticmethod(torch.log)
    sigmoid = staticmethod(torch.sigmoid)
    tanh = staticmethod(torch.tanh)
    erf = staticmethod(torch.erf)
    erfc = staticmethod(torch.erfc)
    sin = staticmethod(torch.sin)
    cos = staticmethod(torch.cos)
    tan = staticmethod(torch.tan)
    atan = staticmethod(torch.atan)

    @staticmethod
    def sqrt(x: Tensor | float) -> Tensor | float:
        """Take the root of a tensor, or of a constant of the formula."""
        return torch.sqrt(x) if isinstance(x, Tensor) else math.sqrt(x)

    @staticmethod
    def power(x: Tensor, exponent: float) -> Tensor:
        """Raise to a constant power."""
        return torch.pow(x, exponent)

    @staticmethod
    def softplus(x: Tensor) -> Tensor:
        """Evaluate exactly everywhere; torch's softplus drops exp(-x) beyond x = 20."""
        return torch.logaddexp(x, torch.zeros_like(x))


TORCH = TorchArithmetic()


def symbolic() -> Arithmetic:
    """Return the arithmetic of sympy's expressions, in which derivatives are exact."""
    import sympy  # not on the analyzer's path: only tests and provers ask for it

    class SympyArithmetic:
        pi = sympy.pi
        exp = staticmethod(sympy.exp)
        log = staticmethod(sympy.log)
        sqrt = staticmethod(sympy.sqrt)
        tanh = staticmethod(sympy.tanh)
        erf = staticmethod(sympy.erf)
        erfc = staticmethod(sympy.erfc)
        sin = staticmethod(sympy.sin)
        cos = staticmethod(sympy.cos)
        tan = staticmethod(sympy.tan)
        atan = staticmethod(sympy.atan)

        @staticmethod
        def expm1(x: Any) -> Any:  # noqa: ANN401
            return sympy.exp(x) - 1

        @staticmethod
        def power(x: Any, exponent: float) -> Any:  # noqa: ANN401
            return x ** sympy.nsimplify(exponent)

        @staticmethod
        def sigmoid(x: Any) -> Any:  # noqa: ANN401
            return 1 / (1 + sympy.exp(-x))

        @staticmethod
        def softplus(x: Any) -> Any:  # noqa: ANN401
            return sympy.log(1 + sympy.exp(x))

    return SympyArithmetic()
