"""Balls: how far, in norm 2, a node's values can be from one point. Format, section 4, "Balls"."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from absolver.certificates.arithmetic import Array, Fast, cost, inflate, spread
from absolver.certificates.boxes import AffineNode, OperatorNode
from absolver.certificates.network import Floats, Ints, LinearMap, Product, Scale
from absolver.certificates.rounding import TINY, Box, add_down, add_up, gamma, up
from absolver.certificates.rules.piecewise_linear import CONTINUOUS, PIECEWISE_LINEAR

STEEPEST: Mapping[str, float] = dict(tanh=1, sigmoid=0.25, sin=1, cos=1, max=1, min=1)
"""The largest absolute derivatives of functions, in each operand."""
SQUARINGS = 10
"""A matrix of rank r has its norm up to a factor of r^(2^-11)."""


class Around(NamedTuple):
    """Balls, one for each branch: centres, and how far values may be away, in norm 2 or in 1."""

    center: Box
    radius: Floats
    norm: int = 2

    @property
    def box(self) -> Box:
        """The boxes around the balls."""
        far = self.radius[:, None]
        return Box(add_down(self.center.lower, -far), add_up(self.center.upper, far))


@np.errstate(all="ignore")
def around(values: Box, reaches: Sequence[Floats], box: Box) -> Around:
    """Return balls around the middle of values, no larger than the box needs; NaN says nothing.

    They hold what is so far from points of the box of values as the sum of the reaches.
    """
    center = np.broadcast_to(values.lower / 2 + values.upper / 2, box.lower.shape)
    own, most = (
        length(up(np.maximum(to.upper - center, center - to.lower)), Fast()) for to in (values, box)
    )
    radius = np.fmin(inflate(sum(reaches, own), len(reaches) + 1), most)
    return Around(Box(center, center), radius)


def image(
    node: AffineNode | OperatorNode, operands: Sequence[tuple[Around, Box]], box: Box
) -> Around:
    """Return balls around what a node has at the centres of its operands' balls."""
    if isinstance(node, AffineNode):
        steep: Sequence[Floats | float] = [operator_norm(one.linear) for one in node.maps]
    else:
        steep = steepness(node, operands)
    reaches = [cost(s, ball.radius) for s, (ball, _) in zip(steep, operands, strict=True)]
    return around(node.step([ball.center for ball, _ in operands]).box, reaches, box)


def over_ball(rows: Array, ball: Around, owner: Ints, arithmetic: Fast) -> Array:
    """Return the least values of rows over balls: |a . d| is at most |d| times |a| (Hölder)."""
    size = length(rows, arithmetic, dual=ball.norm)
    least = arithmetic.minimum(rows, arithmetic.prepare(*ball.center), owner)
    return arithmetic.plus(least, -cost(size, spread(ball.radius, owner)))


def length(rows: Array, arithmetic: Fast, *, dual: int = 2) -> Floats:
    """Return upper bounds of the norms of rows: of the norm that is dual to 2, or to 1."""
    if dual == 1:
        return arithmetic.above(abs(rows).max(axis=1, initial=0), 0)
    return up(np.sqrt(arithmetic.above((rows * rows).sum(axis=1), rows.shape[1])))


def steepness(node: OperatorNode, operands: Sequence[tuple[Around, Box]]) -> Sequence[Floats]:
    """Return how steep a function is at most in each operand, for each branch; inf if unknown."""
    function, ((at, *_), box) = node.node.function, operands[0]
    if function not in CONTINUOUS:
        return [np.array([STEEPEST.get(function, np.inf)])] * len(operands)
    hull = Box(np.minimum(box.lower, at.lower), np.maximum(box.upper, at.upper))
    parts = PIECEWISE_LINEAR[function].segments(hull, node.node.attributes)
    steep = [np.where(part.occurs, np.abs(part.slope), 0.0) for part in parts]
    return [np.maximum.reduce(steep).max(axis=1, initial=0.0)]


def operator_norm(linear: LinearMap) -> float:
    """Return an upper bound of the largest singular value of a map."""
    match linear:
        case Product(weight=weight):
            return _spectral(weight)
        case Scale(numerator=p, denominator=q, error=error):
            return float(up(up(np.abs(p / q)) + error).max())
    # So many elements become one, or one becomes so many.
    shared = np.bincount(linear.index[linear.index >= 0], minlength=1).max()
    return float(up(np.sqrt(shared)))


@np.errstate(all="ignore")
def _spectral(g: Floats) -> float:
    """Return the largest singular value of some matrices, from above: |G|^2 = |G^T G| <= |.|_F.

    A square is rounded by gamma_k |G^T| |G| at most, whose norm is below that of Frobenius; what
    underflows in it, or in a scaled matrix, is far below 2^-900.
    """
    g, steps = g if g.shape[1] >= g.shape[2] else g.swapaxes(1, 2), []
    for _ in range(SQUARINGS):
        exponent = np.frexp(_frobenius(g))[1]
        g = np.ldexp(g, -exponent[:, None, None])
        rounded = inflate(gamma(g.shape[1]) * _frobenius(g) ** 2, 4)
        steps.append((exponent, up(rounded + g[0].size * 2.0**-900)))
        g = g.swapaxes(1, 2) @ g
    bound = _frobenius(g)
    for exponent, error in reversed(steps):
        bound = np.ldexp(up(np.sqrt(up(bound + error))), exponent)
    return float(bound.max())


def _frobenius(g: Floats) -> Floats:
    return up(np.sqrt(inflate((g * g).sum(axis=(1, 2)) + g[0].size * TINY, g[0].size)))
