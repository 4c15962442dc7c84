"""Rounding down."""

from dataclasses import dataclass

from torch import Tensor

from absolver.dsl.operators.staircase import Staircase


@dataclass(frozen=True)
class Floor(Staircase):
    """The largest integer that is at most x."""

    name = "floor"
    onnx = ("Floor",)
    start = 0.0

    def __call__(self, *operands: Tensor) -> Tensor:
        """Round down."""
        return operands[0].floor()
