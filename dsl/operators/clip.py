"""Clipping to an interval (hard tanh, relu6)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

from torch import Tensor

from absolver.dsl.operators.piece import Piece
from absolver.dsl.operators.piecewise_linear import Line, PiecewiseLinear, affine_piece
from absolver.dsl.operators.quadratic import Form, Quadratic, product
from absolver.dsl.operators.record import Interval, Shape


@dataclass(frozen=True)
class Clip(PiecewiseLinear):
    """`x` where `min <= x <= max`, else the nearer of the two; `max` where `min > max`."""

    min: float = -inf
    max: float = inf

    name = "clip"
    onnx = ("Clip",)
    shape = Shape.OTHER
    monotone = True
    rounds = False

    def __call__(self, *operands: Tensor) -> Tensor:
        """Clip."""
        return operands[0].clamp(self.min, self.max)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The constant below, the diagonal, and the constant above, those that there are."""
        if self.min >= self.max:
            return (affine_piece(Line(-inf, inf, 0, self.max)),)
        below, above = Line(-inf, self.min, 0, self.min), Line(self.max, inf, 0, self.max)
        lines = (below, Line(self.min, self.max, 1, 0), above)
        return tuple(affine_piece(line) for line in lines if line.start < line.end)

    def quadratics(self, box: Sequence[Interval]) -> tuple[Quadratic, ...]:
        """Add what three lines obey together: `(y - min) (x - y) >= 0`, `(max - y) (y - x) >= 0`.

        A value above the least one is not above the operand, one below the largest not below it.
        """
        two = super().quadratics(box)
        if self.min >= self.max or self.min == -inf or self.max == inf:
            return two
        beyond, over = Form((-1.0,), 1.0), Form((0.0,), 1.0, -self.min)
        return (
            *two,
            product(over, Form((1.0,), -1.0)),
            product(Form((0.0,), -1.0, self.max), beyond),
        )
