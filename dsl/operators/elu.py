"""The exponential linear unit."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

from torch import Tensor
from torch.nn.functional import elu

from absolver.dsl.operators.piece import Piece, concave, convex, curve
from absolver.dsl.operators.piecewise_linear import Line, affine_piece
from absolver.dsl.operators.record import Interval, Operator, Shape
from absolver.dsl.operators.rounding import Declared
from absolver.dsl.operators.unary import Unary


@dataclass(frozen=True)
class Elu(Unary):
    """`x` for `x >= 0`, `alpha (exp(x) - 1)` below."""

    alpha: float = 1.0

    name = "elu"
    onnx = ("Elu",)
    shape = Shape.OTHER
    smooth = True
    monotone = True
    piecewise_linear = False

    def __post_init__(self) -> None:
        """Take back what holds only where the pieces meet without a kink, or without a fall."""
        object.__setattr__(self, "smooth", self.alpha == 1)
        object.__setattr__(self, "monotone", self.alpha >= 0)

    def __call__(self, *operands: Tensor) -> Tensor:
        """Evaluate without overflow in the branch that is not taken."""
        return elu(operands[0], self.alpha)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The scaled exponential, and the diagonal."""
        alpha = self.alpha
        bend = convex if alpha >= 0 else concave
        divisor = alpha or 1.0
        bent = curve(
            lambda x, m: alpha * m.expm1(x),
            lambda x, m: alpha * m.exp(x),
            bend(-inf, 0, lambda q: (q / divisor).clamp(min=0).log()),
        )
        return *bent, affine_piece(Line(0, inf, 1, 0))

    @property
    def roundings(self) -> Declared:
        """Scale what is declared for `alpha = 1`."""
        unscaled = super().roundings
        return unscaled._replace(execution=unscaled.execution.times(max(1.0, abs(self.alpha))))

    @property
    def _range_by_ends(self) -> bool:
        return self.alpha >= 0

    def range(self, box: Sequence[Interval]) -> Interval:
        """Bound the values over the box; with a negative alpha they are not monotone."""
        return super().range(box) if self.alpha >= 0 else Operator.range(self, box)
