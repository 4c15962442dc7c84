"""Groups of neurons at an operator: which ones, and what a row that shares out its part gets.

For a row's coefficients A on y = f(x) a group takes a share `A_g = share * A` and any slope vector
mu: `A_g · y >= mu · x + min over P (A_g · f(z) - mu · z)`, where P holds the group's neurons
(octahedra: k-ReLU, Singh et al. 2019). What groups leave of A goes by the neurons' own lines. As
all is weak duality, shares and slopes are searched; the best of them are as strong as the convex
hulls of the groups, without their faces.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from absolver.analyzer.certify.group_entries import GroupFacts
from absolver.analyzer.certify.row_lines import RowLines
from absolver.dsl.domain import Grouping, Parameter
from absolver.dsl.operators.octahedron import directions
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval

SHARE, TILT, CUT = "groups.share", "groups.tilt", "groups.cut"
"""Names of the parameters: no name of the language has a dot."""
Proposal = Mapping[str, Tensor]
"""Values of those parameters for rows, `[batch, rows, members]` or `[batch, rows, cuts]`."""

# Shares may be negative, or more than all: what is left passes by the neurons' own lines.
_LEAST_SHARE, _MOST_SHARE = -0.5, 1.5
# How far slope vectors may be from the neurons' own slopes, as a share of a group's coefficients.
_MOST_TILT = 1.0


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of one operator, and points among which forms over their octahedra are least.

    `members` are numbers of neurons, flat. Sets that have fewer groups than others repeat one.
    `normals` are those of cuts, one for each group: of its results, and of its operands.
    """

    members: Int[Tensor, "sets groups k"]
    points: Float[Tensor, "sets groups points k"]
    normals: Float[Tensor, "sets groups 2 k"] | None = None

    def of(self, number: int) -> "Groups":
        """Return the groups of one set."""
        return self._at(slice(number, number + 1))

    def select(self, sets: Int[Tensor, "batch"]) -> "Groups":
        """Return the groups of some sets; those of a single set are not copied."""
        return self if len(self.members) == 1 else self._at(sets)

    def to(self, dtype: torch.dtype) -> "Groups":
        """Return the same with points in another dtype."""
        normals = None if self.normals is None else self.normals.to(dtype)
        return Groups(self.members, self.points.to(dtype), normals)

    def _at(self, sets: slice | Tensor) -> "Groups":
        normals = None if self.normals is None else self.normals[sets]
        return Groups(self.members[sets], self.points[sets], normals)


@dataclass(frozen=True)
class Minima:
    """Where the groups' parts of rows are least: points, and the operator's values there.

    Axes: `[batch, rows, groups, k]`. Cuts have none, as theirs do not depend on rows.
    """

    x: Tensor = field(default_factory=lambda: torch.zeros(0))
    y: Tensor = field(default_factory=lambda: torch.zeros(0))


def chosen_groups(
    operator: PiecewiseLinear, box: Interval, grouping: Grouping, most: int
) -> Int[Tensor, "groups k"]:
    """Choose groups of inexact neurons of one box `[n]`: at most so many.

    Neurons are sorted by the area between two lines with the chord's slope, then by number, and
    cut into runs; in a run, groups are taken in order where no two share more than they may.
    """
    affine, _ = operator.affine_on([box])
    inexact = (~affine).nonzero().squeeze(1)
    area = _area(operator, Interval(box.lower[inexact], box.upper[inexact]))
    order = inexact[area.argsort(descending=True, stable=True)].tolist()
    found: list[tuple[int, ...]] = []
    for start in range(0, len(order), grouping.among):
        found += _in_run(order[start : start + grouping.among], grouping)
    return torch.tensor(found[:most], dtype=torch.long, device=box.lower.device).view(
        -1, grouping.size
    )


def _area(operator: PiecewiseLinear, box: Interval) -> Float[Tensor, "neurons"]:
    """Return how much room lines leave: for ReLU, -l u (k-ReLU's score)."""
    width, one = box.upper - box.lower, torch.ones_like(box.lower)
    chord = (operator(box.upper) - operator(box.lower)) / width
    gap = -operator.support([chord], -one, [box]) - operator.support([-chord], one, [box])
    return gap * width


def _in_run(run: Sequence[int], grouping: Grouping) -> list[tuple[int, ...]]:
    taken: set[tuple[int, ...]] = set()
    found = []
    for group in combinations(run, grouping.size):
        shared = set(combinations(group, grouping.sharing + 1))
        if not shared & taken:
            taken |= shared
            found.append(group)
    return found


@dataclass(frozen=True, eq=False)
class Forms:
    """The forms that bound groups: signs of neurons, each once, and where groups use them.

    A direction of a group is form `|use| - 1`, negated where `use` is negative.
    """

    members: Int[Tensor, "forms k"]
    signs: Int[Tensor, "forms k"]
    use: Int[Tensor, "groups directions"]

    @classmethod
    def of(cls, groups: Int[Tensor, "groups k"]) -> "Forms":
        """List the forms of all directions of some groups; padded places have sign 0, member -1."""
        size = groups.shape[1]
        numbers: dict[tuple[tuple[int, int], ...], int] = {}
        use = []
        for group in groups.tolist():
            for direction in directions(size):
                form = sorted((n, s) for n, s in zip(group, direction, strict=True) if s)
                sign = form[0][1]
                key = tuple((n, sign * s) for n, s in form)
                use.append(sign * (numbers.setdefault(key, len(numbers)) + 1))
        padded = [(*key, *[(-1, 0)] * (size - len(key))) for key in numbers]
        pairs = torch.tensor(padded, dtype=torch.long).view(-1, size, 2)
        return cls(
            pairs[..., 0],
            pairs[..., 1],
            torch.tensor(use, dtype=torch.long).view(len(groups), len(directions(size))),
        )

    def rows(self, n: int, like: Tensor) -> Float[Tensor, "forms n"]:
        """Return the forms as rows over n neurons."""
        rows = like.new_zeros(len(self.members), n)
        places = self.members.clamp(min=0).to(like.device)
        return rows.scatter_add_(1, places, self.signs.to(like))

    def bounds(self, found: Interval) -> Interval:
        """Return the bounds of the groups' directions `[groups, directions]` from the forms'."""
        use = self.use.to(found.lower.device)
        place, positive = use.abs() - 1, use > 0
        low, high = found.lower[place], found.upper[place]
        return Interval(torch.where(positive, low, -high), torch.where(positive, high, -low))


def group_facts(members: Int[Tensor, "groups k"], forms: Forms, lines: RowLines) -> GroupFacts:
    """Return the groups of one set as a certificate holds them."""
    parts = (members, forms.members, forms.signs, forms.use)
    members_, places, signs, use = (part.cpu().numpy().astype(np.int32) for part in parts)
    return GroupFacts(members=members_, forms=places, signs=signs, use=use, lines=lines)


def joined_groups(parts: Sequence[Groups]) -> Groups:
    """Put together the groups of single sets: where one has fewer than others, it repeats some."""
    groups, points = (max(part.points.shape[axis] for part in parts) for axis in (1, 2))
    of_cuts = [part.normals for part in parts if part.normals is not None]
    return Groups(
        torch.cat([part.members[:, _repeated(part.members.shape[1], groups)] for part in parts]),
        torch.cat(
            [
                part.points[:, _repeated(part.points.shape[1], groups)][
                    :, :, _repeated(part.points.shape[2], points)
                ]
                for part in parts
            ]
        ),
        torch.cat([of[:, _repeated(of.shape[1], groups)] for of in of_cuts]) if of_cuts else None,
    )


def padded_facts(parts: Sequence[GroupFacts]) -> Sequence[GroupFacts]:
    """Repeat groups as `joined_groups` does."""
    most = max(len(part.members) for part in parts)
    index = [_repeated(len(part.members), most) for part in parts]
    return [
        replace(part, members=part.members[of], use=part.use[of])
        for part, of in zip(parts, index, strict=True)
    ]


def _repeated(count: int, most: int) -> list[int]:
    return [min(i, count - 1) for i in range(most)]


class Met(NamedTuple):
    """A row at an operator with groups, and the point at which its bound is taken."""

    a: Float[Tensor, "batch rows columns"]
    """The coefficients that the row brings."""
    slope: Float[Tensor, "batch rows columns"]
    """Those of the lines that they take."""
    proposal: Proposal
    minima: Minima
    x: Float[Tensor, "batch rows columns"]
    """The operand's values."""
    along: Float[Tensor, "batch rows columns"]
    """The values of the lines to which the rest of the row goes."""


class AbstractGrouped(ABC):
    """What an operator's groups do to a batch of rows: take a part of each, and bound it.

    Groups one of whose neurons a branch has made exact take no part: the neuron's own line is
    better there.
    """

    parameters: Mapping[str, Parameter]
    """What is searched for each row."""

    def __init__(
        self, operator: PiecewiseLinear, groups: Groups, place: Tensor, exact: Tensor
    ) -> None:
        """Take groups, the columns `place` of all neurons, and which columns are exact.

        `exact` is `[batch, columns]`.
        """
        self._points = groups.points.unsqueeze(1)
        self._values = operator(self._points)
        self._members = place[groups.members]
        self._shape, self._columns = self._members.shape[1:], exact.shape[1]
        stopped = self._at(exact.unsqueeze(1)).any(3, keepdim=True).expand(-1, -1, *self._shape)
        self._active = ~stopped

    def shares(self, values: Proposal) -> Proposal:
        """Read what a search proposes; where it proposes nothing, the start."""
        return {name: values.get(name, of.start) for name, of in self.parameters.items()}

    @abstractmethod
    def back(self, a: Tensor, slope: Tensor, proposal: Proposal) -> tuple[Tensor, Tensor, Minima]:
        """Return what groups leave of a row, the row of the operands they bring, and minima."""

    @abstractmethod
    def forth(self, met: Met) -> Float[Tensor, "batch rows columns"]:
        """Return the neurons' values: the derivative of what a row is worth in its coefficients."""

    @abstractmethod
    def gradients(self, met: Met) -> Mapping[str, Tensor]:
        """Return the gradients of what rows are worth in the parameters."""

    @abstractmethod
    def pulls(
        self, a: Tensor, proposal: Proposal, minima: Minima, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what groups leave of a row, and its derivative in the neurons' own slopes."""

    @abstractmethod
    def written(self, a: Tensor, slope: Tensor, proposal: Proposal) -> tuple[Tensor, Tensor]:
        """Return shares and tilts as certificates have them, `[batch, rows, groups, k]` each."""

    def _at(self, columns: Tensor) -> Tensor:
        """Return the values of the groups' neurons."""
        if len(self._members) == 1:
            found = columns.index_select(2, self._members.flatten())
        else:
            index = self._members.flatten(1).unsqueeze(1).expand(-1, columns.shape[1], -1)
            found = columns.expand(len(index), -1, -1).gather(2, index)
        return torch.unflatten(found, 2, self._shape)

    def _total(self, of_groups: Tensor) -> Tensor:
        """Add up what groups say of each neuron."""
        flat = of_groups.flatten(2)
        total = flat.new_zeros(*flat.shape[:2], self._columns)
        if len(self._members) == 1:
            return total.index_add_(2, self._members.flatten(), flat)
        index = self._members.flatten(1).unsqueeze(1).expand(-1, flat.shape[1], -1)
        return total.scatter_add_(2, index, flat)


class Grouped(AbstractGrouped):
    """Groups with slope vectors: a row gives each a share, and each has any slopes."""

    def __init__(
        self, operator: PiecewiseLinear, groups: Groups, place: Tensor, exact: Tensor
    ) -> None:
        """Take groups, the columns `place` of all neurons, and which columns are exact."""
        super().__init__(operator, groups, place, exact)
        active = self._active.to(groups.points)
        each = (active / self._at(self._total(active)).clamp(min=1)).flatten(2)
        active, none = active.flatten(2), torch.zeros_like(each)
        self.parameters = {
            SHARE: Parameter(each, _LEAST_SHARE * active, _MOST_SHARE * active, shared=False),
            TILT: Parameter(none, -_MOST_TILT * active, _MOST_TILT * active, shared=False),
        }

    def back(self, a: Tensor, slope: Tensor, proposal: Proposal) -> tuple[Tensor, Tensor, Minima]:
        """Return what groups leave of a row, the row of their slope vectors, and their minima."""
        share, tilt = self.written(a, slope, proposal)
        taken = self._at(a) * share
        mu = taken * self._at(slope) + taken.abs().sum(3, keepdim=True) * tilt
        x, y = self._least(taken, mu)
        return a - self._total(taken), self._total(mu), Minima(x, y)

    def forth(self, met: Met) -> Float[Tensor, "batch rows columns"]:
        """Return the neurons' values as groups give them, and as lines do for what is left."""
        share, tilt = self.written(met.a, met.slope, met.proposal)
        away = self._at(met.x) - met.minima.x
        tilted = (tilt * away).sum(3, keepdim=True)
        sign = (self._at(met.a) * share).sign()
        each = share * (met.minima.y + self._at(met.slope) * away + sign * tilted)
        left = 1 - self._total(share)
        return torch.addcmul(self._total(each), left, met.along)

    def gradients(self, met: Met) -> Mapping[str, Float[Tensor, "batch rows members"]]:
        """Return the gradients of what rows are worth in shares and tilts."""
        share, tilt = self.written(met.a, met.slope, met.proposal)
        away, at = self._at(met.x) - met.minima.x, self._at(met.a)
        tilted = (tilt * away).sum(3, keepdim=True)
        gain = met.minima.y + self._at(met.slope) * away - self._at(met.along)
        of_share = at * gain + (at * share).sign() * at * tilted
        of_tilt = (at * share).abs().sum(3, keepdim=True) * away
        return {SHARE: of_share.flatten(2), TILT: of_tilt.flatten(2)}

    def pulls(
        self, a: Tensor, proposal: Proposal, minima: Minima, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what groups leave of a row, and its derivative in the neurons' own slopes."""
        share = torch.unflatten(proposal[SHARE], 2, self._shape)
        taken = self._at(a) * share
        return a - self._total(taken), self._total(taken * (self._at(x) - minima.x))

    def written(self, a: Tensor, slope: Tensor, proposal: Proposal) -> tuple[Tensor, Tensor]:
        """Return shares and tilts as they are searched."""
        del a, slope
        share, tilt = (torch.unflatten(proposal[name], 2, self._shape) for name in (SHARE, TILT))
        return share, tilt

    def _least(self, taken: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        """Find the points at which groups' parts are least; groups come before rows in products."""
        points, values = self._points, self._values
        batch, rows, count, size = taken.shape
        if len(points) == 1:
            taken, mu = (part.flatten(0, 1).unsqueeze(0) for part in (taken, mu))
        form = torch.cat([taken, -mu], 3).transpose(1, 2)
        both = torch.cat([values, points], 4).squeeze(1)
        number = (form @ both.transpose(2, 3)).argmin(3, keepdim=True)
        found = both.gather(2, number.expand(-1, -1, -1, 2 * size)).transpose(1, 2)
        y, x = found.reshape(batch, rows, count, 2 * size).chunk(2, 3)
        return x, y
