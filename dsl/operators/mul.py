"""The product of two variables."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.dsl.operators.quadratic import Form, Quadratic
from absolver.dsl.operators.record import Interval, Operator, Shape, trusted
from absolver.dsl.operators.rounding import magnitude, product

# Pairs of noise symbols are handled in blocks of at most this many numbers (0.5 GB in float64).
PAIRS_AT_ONCE = 2**26


@dataclass(frozen=True)
class Mul(Operator):
    """`x * y`."""

    name = "mul"
    onnx = ("Mul",)
    operands = ("x", "y")
    shape = Shape.OTHER
    smooth = True
    monotone = False
    piecewise_linear = False

    def __call__(self, *operands: Tensor) -> Tensor:
        """Multiply."""
        x, y = operands
        return x * y

    def support(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Take the least value at the four vertices: exact, a bilinear form has no other."""
        (on_x, on_y), (x, y) = a, box
        least: Tensor | None = None
        for end in x:
            inner = torch.addcmul(on_y, b, end)  # the coefficient of y on this edge
            edge = trusted(on_x * end + torch.minimum(inner * y.lower, inner * y.upper))
            least = edge if least is None else torch.minimum(least, edge)
        assert least is not None, "an interval has two ends"
        return least

    def support_size(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Add up the terms at the farthest vertex, each rounded at most five times."""
        (on_x, on_y), (x, y) = a, box
        far_x, far_y = magnitude(*x), magnitude(*y)
        inner = on_y.abs() + product(b.abs(), far_x)
        return 5 * (product(on_x.abs(), far_x) + product(inner, far_y))

    def range(self, box: Sequence[Interval]) -> Interval:
        """Return the hull of the four products of ends."""
        x, y = box
        products = (x.lower * y.lower, x.lower * y.upper, x.upper * y.lower, x.upper * y.upper)
        low = torch.minimum(
            torch.minimum(products[0], products[1]), torch.minimum(products[2], products[3])
        )
        high = torch.maximum(
            torch.maximum(products[0], products[1]), torch.maximum(products[2], products[3])
        )
        return Interval(trusted(low), -trusted(-high))

    def quadratics(self, box: Sequence[Interval]) -> tuple[Quadratic, ...]:
        """State the product itself."""
        del box
        x, y = Form((1.0, 0.0), 0.0), Form((0.0, 1.0), 0.0)
        return (Quadratic((x, y), Form((0.0, 0.0), -1.0), equality=True),)

    def derivative(self, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Return each operand's box as the derivative in the other."""
        x, y = box
        return y, x

    def gradient(self, point: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return each operand as the derivative in the other."""
        x, y = point
        return y, x

    def affine_on(self, box: Sequence[Interval]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Say where one operand is constant: then the product is linear in the other."""
        x, y = box
        x_fixed, y_fixed = x.lower == x.upper, y.lower == y.upper
        zero = torch.zeros_like(x.lower)
        by_y = torch.where(y_fixed, y.lower, zero)
        by_x = torch.where(x_fixed & ~y_fixed, x.lower, zero)
        return x_fixed | y_fixed, (by_y, by_x)

    def curvature(self, box: Sequence[Interval]) -> Tensor:
        """Neither convex nor concave unless an operand is constant."""
        return self.affine_on(box)[0].to(box[0].lower.dtype)

    def inverse(self, output: Interval, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Divide the output by the other operand's box, where that box excludes 0."""
        x, y = box
        return _divided(output, y, x), _divided(output, x, y)

    def linearise(
        self,
        center_x: Float[Tensor, "batch *shape"],
        generators_x: Float[Tensor, "batch symbols *shape"],
        center_y: Float[Tensor, "batch *shape"],
        generators_y: Float[Tensor, "batch symbols *shape"],
    ) -> tuple[
        Float[Tensor, "batch *shape"],
        Float[Tensor, "batch symbols *shape"],
        Float[Tensor, "batch *shape"],
    ]:
        """Multiply two affine forms over the same symbols, as (center, generators, radius).

        Guarantee: for every choice of symbols in [-1, 1] the product of the two forms differs from
        `center + generators · symbols` by at most `radius`. The quadratic term is centred exactly:
        squares of symbols lie in [0, 1], products of two of them in [-1, 1].
        """
        squares = generators_x * generators_y
        center = center_x * center_y + squares.sum(1) / 2
        linear = center_x.unsqueeze(1) * generators_y + center_y.unsqueeze(1) * generators_x
        block = max(1, PAIRS_AT_ONCE // max(1, generators_x.numel()))
        radius = -squares.abs().sum(1) / 2
        for start in range(0, generators_x.shape[1], block):
            some_x = generators_x[:, start : start + block].unsqueeze(2)
            some_y = generators_y[:, start : start + block].unsqueeze(2)
            pairs = some_x * generators_y.unsqueeze(1) + some_y * generators_x.unsqueeze(1)
            # Every pair is met twice; a symbol with itself once, as twice its square.
            radius = radius + pairs.abs().sum((1, 2)) / 2
        return center, linear, radius


def _divided(output: Interval, divisor: Interval, box: Interval) -> Interval:
    """Intersect a box with the quotient of two intervals, outward of the rounding error."""
    ends = torch.stack([n / d for n in output for d in divisor])
    margin = 2 * torch.finfo(ends.dtype).eps * ends.abs()
    known = ((divisor.lower > 0) | (divisor.upper < 0)) & ~ends.isnan().any(0)
    low = torch.where(known, (ends - margin).amin(0), -inf)
    high = torch.where(known, (ends + margin).amax(0), inf)
    return Interval(torch.maximum(box.lower, low), torch.minimum(box.upper, high))
