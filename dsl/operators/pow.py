"""Powers with a constant exponent."""

from dataclasses import dataclass
from functools import cached_property
from math import inf

from torch import Tensor

from absolver.dsl.operators.piece import Piece, Span, concave, convex, curve
from absolver.dsl.operators.piecewise_linear import Line, affine_piece
from absolver.dsl.operators.record import Shape
from absolver.dsl.operators.unary import Unary


@dataclass(frozen=True)
class Pow(Unary):
    """`x ** exponent`, with an integer exponent of any sign, or a real one where `x >= 0`.

    A box has no bound where it touches the pole of a negative exponent, or holds negative numbers
    under an exponent that is no integer.
    """

    exponent: float

    name = "pow"
    onnx = ("Pow",)
    shape = Shape.OTHER
    smooth = True
    monotone = False
    piecewise_linear = False

    def __call__(self, *operands: Tensor) -> Tensor:
        """Raise to the power."""
        return operands[0].pow(self.exponent)

    @property
    def valley(self) -> float | None:
        """The origin, for positive even exponents."""
        return 0.0 if self.exponent > 0 and self.exponent % 2 == 0 else None

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """One formula, which bends by the parity and the sign of the exponent."""
        n = self.exponent
        if n in (0, 1):
            return (affine_piece(Line(-inf, inf, n, 1 - n)),)
        return curve(
            lambda x, m: m.power(x, n),
            lambda x, m: n * m.power(x, n - 1),
            *self._spans(),
        )

    def defined_on(self, lower: Tensor, upper: Tensor) -> Tensor | None:
        """Say where the box avoids the pole, and negative numbers under a real exponent."""
        if not float(self.exponent).is_integer():
            return lower >= 0 if self.exponent > 0 else lower > 0
        return None if self.exponent >= 0 else (lower > 0) | (upper < 0)

    def _spans(self) -> tuple[Span, ...]:
        n = self.exponent
        if not float(n).is_integer():
            return ((concave if 0 < n < 1 else convex)(0, inf, self._root),)
        odd = n % 2 == 1
        if n > 0 and not odd:
            return (convex(-inf, inf, lambda q: self._root(q.abs()) * q.sign()),)
        # An odd derivative changes its sign with x, an even one does not.
        left = concave if odd else convex
        return (
            left(-inf, 0, lambda q: -self._root(q if odd else 0 - q)),
            convex(0, inf, self._root),
        )

    def _root(self, q: Tensor) -> Tensor:
        """Solve `n x ** (n - 1) = q` for the positive x."""
        return (q / self.exponent).clamp(min=0).abs().pow(1 / (self.exponent - 1))
