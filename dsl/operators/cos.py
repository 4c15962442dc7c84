"""The cosine."""

from dataclasses import dataclass

from torch import Tensor

from absolver.dsl.operators.wave import Wave


@dataclass(frozen=True)
class Cos(Wave):
    """`cos(x)`."""

    name = "cos"
    onnx = ("Cos",)
    crest = 0.0

    def __call__(self, *operands: Tensor) -> Tensor:
        """Take the cosine."""
        return operands[0].cos()

    def slope_at(self, x: Tensor) -> Tensor:
        """Evaluate the derivative."""
        return -x.sin()
