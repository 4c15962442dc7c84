"""What a rule in groups owes: no point of an octahedron is below the support over it.

With any slope vector m and any share A of a row, `m · x` plus the least `A · f(z) - m · z` of the
group is at most `A · f(x)`, and so is any multiple of a cut, whose constant is such a least value.
What is left to prove is that least value. An operator's lines are its values (1), so that forms are
linear on the cells into which breakpoints cut an octahedron, and least at a vertex of one
(fundamental theorem of linear programming). A vertex of a cell is where k independent of its planes
meet, and the candidates are all such points (2). That the selection among them loses none is tried
on octahedra of all kinds: it is where rounding is dealt with.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from absolver.dsl.checker import CheckedDomain
from absolver.dsl.operators.octahedron import (
    Octahedra,
    crossings,
    directions,
    vertices,
)
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval
from absolver.dsl.prover.counterexamples import with_attributes
from absolver.dsl.prover.obligations import (
    Answer,
    Obligation,
    Point,
    combined,
    proved,
    refuted,
)
from absolver.dsl.prover.operators import instances
from absolver.dsl.prover.paths import assume
from absolver.dsl.prover.reals import Flag, both, either, negation
from absolver.dsl.prover.sketch import inside
from absolver.dsl.prover.solver import follows
from absolver.dsl.prover.terms import Term, flag_of
from absolver.dsl.syntax import CheckedRule

# Twice the common denominator of all determinants of up to three directions: 1, 2, 3 and 4.
_WHOLE = 24
# What plain evaluation may be off by, far above its rounding.
_SLACK = 1e-9
# Determinants of directions are whole numbers.
_INDEPENDENT = 0.5
_ENDS = ((-1.0, 1.0), (-2.0, 0.5), (-0.5, 2.0), (0.5, 1.5))
_SHARES = (1.0, -1.0, 0.5)
_SLOPES = (0.0, 1.0, 0.5, -1.0)


def group_obligations(
    domain: CheckedDomain,
    deciding: Callable[[CheckedRule, Callable[[], Any]], Callable[[], Answer]],
) -> Iterator[Obligation]:
    """What a domain's groups owe; `deciding` says whether the expressions of a rule are defined."""
    rules = instances()
    for operator, cuts in domain.cuts.items():
        members = dict.fromkeys(rule for cut in cuts for rule in cut.members)
        for (name, make), rule in product(rules.items(), members):
            if name.split(" ")[0] == operator:
                yield Obligation(
                    domain.name,
                    f"{name}: the normals of cuts are finite",
                    deciding(rule, make),
                    f"cut of {name}: {rule!r}",
                )
    for operator, grouping in domain.groups.items():
        yield Obligation(
            domain.name,
            f"{operator} in groups of {grouping.size}: the support is a lower bound",
            partial(support_is_sound, operator, grouping.size),
            f"groups of {grouping.size}: {operator}",
        )


def support_is_sound(name: str, size: int) -> Answer:
    """Decide whether the support over octahedra is a lower bound, for all attributes."""
    known: dict[int, Answer] = {}
    for operator in with_attributes(name):
        assert isinstance(operator, PiecewiseLinear)
        point = below_support(operator, size)
        if point is not None:
            return refuted("a point of an octahedron is below the support over it", point)
        pieces = len(operator.pieces)
        known[pieces] = known.get(pieces) or candidates_are_all(operator, size)
    lines = [
        follows(lines_are_values(make))
        for shown, make in instances().items()
        if shown.split(" ")[0] == name
    ]
    return combined(*lines, *known.values())


def lines_are_values(make: Callable[[], Any]) -> Callable[[], Flag]:
    """Every number lies on one of the pieces, and there the operator's value is on its line."""

    def program() -> Flag:
        operator = make()
        x = Term.unknown("x")
        here = [inside(piece, x.value) for piece in operator.pieces]
        for before, piece in zip(operator.pieces[:-1], operator.pieces[1:], strict=True):
            start, end = Term.of(piece.start), Term.of(before.end)
            assume(flag_of(start == end))
        claims = [
            either(negation(within), flag_of(operator(x) == piece.value_at(x)))
            for within, piece in zip(here, operator.pieces, strict=True)
        ]
        return both(either(*here), *claims)

    return program


def candidates_are_all(operator: PiecewiseLinear, size: int) -> Answer:
    """All independent planes, k at a time, meet in candidates: compared as maps of their heights.

    A candidate is affine in the heights of the planes, by its code; so how it moves with each one
    says which planes it is on.
    """
    normals = torch.tensor([*_units(size), *directions(size)], dtype=torch.float64)
    breaks = torch.tensor([piece.start for piece in operator.pieces[1:]], dtype=torch.float64)
    count, reach = len(normals), 4 + 2 * breaks.abs().sum().item()
    # A plane has a normal, and a height of its own or that of a break.
    every = torch.cat([normals, normals, *[normals[:size]] * len(breaks)])
    heights = torch.cat(
        [torch.full((count,), -reach), torch.full((count,), reach), breaks.repeat_interleave(size)]
    )
    moving = torch.eye(len(every), 2 * count, dtype=torch.float64)
    planes = torch.combinations(torch.arange(len(every)), size)
    planes = planes[torch.linalg.det(every[planes]).abs() > _INDEPENDENT]
    inverse = torch.linalg.inv(every[planes])
    expected = torch.cat([inverse @ moving[planes], inverse @ heights[planes].unsqueeze(2)], 2)

    moves = torch.cat([torch.zeros(1, 2 * count), torch.eye(2 * count)]).double()
    found = crossings(operator, moves[:, :count] - reach, moves[:, count:] + reach, size)
    have = torch.cat([(found[1:] - found[0]).permute(1, 2, 0), found[0].unsqueeze(2)], 2)
    known = {tuple(each) for each in (have * _WHOLE).round().flatten(1).tolist()}
    for place, each in zip(planes, (expected * _WHOLE).round().flatten(1).tolist(), strict=True):
        if tuple(each) not in known:
            return refuted(f"no candidate lies on the planes {place.tolist()}")
    return proved("all planes that meet")


def below_support(operator: PiecewiseLinear, size: int) -> Point | None:
    """Try octahedra, slope vectors and points on a grid; return what breaks the support."""
    octahedra = _octahedra(size)
    corners = vertices(operator, octahedra)
    steps = torch.arange(-4, 5, dtype=torch.float64) / 2
    grid = torch.cartesian_prod(*[steps] * size)
    forms = grid @ torch.tensor([*_units(size), *directions(size)], dtype=torch.float64).T
    lower, upper = (torch.cat([a, b], 1) for a, b in zip(*octahedra, strict=True))
    met = ((forms >= lower[:, None]) & (forms <= upper[:, None])).all(2)
    for shares, slopes in _vectors(size):
        bound = (corners @ slopes + operator(corners) @ shares).amin(1)
        values = grid @ slopes + operator(grid) @ shares
        least, place = torch.where(met, values, torch.inf).min(1)
        broken = (least < bound - _SLACK).nonzero().flatten().tolist()
        if broken:
            first = broken[0]
            point = grid[place[first]].tolist()
            named = {f"x{k}": x for k, x in enumerate(point)}
            named |= {f"a{k}": x for k, x in enumerate(slopes.tolist())}
            named |= {f"b{k}": x for k, x in enumerate(shares.tolist())}
            return Point(named, bound[first].item(), least[first].item())
    return None


def _octahedra(size: int) -> Octahedra:
    """Boxes with forms that cut nothing, one corner, or all corners off."""
    ends = product(_ENDS if size == 2 else _ENDS[:2], repeat=size)
    boxes = torch.tensor(list(ends), dtype=torch.float64)
    low, high = boxes.unbind(2)
    signs = torch.tensor(directions(size), dtype=torch.float64)
    most = high @ signs.clamp(min=0).T + low @ signs.clamp(max=0).T
    least = low @ signs.clamp(min=0).T + high @ signs.clamp(max=0).T
    some = torch.zeros_like(least)
    some[:, 0] = 0.5
    all_of_them = torch.full_like(least, 0.5)
    cuts = [0 * some, some, all_of_them]
    return Octahedra(
        Interval(low.repeat(len(cuts), 1), high.repeat(len(cuts), 1)),
        Interval(
            torch.cat([least + cut for cut in cuts]), torch.cat([most - 2 * cut for cut in cuts])
        ),
    )


def _vectors(size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shares of a row and slope vectors, the simple ones first."""
    for shares in product(_SHARES[:2], repeat=size):
        for slopes in product(_SLOPES[:3], repeat=size):
            yield torch.tensor(shares).double(), torch.tensor(slopes).double()
    for share, slope in product(_SHARES, _SLOPES):
        yield torch.full((size,), share).double(), torch.full((size,), slope).double()


def _units(size: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(i == j) for j in range(size)) for i in range(size))
