"""Dual ascent: better slopes and multipliers for rows over fixed bounds of the hidden neurons.

For every choice of slopes (alpha), of multipliers of splits (beta) and of a clause's constraints,
back-substitution gives a valid bound (weak duality). The bound is the Lagrangian's value at one
point: the input where the substituted row is least, carried forward along the lines that the row
has taken. So one pass back and one pass forth give the bound and its gradient in everything: a
line's slope gains `coefficient * (line's change at the point)`, a constraint's multiplier gains by
how much the point violates the constraint (Xu et al., "Fast and Complete", ICLR 2021; Wang et al.,
"Beta-CROWN", NeurIPS 2021; the envelope theorem takes the place of automatic differentiation).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Nonlinear
from absolver.analyzer.graph.pending import add_rows
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.region import Region
from absolver.analyzer.search.adam import Adam
from absolver.analyzer.search.groups import Groups
from absolver.analyzer.search.lagrangian import Key, Lagrangian, Point
from absolver.analyzer.search.relaxed import Columns, Lines, Relaxed, Substituted
from absolver.dsl.domain import Domain, Parameter
from absolver.dsl.operators.record import Interval


@dataclass(frozen=True)
class Split:
    """What splits say of a node's neurons: `sign * (value - threshold) <= 0`; 0 says nothing."""

    sign: Float[Tensor, "batch *shape"]
    threshold: Float[Tensor, "batch *shape"]


@dataclass(frozen=True)
class Rows:
    """One row for each element and place: a combination of constraints `forms · y <= bound`.

    Rows with fewer constraints than others are padded by zeros, which are no `member`.
    """

    forms: Float[Tensor, "batch rows constraints outputs"]
    bound: Float[Tensor, "batch rows constraints"]
    member: Bool[Tensor, "batch rows constraints"]

    def select(self, index: Tensor) -> "Rows":
        """Return the rows of some batch elements."""
        return Rows(self.forms[index], self.bound[index], self.member[index])


@dataclass(frozen=True)
class Problem:
    """Elements to bound: input sets, hidden bounds, the rows, splits, and groups of neurons.

    Groups are those of operators by name, for the elements or for all of them.
    """

    region: Region
    boxes: Mapping[str, Interval]
    rows: Rows
    splits: Mapping[str, Split] = field(default_factory=dict)
    groups: Mapping[str, Groups] = field(default_factory=dict)


class Dual:
    """The Lagrangian of a graph under a domain with lines over neurons.

    Guarantee: for every `Point` whose multipliers and combinations are not negative, the bound of
    `evaluate` holds over the region cut by the splits, up to rounding.
    """

    def __init__(
        self, graph: Graph, domain: Domain, problem: Problem, columns: Columns | None = None
    ) -> None:
        """Prepare a problem; `columns` has the neurons on which operators may be inexact."""
        self._graph = graph.joined
        self._problem = problem
        self.relaxed = {
            node.name: Relaxed(
                node,
                domain,
                [_with_rows(problem.boxes[name]) for name in node.inputs],
                None if columns is None else columns.get(node.name),
                problem.groups.get(node.name),
            )
            for node in self._graph.nodes
            if isinstance(node, Nonlinear)
        }

    @property
    def ranges(self) -> Mapping[Key, tuple[Tensor, Tensor]]:
        """The range of each parameter; of one that a layer shares, that of all its neurons."""
        return {
            (of, name): _hull(parameter) if parameter.shared else (parameter.lower, parameter.upper)
            for of, relaxed in self.relaxed.items()
            for name, parameter in relaxed.parameters.items()
        }

    @property
    def has_cuts(self) -> bool:
        """Whether rows take multiples of cuts."""
        return any(groups.normals is not None for groups in self._problem.groups.values())

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of all numbers."""
        return self._problem.rows.bound.dtype

    @property
    def region(self) -> Region:
        """The input sets."""
        return self._problem.region

    @property
    def input_name(self) -> str:
        """The name of the input node."""
        return self._graph.input.name

    @property
    def member(self) -> Bool[Tensor, "batch rows constraints"]:
        """Which constraints a row may combine."""
        return self._problem.rows.member

    def start(self, known: Point | None = None) -> Point:
        """Return where to begin: the domain's own starts, and what is known already."""
        rows = self._problem.rows
        parameters: dict[Key, Tensor] = {}
        for of, relaxed in self.relaxed.items():
            for name, parameter in relaxed.parameters.items():
                value = parameter.start.expand(-1, rows.bound.shape[1], -1)
                parameters[of, name] = value.mean(2, keepdim=True) if parameter.shared else value
        multipliers = {
            name: torch.zeros_like(split.sign).unsqueeze(1)
            for name, split in self._problem.splits.items()
        }
        if known is None:
            combination = rows.member.to(rows.bound) / rows.member.sum(2, keepdim=True)
            return Point(parameters, multipliers, combination)
        parameters |= {k: v for k, v in known.parameters.items() if k in parameters}
        multipliers |= {k: v for k, v in known.multipliers.items() if k in multipliers}
        return Point(parameters, multipliers, known.combination)

    def evaluate(self, point: Point, *, gradients: bool = False) -> Lagrangian:
        """Substitute back, and evaluate the Lagrangian where the row is least."""
        lines = {
            of: relaxed.lines(
                {name: v for (node, name), v in point.parameters.items() if node == of},
                gradients=gradients,
            )
            for of, relaxed in self.relaxed.items()
        }
        rows = self._problem.rows
        start = (rows.forms * point.combination.unsqueeze(3)).sum(2)
        start = torch.unflatten(start, 2, self._graph.output.shape)
        found, at_input = self._back(start, point, lines)
        least, beside = self._least(at_input)
        values, operands = self._forth(least, found, lines)
        output = values[self._graph.output.name].flatten(2).unsqueeze(2)
        excess = torch.where(rows.member, (rows.forms * output).sum(3) - rows.bound, 0.0)
        bound = (point.combination * excess).sum(2) + beside
        for name, multiplier in point.multipliers.items():
            bound = bound + (multiplier * self.violation(name, values)).flatten(2).sum(2)
        bound = torch.nan_to_num(bound, nan=-torch.inf, posinf=-torch.inf)
        return Lagrangian(bound, found, at_input, values, excess, lines, operands)

    def violation(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        """Say by how much a node's values violate its splits; negative where they do not."""
        split = self._problem.splits[name]
        return split.sign.unsqueeze(1) * (values[name] - split.threshold.unsqueeze(1))

    def half_spaces(self, point: Point) -> Float[Tensor, "batch rows constraints"] | None:
        """Return the multiples that rows take of what cuts the input sets; None for boxes."""
        region = self._problem.region
        if not isinstance(region, Polytope):
            return None
        return region.multipliers(self.evaluate(point).at_input)

    def signs(self, name: str) -> Float[Tensor, "batch *shape"]:
        """Say which of a node's neurons splits are on; 0 where none is."""
        return self._problem.splits[name].sign

    def slope_gradients(self, at: Lagrangian) -> Mapping[Key, Float[Tensor, "batch rows columns"]]:
        """Return the gradient of the sum of all bounds in the parameters."""
        found: dict[Key, Tensor] = {}
        for of, relaxed in self.relaxed.items():
            if of in at.found:
                here = at.lines[of], at.found[of], at.operands[of]
                for name, gradient in relaxed.gradients(*here).items():
                    found[of, name] = torch.nan_to_num(gradient)
        return found

    def _back(
        self, start: Tensor, point: Point, lines: Mapping[str, Lines]
    ) -> tuple[dict[str, Substituted], Tensor]:
        """Substitute rows back; return what they find at operators, and the rows at the input."""
        pending = {self._graph.output.name: start}
        met: dict[str, Substituted] = {}
        for node in reversed(self._graph.nodes[1:]):
            if (multiplier := point.multipliers.get(node.name)) is not None:
                sign = self._problem.splits[node.name].sign
                add_rows(pending, node.name, multiplier * sign.unsqueeze(1))
            a = pending.pop(node.name, None)
            if a is None:
                continue
            match node:
                case Affine():
                    for linear, name in zip(node.maps, node.inputs, strict=True):
                        result = linear.adjoint(a.flatten(0, 1))
                        add_rows(pending, name, torch.unflatten(result, 0, a.shape[:2]))
                case Nonlinear():
                    met[node.name], results = self.relaxed[node.name].back(lines[node.name], a)
                    for name, result in zip(node.inputs, results, strict=True):
                        add_rows(pending, name, result)
        none = start.new_zeros(*start.shape[:2], *self._graph.input.shape)
        return met, pending.get(self._graph.input.name, none)

    def _least(
        self, a: Float[Tensor, "batch rows *shape"]
    ) -> tuple[Float[Tensor, "batch rows *shape"], Float[Tensor, "batch rows"]]:
        """Return points at which rows are least, and how far their minima are from there.

        A set that has multipliers of its own takes its minimum with them at a point that may lie
        outside, or where its constraints are slack.
        """
        region = self._problem.region
        if isinstance(region, Box):
            point = region.center.unsqueeze(1) - region.radius.unsqueeze(1) * a.sign()
            return point, a.new_zeros(a.shape[:2])
        with torch.enable_grad():
            row = a.detach().requires_grad_()
            minimum = region.minimum(row)
            (point,) = torch.autograd.grad(minimum.sum(), row)
        return point, minimum.detach() - (row.detach() * point).flatten(2).sum(2)

    def _forth(
        self, x: Tensor, found: Mapping[str, Substituted], lines: Mapping[str, Lines]
    ) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
        """Carry points forward along the lines that the rows have taken.

        Returns the values of all nodes, and operators' operands where these are inexact.
        """
        values = {self._graph.input.name: x}
        operands: dict[str, list[Tensor]] = {}
        for node in self._graph.nodes[1:]:
            match node:
                case Affine():
                    parts = [
                        torch.unflatten(linear.apply(values[name].flatten(0, 1)), 0, x.shape[:2])
                        for linear, name in zip(node.maps, node.inputs, strict=True)
                    ]
                    total = sum(parts[1:], start=parts[0])
                    values[node.name] = total if node.bias is None else total + node.bias
                case Nonlinear():
                    relaxed = self.relaxed[node.name]
                    values[node.name], operands[node.name] = relaxed.forth(
                        lines[node.name], found.get(node.name), values
                    )
        return values, operands


def ascend(
    dual: Dual, point: Point, *, steps: int, enough: float | Tensor = torch.inf
) -> tuple[Point, Float[Tensor, "batch rows"], Lagrangian]:
    """Take gradient steps from a point; return the best one, its bounds, and the last evaluation.

    Guarantee: no bound is below the one at the start. Ends early when all are above `enough`.
    """
    adam = Adam(dual.ranges)
    at = dual.evaluate(point, gradients=True)
    best, bounds = point, at.bound
    for step in range(steps):
        if bool((bounds > enough).all()):
            break
        slopes = dual.slope_gradients(at)
        violations = {name: dual.violation(name, at.values) for name in point.multipliers}
        point = adam.step(point, slopes, violations, at, dual.member)
        at = dual.evaluate(point, gradients=step + 1 < steps)
        better = at.bound > bounds
        if bool(better.any()):
            best = _merged(better, point, best)
            bounds = torch.maximum(bounds, at.bound)
    return best, bounds, at


def _merged(better: Tensor, new: Point, old: Point) -> Point:
    """Take the new proposals of those rows that are better, the old ones of the others."""
    if bool(better.all()):
        return new

    def choose(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(better.view(*better.shape, *[1] * (a.dim() - 2)), a, b)

    return Point(
        {key: choose(new.parameters[key], old.parameters[key]) for key in new.parameters},
        {key: choose(new.multipliers[key], old.multipliers[key]) for key in new.multipliers},
        choose(new.combination, old.combination),
    )


def _hull(parameter: Parameter) -> tuple[Tensor, Tensor]:
    """Return the ends of all neurons' ranges; within them each neuron clamps what it is given."""
    return parameter.lower.amin(2, keepdim=True), parameter.upper.amax(2, keepdim=True)


def _with_rows(box: Interval) -> Interval:
    return Interval(box.lower.unsqueeze(1), box.upper.unsqueeze(1))
