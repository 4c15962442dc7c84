"""By how much a margin has to exceed 0 before a branch counts as refuted."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.box import Box
from absolver.analyzer.rounding import rounding_allowance
from absolver.dsl.domain import Domain

_FLOAT32 = torch.finfo(torch.float32).eps
# The allowance supposes that all roundings add up, and multiplies them by a safety factor; what is
# met is far less, and the checker's own bound is less.
_ALLOWED = 16.0


@dataclass(frozen=True, eq=False)
class Tolerance:
    """What rounding may take of a margin, for each row of each set.

    `needed` has to be exceeded. What does not exceed `float32` as well may hold over the reals
    only. Both are estimates at the middle of the set: the checker has the last word.
    """

    needed: Float[Tensor, "sets rows"]
    float32: Float[Tensor, "sets rows"]
    strict: Bool[Tensor, "sets rows"]
    """Which constraints are written as strict ones: they are missed at their bound as well."""

    @classmethod
    def of(
        cls, graph: Graph, domain: Domain, specification: Specification, *, float32: bool
    ) -> Self:
        """Estimate roundings at the middle of each set; with `float32` both needs are one."""
        lower, upper = specification.region.bounding_box()
        middle = lower / 2 + upper / 2
        point = Box(middle, middle)
        found = propagate(graph, domain, point, specification.rows)
        own = rounding_allowance(graph, point, found.hidden, specification.rows)
        own = torch.nan_to_num(own) / _ALLOWED
        wide = own * max(_FLOAT32 / torch.finfo(own.dtype).eps, 1.0)
        strict = torch.zeros_like(specification.strict)
        for element, constraints in enumerate(specification.constraints):
            if rows := [row for row, one in enumerate(constraints) if one.strict]:
                strict[element, rows] = True
        return cls(wide if float32 else own, wide, strict)

    def refuted(
        self,
        part: Specification,
        lower: Float[Tensor, "branches rows"],
        sets: Int[Tensor, "branches"],
    ) -> tuple[Bool[Tensor, "branches clauses"], Bool[Tensor, "branches clauses"]]:
        """Say which clauses are refuted, and which of them narrowly.

        Where a strict one comes near its bound, roundings may hide that it does not go below: the
        checker, which may compute exactly, is asked.
        """
        needed = self.needed[sets]
        refuted = part.refuted(lower - torch.where(self.strict[sets], -needed, needed))
        return refuted, refuted & ~part.refuted(lower - self.float32[sets])
