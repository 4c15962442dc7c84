"""The minimum of any number of variables, as the maximum of their negations, negated."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from absolver.dsl.operators.max import Max
from absolver.dsl.operators.quadratic import Quadratic, of_extremum
from absolver.dsl.operators.record import Interval, Operator, Shape

_MAX = Max()


@dataclass(frozen=True)
class Min(Operator):
    """`min(x_1, ..., x_k)`."""

    name = "min"
    onnx = ("Min",)
    operands = ("each",)
    shape = Shape.CONCAVE
    smooth = False
    monotone = True
    piecewise_linear = True
    rounds = False

    def __call__(self, *operands: Tensor) -> Tensor:
        """Take the smallest operand."""
        return -_MAX(*(-x for x in operands))

    def support(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Minimise over the negated box: exact."""
        return _MAX.support([-slope for slope in a], -b, _negated(box))

    def support_size(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Add up what the maximum of the negations adds up."""
        return _MAX.support_size(a, b, box)

    def quadratics(self, box: Sequence[Interval]) -> tuple[Quadratic, ...]:
        """State that no operand is below the result, and of two that it is one of them."""
        return of_extremum(len(box), -1.0)

    def derivative(self, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Give 1 to an operand that is below all others, 0 to one that is above some other."""
        return _MAX.derivative(_negated(box))

    def gradient(self, point: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Give 1 to the first of the smallest operands."""
        return _MAX.gradient([-x for x in point])

    def affine_on(self, box: Sequence[Interval]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Say where one operand is at most every other, or the box is a point."""
        return _MAX.affine_on(_negated(box))

    def curvature(self, box: Sequence[Interval]) -> Tensor:
        """Concave everywhere, and also convex where it is affine."""
        return self.affine_on(box)[0].to(box[0].lower.dtype) * 2 - 1

    def range(self, box: Sequence[Interval]) -> Interval:
        """Take the minimum of the lower ends, and of the upper ends: exact."""
        return Interval(self(*(i.lower for i in box)), self(*(i.upper for i in box)))

    def inverse(self, output: Interval, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """No operand is below the output; the only one that can reach its upper end does."""
        return tuple(_negated(_MAX.inverse(_negated([output])[0], _negated(box))))


def _negated(box: Sequence[Interval]) -> list[Interval]:
    return [Interval(-upper, -lower) for lower, upper in box]
