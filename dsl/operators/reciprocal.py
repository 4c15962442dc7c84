"""The reciprocal."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from absolver.dsl.operators.piece import concave, convex, curve
from absolver.dsl.operators.quadratic import Form, Quadratic
from absolver.dsl.operators.record import Interval, Shape
from absolver.dsl.operators.unary import Unary


@dataclass(frozen=True)
class Reciprocal(Unary):
    """`1 / x`; a box that touches 0 has no bound."""

    name = "reciprocal"
    onnx = ("Reciprocal",)
    shape = Shape.OTHER
    smooth = True
    monotone = False
    piecewise_linear = False
    pieces = curve(
        lambda x, m: 1 / x,
        lambda x, m: -1 / (x * x),
        concave(-inf, 0, lambda q: -_root(q)),
        convex(0, inf, lambda q: _root(q)),
    )

    def defined_on(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Say where the box is on one side of the pole."""
        return (lower > 0) | (upper < 0)

    def quadratics(self, box: Sequence[Interval]) -> tuple[Quadratic, ...]:
        """State that operand and result have the product 1, where they have one."""
        defined = self.defined_on(*box[0]).to(box[0].lower.dtype)
        x, y = Form((defined,), 0.0), Form((0.0,), 1.0)
        return (Quadratic((x, y), Form((0.0,), 0.0, -defined), equality=True),)

    @property
    def _range_by_ends(self) -> bool:
        return True

    def range(self, box: Sequence[Interval]) -> Interval:
        """Take the reciprocals of both ends: exact, it falls on either side of the pole."""
        ((lower, upper),) = box
        defined = self.defined_on(lower, upper)
        most = torch.finfo(lower.dtype).max
        # An overflow says only that the value is beyond the largest float.
        low = torch.where(defined, self(upper).clamp(max=most), -inf)
        return Interval(low, torch.where(defined, self(lower).clamp(min=-most), inf))


def _root(q: Tensor) -> Tensor:
    """Solve `-1 / x**2 = q` for the positive x."""
    return (0 - q).clamp(min=0).rsqrt()
