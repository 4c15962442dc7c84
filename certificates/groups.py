"""Groups of neurons: what two or three elements of an operator's operand can be together.

Section 4 of the certificate format, "Groups". The polytope of a group is rounded outwards to whole
numbers of a unit, 2^-40 of its size, so that its vertices are found exactly, as quotients of small
integers: none can be lost. What the units move is paid for, with what floats round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from absolver.certificates.arithmetic import Array, Fast, inflate, spread
from absolver.certificates.boxes import Lines
from absolver.certificates.linear import Linear
from absolver.certificates.network import Broken, Floats, Ints, Move, Operator
from absolver.certificates.rounding import TINY, Box, Numbers, add_down, gamma
from absolver.certificates.rules.piecewise_linear import PIECEWISE_LINEAR

BITS, SMALLEST, LARGEST = 40, 2.0**-900, 2.0**400
"""Units in a group's size, as a power of two, and sizes between which products do not overflow."""


@dataclass(frozen=True, eq=False)
class RowRequest:
    """Rows that bound elements of a node, each by its side (0 below, 1 above), owner and element.

    With `forms`, they bound these instead, each a sum of signs times elements. `lines` are for
    these rows only, which have a single branch; slopes may have an axis of rows.
    """

    rows: tuple[Ints, ...]
    lines: Mapping[int, Lines]
    forms: tuple[Ints, Ints] | None = None


class GroupRequest(NamedTuple):
    """Groups of k members each, and rows that bound forms of their operand.

    For each direction of a group `use` is 0 where no form is known, i + 1 where it is form i, and
    -(i + 1) where it is its negation.
    """

    members: Ints
    use: Ints
    bounds: RowRequest


Sides = tuple[Array, Array] | None


class Groups(NamedTuple):
    """The groups of an operator f, each with all vertices z of its polytope, cut where f bends.

    Guarantee: at all points of a group's polytope, `a . f(x) - m . x` with a and m below LARGEST is
    at least the least one at its `points`, which have f(z) and then z, in floats, less its `error`
    times the sum of |a| and |m|. A group that has no bounds has no numbers for points.
    """

    members: Ints
    points: list[Floats]
    error: Floats
    scatter: Linear
    """The map from elements to members: its transpose adds up what the groups have."""

    @np.errstate(all="ignore")
    def take(
        self, lines: Lines, slopes: Sides, a: Fast, rows: Array, owner: Ints
    ) -> tuple[Array, Array, Floats]:
        """Return what groups leave of rows, what they have of the operand, and lower bounds.

        Guarantee: rows of an operator are at least the sum of the three, and the bounds pay for all
        roundings of the other two. Raises `Broken` unless the shares are those of the groups.
        """
        shape = self.members.shape
        proposed = [np.zeros(shape) if x is None else x for x in lines[2:]]
        if any(x.shape[-2:] != shape for x in proposed):
            raise Broken(f"{proposed[0].shape} are not the shares of the groups in force")
        share, tilt = (
            spread(x.reshape(-1, self.members.size), owner).T.reshape(*shape, -1) for x in proposed
        )
        flat = a.numbers(np.zeros((1, rows.shape[1])))
        known = rows, *(spread(side, owner) for side in slopes or (flat, flat))
        asked, lower, upper = (a.below(x.T.ravel()).reshape(x.T.shape)[self.members] for x in known)
        # Whatever floats a group takes, in every tier: what it leaves is the difference.
        part = _usual(share * asked)
        total = np.abs(part).sum(axis=1, keepdims=True)
        slant = _usual(part * np.where(asked > 0, lower, upper) + tilt * total)
        forms = np.concatenate([part, -slant], axis=1)
        each = [(x @ form).min(axis=0) for x, form in zip(self.points, forms, strict=True)]
        least = np.where(total[:, 0] == 0, 0.0, each)
        paid = np.abs(part) + np.abs(slant) + np.where(part == 0, 0.0, np.abs(asked))
        terms = 8 * forms[..., 0].size
        debt = np.einsum("g,gkr->r", self.error, paid) + gamma(terms) * np.abs(least).sum(axis=0)
        value = add_down(least.sum(axis=0), -inflate(debt + terms * TINY, terms))
        taken, moved = (
            self.scatter.backward(a.numbers(x.reshape(self.members.size, -1).T))[0]
            for x in (part, slant)
        )
        return rows - taken, moved, np.where(np.isfinite(value), value, -np.inf)


@cache
def directions(k: int) -> Ints:
    """Return the directions over k members, in the order of the format."""
    vectors = [d for d in product((0, 1, -1), repeat=k) if np.count_nonzero(d) > 1]
    return np.array([d for d in vectors if d[np.flatnonzero(d)[0]] == 1])


@np.errstate(all="ignore")
def groups_of(
    node: Operator, request: GroupRequest, box: Box, forms: Box, arithmetic: Fast, uses: int
) -> Groups:
    """Return groups, from the boxes of a single branch's operand and of forms of it.

    `uses` says how often the operand is used: the errors pay for roundings of its coefficients too.
    """
    members, use, _ = request
    rule, everywhere = PIECEWISE_LINEAR[node.function], np.full(members.shape, np.inf)
    parts = {key: np.broadcast_to(x, node.size)[members] for key, x in node.attributes.items()}
    segments = rule.segments(Box(-everywhere, everywhere), parts)
    bends = [np.broadcast_to(segment.lower, members.shape) for segment in segments[1:]]
    steepest = max(1.0, *(np.abs(segment.slope).max() for segment in segments))
    # Form 0, of which nothing is known, form i, and form -i.
    lower = np.concatenate([[-np.inf], forms.lower[0], -forms.upper[0, ::-1]])[use]
    upper = np.concatenate([[np.inf], forms.upper[0], -forms.lower[0, ::-1]])[use]
    ends = [*(end[0, members] for end in box), lower, upper, *bends]
    found = [_vertices(Box(*x[:2]), Box(*x[2:4]), x[4:]) for x in zip(*ends, strict=True)]
    z, counts = np.concatenate([z for z, _ in found]), [len(z) for z, _ in found]
    own = np.repeat(np.arange(len(members)), counts)
    value = rule.range([Box(z, z)], {key: x[own] for key, x in parts.items()}).lower
    points = np.split(np.hstack([value, z]), np.cumsum(counts)[:-1])
    scatter = Linear(Move(members.ravel(), node.size), arithmetic)
    rounded, error = gamma(20 + scatter.backward_roundings + uses), np.zeros(len(members))
    for g, (_, unit) in enumerate(found):
        # f with bends at whole units is at most a unit times a slope from f, here and at a vertex;
        # and floats are less than a unit from the vertices.
        reach = np.abs(points[g]).max(initial=0.0)
        error[g] = inflate(4 * steepest * unit + rounded * reach, 8)
        if not counts[g] or not error[g] < LARGEST:
            points[g], error[g] = np.full((1, 2 * members.shape[1]), np.nan), 0.0
    return Groups(members, points, error, scatter)


def _usual(x: Floats) -> Floats:
    """Return the numbers whose products with points cannot overflow, and 0 for others."""
    return np.where(np.abs(x) < LARGEST, x, 0.0)


def _floor(x: Floats, exponent: int) -> Floats:
    """Return the largest whole units that are at most x."""
    units = np.floor(np.ldexp(x, -exponent))
    # What underflows is not 0.
    return np.where(x < 0, np.minimum(units, -1.0), units)


def _vertices(box: Box, directed: Box, bends: Sequence[Numbers]) -> tuple[Floats, Floats]:
    """Return the vertices of all cells of a polytope that is bounded, and its unit.

    In units all ends are integers of at most 2^42, and no sum here reaches 2^53.
    """
    k, size = len(box.lower), np.maximum(-box.lower, box.upper).max()
    exponent = int(np.frexp(np.clip(size, SMALLEST, LARGEST))[1]) - BITS
    low, high = _floor(box.lower, exponent), -_floor(-box.upper, exponent)
    # A direction is bounded by the box, too.
    positive, negative = np.maximum(directions(k), 0), np.minimum(directions(k), 0)
    least, most = positive @ low + negative @ high, positive @ high + negative @ low
    lower = np.append(low, np.clip(_floor(directed.lower, exponent), least, most))
    upper = np.append(high, np.clip(-_floor(-directed.upper, exponent), least, most))
    cuts = [np.clip(np.rint(np.ldexp(bend, -exponent)), low, high) for bend in bends]
    normals, planes, adjugates, scale = _intersections(k, len(bends))
    # Cramer's rule: what is compared is the determinant times a vertex, exactly.
    scaled = np.einsum("mi,mij->mj", np.concatenate([lower, upper, *cuts])[planes], adjugates)
    heights = scaled @ normals.T
    held = (lower * scale <= heights) & (heights <= upper * scale)
    inside = held.all(axis=1)
    # An empty polytope is worth as much as its box.
    kept = inside if inside.any() else held[:, :k].all(axis=1)
    kept = kept & (size < LARGEST)
    # Equal quotients are equal floats.
    places = np.unique(scaled[kept] / scale[kept], axis=0)
    return np.ldexp(places, exponent), np.ldexp(1.0, exponent)


@cache
def _intersections(k: int, bends: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Return the normals, which planes meet in a point, their adjugates, and their determinants.

    The planes are the lower ends along all normals, the upper ones, and the bends of all members.
    """
    unit = np.eye(k, dtype=np.int64)
    normals = np.concatenate([unit, directions(k)])
    every = np.concatenate([normals, normals, *[unit] * bends])
    planes = np.array(list(combinations(range(len(every)), k)))
    # Two dimensions are three, with a third normal across.
    matrices = np.tile(np.eye(3, dtype=np.int64), (len(planes), 1, 1))
    matrices[:, :k, :k] = every[planes]
    a, b, c = np.moveaxis(matrices, 1, 0)
    adjugates = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=1)[:, :k, :k]
    scale = (a * np.cross(b, c)).sum(axis=1)[:, None]
    proper = scale[:, 0] != 0
    adjugates = adjugates * np.sign(scale)[..., None]
    return normals, planes[proper], adjugates[proper], np.abs(scale[proper])
