"""Support of groups of piecewise-linear neurons over bounds of their sums and differences.

It is what multi-neuron relaxations (k-ReLU, Singh et al. 2019; PRIMA, Mueller et al. 2022) need in
place of convex hulls: the intercept of any slope vector is a minimum over few points.
"""

from functools import cache
from itertools import combinations, product
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval

# So many coordinates of candidates exist at a time.
_MOST_AT_ONCE = 1 << 22


class Octahedra(NamedTuple):
    """One octahedron for each group of k neurons: bounds of the neurons, and of forms of them.

    Axes: `[groups, k]`, and `[groups, len(directions(k))]` for the forms; an infinite bound of a
    form is unknown.
    """

    box: Interval
    forms: Interval


@cache
def directions(size: int) -> tuple[tuple[int, ...], ...]:
    """List the forms over so many neurons: signs in {-1, 0, 1}, two at least, the first one +1."""
    every = product((0, 1, -1), repeat=size)
    return tuple(d for d in every if sum(map(abs, d)) > 1 and next(filter(None, d)) == 1)


def vertices(operator: PiecewiseLinear, octahedra: Octahedra) -> Float[Tensor, "groups points k"]:
    """Return points among which any form of neurons and their results takes its minimum.

    Guarantee: `a · x + b · f(x)` is linear on the cells into which breakpoints cut an octahedron,
    so that it is least at a vertex of a cell; all of them are among the group's points, up to
    rounding. Groups with fewer points repeat one; where bounds leave no point, the box's do.
    """
    count, size = octahedra.box.lower.shape
    each = 3**size * len(_solutions(size)[0]) * (size + len(_all(size)))
    parts = []
    for some in torch.split(torch.arange(count), max(1, _MOST_AT_ONCE // each)):
        part = Octahedra(*(Interval(i.lower[some], i.upper[some]) for i in octahedra))
        parts.append(_vertices(operator, part))
    most = max((part.shape[1] for part in parts), default=0)
    padded = [torch.cat([p, p[:, :1].expand(-1, most - p.shape[1], -1)], 1) for p in parts]
    return torch.cat(padded) if padded else octahedra.box.lower.new_zeros(0, 1, size)


def octahedron_support(
    operator: PiecewiseLinear,
    a: Float[Tensor, "groups k"],
    b: Float[Tensor, "groups k"],
    octahedra: Octahedra,
) -> Float[Tensor, "groups"]:
    """Bound `a · x + b · f(x)` from below over octahedra: the minimum, up to rounding."""
    points = vertices(operator, octahedra)
    return (a.unsqueeze(1) * points + b.unsqueeze(1) * operator(points)).sum(2).amin(1)


def _all(size: int) -> tuple[tuple[int, ...], ...]:
    single = tuple(tuple(int(i == j) for j in range(size)) for i in range(size))
    return single + directions(size)


@cache
def _solutions(size: int) -> tuple[Tensor, Tensor]:
    """Return which directions meet in single points, `size` at a time, and the inverses."""
    normals = torch.tensor(_all(size), dtype=torch.float64)
    every = torch.tensor(list(combinations(range(len(normals)), size)))
    independent = torch.linalg.det(normals[every]).abs() > 0.5
    chosen = every[independent]
    return chosen, torch.linalg.inv(normals[chosen])


def _vertices(operator: PiecewiseLinear, octahedra: Octahedra) -> Tensor:
    size = octahedra.box.lower.shape[1]
    normals = torch.tensor(_all(size), dtype=octahedra.box.lower.dtype).to(octahedra.box.lower)
    lower, upper = _closed(octahedra)
    # Outward: a vertex must not be lost, and one that is not quite inside costs no soundness.
    slack = 16 * torch.finfo(lower.dtype).eps * (lower.abs() + upper.abs()).sum(1, keepdim=True)
    points = crossings(operator, lower, upper, size)
    heights = points @ normals.T
    inside = (heights >= (lower - slack)[:, None]) & (heights <= (upper + slack)[:, None])
    met = inside.all(2)
    # Where rounding has emptied the octahedron the box's points stand.
    boxed = inside[..., :size].all(2)
    met = torch.where(met.any(1, keepdim=True), met, boxed)
    return _distinct(_first(points, met), slack)


def _closed(octahedra: Octahedra) -> Interval:
    """Bound every direction, those of forms by the box, too, so that all are finite."""
    low, high = octahedra.box
    normals = low.new_tensor(directions(low.shape[1]))
    positive, negative = normals.clamp(min=0).T, normals.clamp(max=0).T
    below = torch.maximum(octahedra.forms.lower, low @ positive + high @ negative)
    above = torch.minimum(octahedra.forms.upper, high @ positive + low @ negative)
    return Interval(torch.cat([low, below], 1), torch.cat([high, above], 1))


def crossings(operator: PiecewiseLinear, lower: Tensor, upper: Tensor, size: int) -> Tensor:
    """Intersect every independent `size` of an octahedron's sides and the breakpoints' planes."""
    chosen, inverse = (part.to(lower.device) for part in _solutions(size))
    sides = [lower, upper]
    for piece in operator.pieces[1:]:
        # Forms have no breakpoints; a repeated side makes no new point.
        at = torch.full_like(lower, piece.start).clamp(lower, upper)
        sides.append(torch.cat([at[:, :size], lower[:, size:]], 1))
    found = []
    for which in product(range(len(sides)), repeat=size):
        right = torch.stack([sides[w][:, chosen[:, i]] for i, w in enumerate(which)], 2)
        new = torch.tensor([w >= 2 for w in which], device=chosen.device) & (chosen >= size)
        kept = ~new.any(1)
        solved = inverse[kept].to(lower) @ right[:, kept].unsqueeze(3)
        found.append(solved.squeeze(3))
    return torch.cat(found, 1)


def _first(points: Tensor, kept: Tensor) -> Tensor:
    """Bring the points that are kept to the front, and repeat one of them behind."""
    most = max(1, int(kept.sum(1).max()))
    order = kept.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
    front = points.gather(1, order.unsqueeze(2).expand(-1, -1, points.shape[2]))
    valid = kept.gather(1, order).unsqueeze(2)
    return torch.where(valid, front, front[:, :1])


def _distinct(points: Tensor, slack: Tensor) -> Tensor:
    """Leave out points that rounding does not tell from earlier ones."""
    apart = (points.unsqueeze(1) - points.unsqueeze(2)).abs().amax(3)
    same = (apart <= slack.unsqueeze(2)).tril(-1).any(2)
    return _first(points, ~same)
