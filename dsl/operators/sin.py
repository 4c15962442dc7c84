"""The sine."""

from dataclasses import dataclass
from math import pi

from torch import Tensor

from absolver.dsl.operators.wave import Wave


@dataclass(frozen=True)
class Sin(Wave):
    """`sin(x)`."""

    name = "sin"
    onnx = ("Sin",)
    crest = pi / 2

    def __call__(self, *operands: Tensor) -> Tensor:
        """Take the sine."""
        return operands[0].sin()

    def slope_at(self, x: Tensor) -> Tensor:
        """Evaluate the derivative."""
        return x.cos()
