"""A property as tensors: input sets, linear forms of the outputs, and what their bounds decide."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import lcm, nan
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.properties.collection import collection_paused
from absolver.analyzer.properties.errors import (
    InexactCoefficientError,
    PropertyMismatchError,
    UnboundedInputError,
)
from absolver.analyzer.properties.property import (
    Clause,
    LinearConstraint,
    Property,
)
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import float_above, float_below, round_down, round_up


@dataclass(frozen=True, eq=False, kw_only=True)
class Specification:
    """What has to be shown for each of P input sets, so that no clause of a property is met.

    Row `i` of set `p` stands for the output constraint `rows[p, i] · y <= bound[p, i]`. A clause
    is refuted on its set as soon as one of its rows is: where the minimum of the form is above
    the bound, or at it if `strict`. Sets with fewer rows or clauses than others are padded;
    padding belongs to no clause (`row`) or is refuted from the start (`clause`, -1).
    """

    region: Region
    rows: Float[Tensor, "sets rows outputs"]
    bound: Float[Tensor, "sets rows"]
    strict: Bool[Tensor, "sets rows"]
    member: Bool[Tensor, "sets clauses rows"]
    """Whether a row is one of a clause's constraints."""
    clause: Int[Tensor, "sets clauses"]
    """The property's number of each clause, -1 for padding."""
    constraints: tuple[tuple[LinearConstraint, ...], ...]
    """What the rows of each set stand for, exactly."""
    output_name: Callable[[int], str]
    """Names a flat output for people."""

    @classmethod
    @collection_paused()
    def from_property(
        cls, prop: Property, graph: Graph, device: torch.device | str, dtype: torch.dtype
    ) -> "Specification":
        """Return a property's specification, one set for each distinct box that clauses use.

        Guarantee: if `verified` is true of sound bounds, the property has no counterexample over
        the reals: boxes are rounded outward, bounds upward, and coefficients are exact.
        """
        shape = graph.input.shape
        _check_size(prop, graph)
        groups: dict[tuple[int, tuple[LinearConstraint, ...]], list[int]] = {}
        for index, clause in enumerate(prop.clauses):
            groups.setdefault((clause.box, _proper(clause)), []).append(index)
        lower, upper = outward_bounds(prop, [box for box, _ in groups], device, dtype)
        box = Box(lower.view(-1, *shape), upper.view(-1, *shape))
        cuts = [on_inputs for _, on_inputs in groups]
        region = _polytope(box, cuts) if any(cuts) else box
        clauses = [[(i, prop.clauses[i]) for i in members] for members in groups.values()]
        return cls.from_clauses(region, clauses, prop.outputs, dtype, prop.output_name)

    @classmethod
    def from_clauses(
        cls,
        region: Region,
        clauses: Sequence[Sequence[tuple[int, Clause]]],
        outputs: int,
        dtype: torch.dtype,
        output_name: Callable[[int], str] = "Y_{}".format,
    ) -> "Specification":
        """Return the specification of numbered clauses for each set of a region."""
        constraints = [_distinct(clause for _, clause in group) for group in clauses]
        number, member = _membership(clauses, constraints)
        rows, bound, strict = _rows(constraints, outputs, dtype)
        device = region.device
        return cls(
            region=region,
            rows=rows.to(device),
            bound=bound.to(device),
            strict=strict.to(device),
            member=member.to(device),
            clause=number.to(device),
            constraints=tuple(map(tuple, constraints)),
            output_name=output_name,
        )

    @property
    def sets(self) -> int:
        """The number of input sets."""
        return self.rows.shape[0]

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Each row of each set as people write it, like `Y_3 <= Y_0`."""
        return tuple(
            tuple(constraint.describe(self.output_name) for constraint in constraints)
            for constraints in self.constraints
        )

    def margins(self, lower: Float[Tensor, "sets rows"]) -> Float[Tensor, "sets rows"]:
        """Return how far each row's lower bound is above what refutes it; infinite for padding."""
        used = self.member.any(dim=1)
        return torch.where(used, lower - self.bound, torch.inf)

    def rows_refuted(self, lower: Float[Tensor, "sets rows"]) -> Bool[Tensor, "sets rows"]:
        """Say which rows' constraints no point of their set meets; never one whose bound is NaN."""
        return (lower > self.bound) | (self.strict & (lower == self.bound))

    def refuted(self, lower: Float[Tensor, "sets rows"]) -> Bool[Tensor, "sets clauses"]:
        """Say which clauses no point of their set meets, padding included."""
        met = (self.member & self.rows_refuted(lower).unsqueeze(1)).any(dim=2)
        return met | (self.clause < 0)

    def verified_sets(self, lower: Float[Tensor, "sets rows"]) -> Bool[Tensor, "sets"]:
        """Say on which sets all clauses are refuted."""
        return self.refuted(lower).all(dim=1)

    def verified(self, lower: Float[Tensor, "sets rows"]) -> bool:
        """Say whether all clauses are refuted: the property holds."""
        return bool(self.verified_sets(lower).all())

    def open(self, lower: Float[Tensor, "sets rows"]) -> Int[Tensor, "open"]:
        """Return the numbers of the sets that the bounds leave undecided."""
        return (~self.verified_sets(lower)).nonzero().flatten()

    def constraints_of(
        self, sets: Int[Tensor, "pairs"], columns: Int[Tensor, "pairs"]
    ) -> tuple[
        Float[Tensor, "pairs constraints outputs"],
        Float[Tensor, "pairs constraints"],
        Bool[Tensor, "pairs constraints"],
    ]:
        """Return the rows of single clauses, their bounds, and which of them are no padding.

        A clause's rows are the first ones, in their order; what pads those with fewer is 0.
        """
        member = self.member[sets, columns]
        count = max(1, int(member.sum(dim=1).amax())) if len(sets) else 1
        # A stable sort brings the rows of each clause to the front.
        row = member.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count]
        used = member.gather(1, row)
        rows, bound = self.rows[sets.unsqueeze(1), row], self.bound[sets.unsqueeze(1), row]
        return torch.where(used.unsqueeze(2), rows, 0.0), torch.where(used, bound, 0.0), used

    def select(self, index: Int[Tensor, "chosen"]) -> Self:
        """Return the specification of the sets that an index tensor names."""
        return replace(
            self,
            region=self.region.select(index),
            rows=self.rows[index],
            bound=self.bound[index],
            strict=self.strict[index],
            member=self.member[index],
            clause=self.clause[index],
            constraints=tuple(self.constraints[i] for i in index.tolist()),
        )

    def chunks(self, max_boxes: int) -> Iterator[Self]:
        """Yield the specification in parts of at most `max_boxes` sets."""
        every = torch.arange(self.sets, device=self.rows.device)
        for start in range(0, self.sets, max_boxes):
            yield self.select(every[start : start + max_boxes])


def outward_bounds(
    prop: Property, boxes: Sequence[int], device: torch.device | str, dtype: torch.dtype
) -> tuple[Float[Tensor, "boxes inputs"], Float[Tensor, "boxes inputs"]]:
    """Return the bounds of boxes, by number, rounded outward; every one has to be finite."""
    lower = _table([prop.boxes[b].lower for b in boxes], float_below)
    upper = _table([prop.boxes[b].upper for b in boxes], float_above)
    lower, upper = round_down(lower, dtype), round_up(upper, dtype)
    for side, values in (("lower", lower), ("upper", upper)):
        if not values.isfinite().all():
            _, index = (~values.isfinite()).nonzero()[0].tolist()
            raise UnboundedInputError(
                f"the input {prop.input_name(index)} has no finite {side} bound; "
                f"bound every input on both sides"
            )
    return lower.to(device), upper.to(device)


def _check_size(prop: Property, graph: Graph) -> None:
    for kind, asked, node in (
        ("inputs", prop.inputs, graph.input),
        ("outputs", prop.outputs, graph.output),
    ):
        if asked != node.size:
            raise PropertyMismatchError(
                f"the property is about {asked} {kind}, but the network has {node.size}: "
                f"{node.name!r} {list(node.shape)}"
            )


def _table(
    sides: Sequence[Sequence[Fraction | None]], rounded: Callable[[Fraction], float]
) -> Float[Tensor, "boxes inputs"]:
    """Round the exact bounds to float64; an unbounded side becomes NaN."""
    # Boxes of one file share their rationals, of which there are few: each is rounded once.
    shared = {id(value): value for side in sides for value in side}
    known = {i: nan if value is None else rounded(value) for i, value in shared.items()}
    table = np.array([[known[id(value)] for value in side] for side in sides], dtype=np.float64)
    return torch.from_numpy(table)


def _proper(clause: Clause) -> tuple[LinearConstraint, ...]:
    """Return the constraints on inputs that a closed box does not already imply."""
    return tuple(c for c in clause.on_inputs if len(c.terms) > 1)


def _distinct(clauses: Iterable[Clause]) -> Mapping[LinearConstraint, int]:
    """Number the distinct output constraints of some clauses."""
    return {c: i for i, c in enumerate(dict.fromkeys(c for k in clauses for c in k.on_outputs))}


def _membership(
    clauses: Sequence[Sequence[tuple[int, Clause]]],
    constraints: Sequence[Mapping[LinearConstraint, int]],
) -> tuple[Int[Tensor, "sets clauses"], Bool[Tensor, "sets clauses rows"]]:
    """Return the numbers of the clauses of each set, and which rows each clause has."""
    sets, widest = len(clauses), max(map(len, clauses), default=0)
    number = torch.full((sets, widest), -1)
    member = torch.zeros(sets, widest, _most_rows(constraints), dtype=torch.bool)
    entries = [(p, k, i) for p, group in enumerate(clauses) for k, (i, _) in enumerate(group)]
    of_sets, of_clauses, numbers = torch.tensor(entries, dtype=torch.long).view(-1, 3).T
    number[of_sets, of_clauses] = numbers
    places = [
        (p, k, constraints[p][c])
        for p, group in enumerate(clauses)
        for k, (_, clause) in enumerate(group)
        for c in clause.on_outputs
    ]
    member[tuple(torch.tensor(places, dtype=torch.long).view(-1, 3).T)] = True
    return number, member


def _most_rows(constraints: Sequence[Mapping[LinearConstraint, int]]) -> int:
    """Count the rows of the widest set: one of padding where no clause is about outputs."""
    return max(1, max(map(len, constraints), default=0))


def _rows(
    constraints: Sequence[Mapping[LinearConstraint, int]], outputs: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, bounds and strictness of the constraints of each set.

    Guarantee: a point that meets the constraint has `row · y <= bound`, and `<` where strict.
    """
    size = (len(constraints), _most_rows(constraints))
    places: list[tuple[int, int]] = []
    entries: list[tuple[int, int, int]] = []
    coefficients: list[float] = []
    bounds: list[float] = []
    strict: list[bool] = []
    for p, numbered in enumerate(constraints):
        for constraint, i in numbered.items():
            scale = _scale(constraint, dtype)
            entries += [(p, i, variable) for variable, _ in constraint.terms]
            coefficients += [float(c if scale == 1 else c * scale) for _, c in constraint.terms]
            exact = constraint.bound if scale == 1 else constraint.bound * scale
            places.append((p, i))
            bounds.append(float_above(exact))
            # Below a bound that was rounded up, `<=` the exact one implies `<` the rounded one.
            strict.append(constraint.strict or float_below(exact) != bounds[-1])
    rows = torch.zeros(*size, outputs, dtype=dtype)
    where = tuple(torch.tensor(entries, dtype=torch.long).view(-1, 3).T)
    rows[where] = torch.tensor(coefficients, dtype=dtype)
    wide = torch.zeros(size, dtype=torch.float64)
    strictly = torch.zeros(size, dtype=torch.bool)
    which = tuple(torch.tensor(places, dtype=torch.long).view(-1, 2).T)
    wide[which] = torch.tensor(bounds, dtype=torch.float64)
    strictly[which] = torch.tensor(strict, dtype=torch.bool)
    bound = round_up(wide, dtype)
    return rows, bound, strictly | (bound > wide)


def _scale(constraint: LinearConstraint, dtype: torch.dtype) -> int:
    """Return a positive factor that makes all coefficients numbers of the dtype."""
    coefficients = [c for _, c in constraint.terms]
    if all(c.denominator == 1 and abs(c.numerator) == 1 for c in coefficients):
        return 1
    for scale in (1, lcm(*(c.denominator for c in coefficients))):
        if all(_is_exact(c * scale, dtype) for c in coefficients):
            return scale
    name = str(dtype).removeprefix("torch.")
    wider = "" if dtype == torch.float64 else "; float64 may hold them"
    raise InexactCoefficientError(
        f"the coefficients of `{constraint.describe('Y_{}'.format)}` are no numbers of {name}, nor "
        f"are their common multiples{wider}"
    )


def _is_exact(value: Fraction, dtype: torch.dtype) -> bool:
    nearest = float_below(value)
    return nearest == value and torch.tensor(nearest, dtype=dtype).item() == nearest


def _polytope(box: Box, constraints: Sequence[tuple[LinearConstraint, ...]]) -> Polytope:
    """Return the boxes cut by constraints on inputs, rounded outward; missing ones are 0 <= 0."""
    inputs = box.lower[0].numel()
    widest = max(map(len, constraints))
    matrix = torch.zeros(len(constraints), widest, inputs, dtype=torch.float64)
    bound = torch.zeros(len(constraints), widest, dtype=torch.float64)
    reach = torch.maximum(box.lower.abs(), box.upper.abs()).flatten(1).cpu()
    for p, group in enumerate(constraints):
        for q, constraint in enumerate(group):
            slack = Fraction(0)
            for variable, coefficient in constraint.terms:
                rounded = float_below(coefficient)
                matrix[p, q, variable] = rounded
                slack += abs(coefficient - Fraction(rounded)) * Fraction(reach[p, variable].item())
            bound[p, q] = float_above(constraint.bound + slack)
    wide = Box(box.lower.double(), box.upper.double())
    shaped = matrix.view(len(constraints), widest, *box.shape).to(box.device)
    return Polytope(wide, shaped, bound.to(box.device)).to(box.device, box.lower.dtype)
