"""Rounding up."""

from dataclasses import dataclass

from torch import Tensor

from absolver.dsl.operators.staircase import Staircase


@dataclass(frozen=True)
class Ceil(Staircase):
    """The smallest integer that is at least x."""

    name = "ceil"
    onnx = ("Ceil",)
    start = -1.0

    def __call__(self, *operands: Tensor) -> Tensor:
        """Round up."""
        return operands[0].ceil()
