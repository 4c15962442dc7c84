"""Support of a pair of piecewise-linear neurons over bounds on x, y, x + y and x - y.

It is what multi-neuron relaxations (k-ReLU, PRIMA) need in place of convex hulls.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval, trusted

Pair = tuple[Tensor, Tensor]


class Octagon(NamedTuple):
    """Bounds on x, on y, on `x + y` and on `x - y`; infinite ones are unknown."""

    x: Interval
    y: Interval
    total: Interval
    difference: Interval


def octagon_support(operator: PiecewiseLinear, a: Pair, b: Pair, octagon: Octagon) -> Tensor:
    """Bound `a_1 x + a_2 y + b_1 f(x) + b_2 f(y)` from below over an octagon.

    Guarantee: as for `Operator.support`, and never below the bound over the two boxes alone. The
    form is linear between breakpoints, so it is least at a vertex of a cell: an intersection of
    two lines among the octagon's sides and the breakpoints' axes.
    """
    boxed = sum(operator.support([a[i]], b[i], [octagon[i]]) for i in range(2))
    assert isinstance(boxed, Tensor), "two supports were added"
    octagon = _closed(octagon)
    points = _crossings(operator, octagon)
    scale = sum(end.abs() for interval in octagon for end in interval)
    # Outward: a vertex must not be lost, and one that is not quite inside costs no soundness.
    slack = 16 * torch.finfo(boxed.dtype).eps * scale
    least = torch.full_like(boxed, torch.inf)
    for x, y in points:
        inside = torch.ones_like(x, dtype=torch.bool)
        for value, (low, high) in zip((x, y, x + y, x - y), octagon, strict=True):
            inside = inside & (value >= low - slack) & (value <= high + slack)
        height = a[0] * x + a[1] * y + b[0] * operator(x) + b[1] * operator(y)
        least = torch.where(inside, torch.minimum(least, trusted(height)), least)
    # Where rounding emptied the octagon the boxes' bound stands.
    return torch.maximum(trusted(least), boxed)


def _closed(octagon: Octagon) -> Octagon:
    """Bound sum and difference by the boxes, so that they are finite."""
    (x, y, total, difference) = octagon
    return Octagon(
        x,
        y,
        Interval(
            torch.maximum(total.lower, x.lower + y.lower),
            torch.minimum(total.upper, x.upper + y.upper),
        ),
        Interval(
            torch.maximum(difference.lower, x.lower - y.upper),
            torch.minimum(difference.upper, x.upper - y.lower),
        ),
    )


def _crossings(operator: PiecewiseLinear, octagon: Octagon) -> list[Pair]:
    """Intersect the lines of every two directions."""
    breakpoints = [torch.full_like(octagon.x.lower, p.start) for p in operator.pieces[1:]]
    xs, ys = [*octagon.x, *breakpoints], [*octagon.y, *breakpoints]
    return [
        *((x, y) for x in xs for y in ys),
        *((x, s - x) for x in xs for s in octagon.total),
        *((x, x - d) for x in xs for d in octagon.difference),
        *((s - y, y) for y in ys for s in octagon.total),
        *((d + y, y) for y in ys for d in octagon.difference),
        *(((s + d) / 2, (s - d) / 2) for s in octagon.total for d in octagon.difference),
    ]
