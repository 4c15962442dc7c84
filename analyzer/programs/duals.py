"""What solvers' multipliers prove of a network: evaluated anew, so that no solver is trusted."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Input, Nonlinear
from absolver.analyzer.graph.pending import add_rows
from absolver.analyzer.programs.program import Array
from absolver.analyzer.regions.region import Region
from absolver.analyzer.search.groups import Groups
from absolver.dsl.operators.record import Interval

Place = tuple[str, int]
"""An operand: the name of a tensor, and a flat element of it."""
Cut = Mapping[Place, tuple[float, float]]
"""Between which numbers splits say that operands are."""


# Of the size of a sum, what its roundings may take.
_ROUNDED = 1e-11


@dataclass(frozen=True, eq=False)
class Forms:
    """Constraints `coefficients · y <= bound` on the flat outputs, all of which hold together."""

    coefficients: Array
    bound: Array


class Inequality(ABC):
    """`sum of rows · tensors <= constant` at every run whose operands lie in some boxes."""

    @property
    @abstractmethod
    def rows(self) -> Mapping[str, Tensor]:
        """Coefficients of tensors by name of their nodes, `[1, *shape]`."""

    @abstractmethod
    def constant(self, boxes: Mapping[str, Interval]) -> float:
        """Return what the sum never exceeds, up to rounding."""


@dataclass(frozen=True, eq=False)
class Duals:
    """Multipliers that prove something of a network's runs, in terms of the network.

    Any numbers are sound: `evaluate` says what they prove.
    """

    slopes: Mapping[str, tuple[Array, ...]]
    """By name of an operator's node, for each operand: the slopes with which a row passes the
    node's elements. What is said of those on which the operator is affine does not matter."""
    splits: Mapping[Place, float]
    """Multipliers of the upper sides of splits, or negated those of the lower sides."""
    weights: Array
    """Of the clause's constraints; at least 0."""
    cuts: Array = field(default_factory=lambda: np.zeros(0))
    """Of the half-spaces that cut the input set, where there are some; at least 0."""
    shares: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)
    """By name of an operator's node: what a row gives to groups of its neurons, and tilts."""
    inequalities: Sequence[Inequality] = ()
    """Added to a row as they are. Certificates have no place for them."""

    def rounded(self) -> "Duals":
        """Return the same as certificates hold it: in float32, of a size that it can hold.

        Multipliers are scaled so that weights add up to 1; where they are 0, and splits alone
        contradict each other, so that the largest multiplier of a split is 1.
        """
        weights = np.maximum(np.nan_to_num(self.weights), 0.0)
        splits = {place: m for place, m in self.splits.items() if np.isfinite(m)}
        cuts = np.maximum(np.nan_to_num(self.cuts), 0.0)
        largest = max((*(abs(m) for m in splits.values()), *cuts), default=0.0)
        total = weights.sum()
        if total <= 1e-9 * largest:
            weights, total = np.zeros_like(weights), largest
        scale = 1 / total if total > 0 else 0.0
        slopes = {
            name: tuple(np.nan_to_num(_single(side)) for side in sides)
            for name, sides in self.slopes.items()
        }
        own = {place: float(np.float32(m * scale)) for place, m in splits.items()}
        shares = {
            name: (np.nan_to_num(_single(share)), np.nan_to_num(_single(tilt)))
            for name, (share, tilt) in self.shares.items()
        }
        found = Duals(slopes, own, _single(weights * scale), _single(cuts * scale), shares)
        return found if scale == 0 else replace(found, inequalities=self._scaled(scale))

    def _scaled(self, scale: float) -> "tuple[Inequality, ...]":
        return tuple(Scaled(one, scale) for one in self.inequalities)


@dataclass(frozen=True, eq=False)
class Scaled(Inequality):
    """A positive multiple of an inequality."""

    one: Inequality
    scale: float

    @property
    def rows(self) -> Mapping[str, Tensor]:
        """Coefficients of tensors by name of their nodes."""
        return {name: self.scale * row for name, row in self.one.rows.items()}

    def constant(self, boxes: Mapping[str, Interval]) -> float:
        """Return what the sum never exceeds."""
        return self.scale * self.one.constant(boxes)


@dataclass(frozen=True, eq=False)
class Ground:
    """What multipliers speak about: a graph over one set, boxes of operands, and constraints."""

    graph: Graph
    """With biases joined, in float64."""
    region: Region
    boxes: Mapping[str, Interval]
    """By name of an operator's operand, `[1, *shape]`."""
    forms: Forms
    half_spaces: Forms | None = None
    """What cuts the region; the coefficients are those of the flat input."""
    groups: Mapping[str, Groups] = field(default_factory=dict)
    """By name of an operator's node: groups of its neurons, and where forms of them are least."""

    def cut(self, cut: Cut) -> Mapping[str, Interval]:
        """Return the boxes that splits leave, as the checker finds them: by interval steps, too.

        Tighter boxes are not always better: where an operator is affine on them, its own line
        takes the place of the one that multipliers go with.
        """
        boxes, sides = dict(self.boxes), dict[str, list[tuple[int, float, float]]]()
        for (name, element), ends in cut.items():
            sides.setdefault(name, []).append((element, *ends))
        for name, known in sides.items():
            numbers, *ends_of = zip(*known, strict=True)
            places = torch.tensor(numbers)
            low, up = (torch.tensor(part, dtype=torch.float64) for part in ends_of)
            lower, upper = (side.flatten().clone() for side in boxes[name])
            first = torch.maximum(lower[places], low)
            last = torch.minimum(upper[places], up)
            # Where nothing is left, the ends are put in order.
            lower[places], upper[places] = torch.minimum(first, last), torch.maximum(first, last)
            shape = boxes[name].lower.shape
            boxes[name] = Interval(lower.view(shape), upper.view(shape))
        return self._stepped(boxes) if cut else boxes

    def _stepped(self, boxes: Mapping[str, Interval]) -> Mapping[str, Interval]:
        """Meet boxes of operands with what the boxes before them leave."""
        steps: dict[str, Interval] = {}
        for node in self.graph.nodes:
            match node:
                case Input():
                    steps[node.name] = Interval(*self.region.bounding_box())
                case Affine():
                    steps[node.name] = _affine_step(node, steps)
                case Nonlinear(operator=operator):
                    steps[node.name] = operator.range([steps[name] for name in node.inputs])
            if node.name in boxes:
                low, up = boxes[node.name]
                lower = torch.maximum(low, steps[node.name].lower)
                upper = torch.minimum(up, steps[node.name].upper)
                # A set that is empty, or a point but for rounding.
                ends = torch.minimum(lower, upper), torch.maximum(lower, upper)
                steps[node.name] = Interval(*ends)
        return {name: steps[name] for name in boxes}


@dataclass(frozen=True)
class Bound:
    """A lower bound, and the size of what was added up on the way to it."""

    value: float
    size: float

    @property
    def positive(self) -> bool:
        """Whether it is above 0 by more than rounding may be supposed to have taken."""
        return self.value > _ROUNDED * self.size

    @property
    def touches(self) -> bool:
        """Whether it is 0 or more, as far as rounding lets one tell."""
        return self.value >= -_ROUNDED * self.size


@dataclass
class _Sum:
    value: float = 0.0
    size: float = field(default=0.0)

    def add(self, terms: Tensor) -> None:
        self.value += float(terms.sum())
        self.size += float(terms.abs().sum())


def evaluate(
    ground: Ground, cut: Cut, duals: Duals, boxes: Mapping[str, Interval] | None = None
) -> Bound:
    """Bound the weighted sum of the constraints' excesses over all runs that splits allow.

    The row is substituted back: `a f(x) >= s a · x + the minimum of a f(x) - s a · x over the box`
    for any slopes s, which the operator's support gives (weak duality).

    The boxes are those that the splits leave, where somebody has found them already.

    Guarantee: where the value is positive no run meets the constraints, up to rounding.
    """
    graph, boxes, total = ground.graph, boxes or ground.cut(cut), _Sum()
    weights = torch.from_numpy(duals.weights)
    start = torch.from_numpy(ground.forms.coefficients).T @ weights
    total.add(-weights * torch.from_numpy(ground.forms.bound))
    pending = {graph.output.name: start.view(1, *graph.output.shape)}
    _add_known(pending, total, (boxes, cut, duals))
    if ground.half_spaces is not None and len(duals.cuts):
        cuts = torch.from_numpy(duals.cuts)
        total.add(-cuts * torch.from_numpy(ground.half_spaces.bound))
        row = torch.from_numpy(ground.half_spaces.coefficients).T @ cuts
        add_rows(pending, graph.input.name, row.view(1, *graph.input.shape))
    for node in reversed(graph.nodes[1:]):
        a = pending.pop(node.name, None)
        if a is None:
            continue
        match node:
            case Affine(bias=bias):
                if bias is not None:
                    total.add(a * bias)
                for linear, name in zip(node.maps, node.inputs, strict=True):
                    add_rows(pending, name, linear.adjoint(a))
            case Nonlinear():
                _pass(node, a, pending, total, (ground, boxes, duals))
    if graph.input.name in pending:
        least = ground.region.minimum(pending[graph.input.name].unsqueeze(1))
        total.add(least)
    value = total.value if np.isfinite(total.size) else -np.inf
    return Bound(value, total.size)


def _pass(
    node: Nonlinear,
    a: Tensor,
    pending: dict[str, Tensor],
    total: _Sum,
    given: tuple[Ground, Mapping[str, Interval], Duals],
) -> None:
    """Have a row pass an operator: what groups take of it, and the rest by lines."""
    ground, boxes, duals = given
    box = [boxes[name] for name in node.inputs]
    slopes = _slopes(node, box, duals)
    shares = duals.shares.get(node.name)
    if shares is not None and node.name in ground.groups:
        a, by_groups = _grouped(a, slopes[0], ground.groups[node.name], shares)
        total.add(by_groups.least(node))
        add_rows(pending, node.inputs[0], by_groups.row)
    moved = [a * slope for slope in slopes]
    total.add(node.operator.support([-m for m in moved], a, box))
    for name, m in zip(node.inputs, moved, strict=True):
        add_rows(pending, name, m)


@dataclass(frozen=True, eq=False)
class _ByGroups:
    """What groups take of a row, `[groups, k]`, and the row of their slope vectors."""

    taken: Tensor
    mu: Tensor
    row: Tensor
    points: Tensor

    def least(self, node: Nonlinear) -> Tensor:
        """Return the minimum of each group's part: `taken · f(z) - mu · z` over its points."""
        values = node.operator(self.points)
        parts = self.taken.unsqueeze(1) * values - self.mu.unsqueeze(1) * self.points
        return parts.sum(2).amin(1)


def _grouped(
    a: Tensor, slope: Tensor, groups: Groups, shares: tuple[Array, Array]
) -> tuple[Tensor, _ByGroups]:
    """Give groups their shares of a row; return what is left, and what they make of theirs."""
    share, tilt = (torch.from_numpy(part) for part in shares)
    members = groups.members[0]
    flat = a.flatten()
    taken = flat[members] * share
    mu = taken * slope.flatten()[members] + taken.abs().sum(1, keepdim=True) * tilt
    left = flat.index_add(0, members.flatten(), -taken.flatten())
    row = torch.zeros_like(flat).index_add(0, members.flatten(), mu.flatten())
    return left.view_as(a), _ByGroups(taken, mu, row.view_as(a), groups.points[0])


def _affine_step(node: Affine, steps: Mapping[str, Interval]) -> Interval:
    """Bound an affine node over the boxes of its operands."""
    center = radius = torch.zeros(1, *node.shape, dtype=torch.float64)
    for linear, name in zip(node.maps, node.inputs, strict=True):
        lower, upper = steps[name]
        center = center + linear.apply((lower + upper) / 2)
        radius = radius + linear.apply_abs((upper - lower) / 2)
    center = center if node.bias is None else center + node.bias
    return Interval(center - radius, center + radius)


def _add_known(
    pending: dict[str, Tensor],
    total: _Sum,
    given: tuple[Mapping[str, Interval], Cut, Duals],
) -> None:
    """Add the multiples of splits to a row, `m (x - end)` of either side, and inequalities."""
    boxes, cut, duals = given
    for (name, element), multiplier in duals.splits.items():
        side = cut.get((name, element), (-np.inf, np.inf))[1 if multiplier > 0 else 0]
        if multiplier == 0 or not np.isfinite(side):
            continue
        row = torch.zeros_like(boxes[name].lower)
        row.view(-1)[element] = multiplier
        total.add(torch.tensor(-multiplier * side, dtype=torch.float64))
        add_rows(pending, name, row)
    for inequality in duals.inequalities:
        total.add(torch.tensor(-inequality.constant(boxes), dtype=torch.float64))
        for name, row in inequality.rows.items():
            add_rows(pending, name, row)


def exact_slopes(
    ground: Ground, cut: Cut, duals: Duals, boxes: Mapping[str, Interval] | None = None
) -> Mapping[str, tuple[Array, ...]]:
    """Return the slopes of all elements of each operator: where it is affine, its own."""
    boxes = boxes or ground.cut(cut)
    return {
        node.name: tuple(
            side.flatten().numpy()
            for side in _slopes(node, [boxes[name] for name in node.inputs], duals)
        )
        for node in ground.graph.nodes
        if isinstance(node, Nonlinear)
    }


def cut_box(box: Interval, element: int, sides: tuple[float, float] | None) -> tuple[float, float]:
    """Cut the interval of one flat element; where nothing is left, the ends are put in order."""
    low, up = float(box.lower[element]), float(box.upper[element])
    if sides is not None:
        low, up = max(low, sides[0]), min(up, sides[1])
    return min(low, up), max(low, up)


def _slopes(node: Nonlinear, box: list[Interval], duals: Duals) -> list[Tensor]:
    affine, exact = node.operator.affine_on(box)
    given = duals.slopes.get(node.name)
    found = []
    for operand, slope in enumerate(exact):
        slope = slope.expand_as(affine)
        own = torch.zeros_like(box[0].lower)
        if given is not None:
            own = torch.from_numpy(given[operand]).view_as(own)
        found.append(torch.where(affine, slope, own).to(box[0].lower))
    return found


def _single(values: Array) -> Array:
    rounded: Array = np.asarray(values, np.float64).astype(np.float32).astype(np.float64)
    return rounded
