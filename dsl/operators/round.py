"""Rounding to nearest."""

from dataclasses import dataclass

from torch import Tensor

from absolver.dsl.operators.staircase import Staircase


@dataclass(frozen=True)
class Round(Staircase):
    """The nearest integer, the even one of two."""

    name = "round"
    onnx = ("Round",)
    start = -0.5

    def __call__(self, *operands: Tensor) -> Tensor:
        """Round to nearest."""
        return operands[0].round()
