"""What a search over operators' operands bounds, with all numbers in one dtype."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Int
from torch import Tensor

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.region import Region
from absolver.analyzer.search.ascent import Dual, Problem, Rows
from absolver.analyzer.search.choice import Splittable
from absolver.analyzer.search.groups import Groups
from absolver.analyzer.search.paths import Paths
from absolver.analyzer.search.proof import Root
from absolver.analyzer.search.relaxed import Columns, inexact_columns
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval


@dataclass(frozen=True, eq=False)
class Instance:
    """Pairs of an input set and one of its clauses, and what is known of hidden neurons."""

    graph: Graph
    domain: Domain
    region: Region
    boxes: Mapping[str, Interval]
    """By name of an operator's operand, `[sets, *shape]`."""
    set: Int[Tensor, "pairs"]
    rows: Rows
    """Each pair's constraints, one row a pair."""
    groups: Mapping[str, Groups] = field(default_factory=dict)
    """Groups of operators' neurons on the sets, by name of the operator's node."""

    @classmethod
    def of(
        cls,
        graph: Graph,
        domain: Domain,
        specification: Specification,
        root: Root,
        pairs: tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"]],
    ) -> Self:
        """Take the pairs of a specification, given as sets and columns of their clauses."""
        rows = Rows(*(part.unsqueeze(1) for part in specification.constraints_of(*pairs)))
        region = specification.region
        return cls(graph, domain, region, root.boxes, pairs[0], rows, root.points)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of all numbers."""
        return self.rows.bound.dtype

    @cached_property
    def splittable(self) -> Splittable:
        """What can be split."""
        return Splittable.of(self.graph, self.boxes)

    @cached_property
    def _columns(self) -> Columns:
        return inexact_columns(self.graph, self.boxes)

    def to(self, dtype: torch.dtype) -> "Instance":
        """Return the same with numbers of another dtype, rounded to nearest: no proof any more."""
        if dtype == self.dtype:
            return self
        device, rows = self.rows.bound.device, self.rows
        return Instance(
            self.graph.to(device, dtype),
            self.domain,
            self.region.to(device, dtype),
            {name: Interval(*(side.to(dtype) for side in box)) for name, box in self.boxes.items()},
            self.set,
            Rows(rows.forms.to(dtype), rows.bound.to(dtype), rows.member),
            {name: groups.to(dtype) for name, groups in self.groups.items()},
        )

    def dual(self, pairs: Int[Tensor, "branches"], paths: Paths) -> Dual:
        """Return the Lagrangian of branches: boxes cut by splits, and splits for multipliers."""
        paths = paths.to(self.dtype)
        sets = self.set[pairs]
        boxes = {name: Interval(b.lower[sets], b.upper[sets]) for name, b in self.boxes.items()}
        for number, name in enumerate(self.splittable.names):
            boxes[name] = paths.cut(number, boxes[name])
        splits, _ = paths.splits(self.splittable.names, self.splittable.shapes)
        groups = {name: of.select(sets) for name, of in self.groups.items()}
        rows = self.rows.select(pairs)
        problem = Problem(self.region.select(sets), boxes, rows, splits, groups)
        return Dual(self.graph, self.domain, problem, self._columns)
