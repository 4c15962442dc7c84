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


@dataclass(frozen=True, eq=False)
class Tolerance:
    """What rounding may take of a margin, for each row of each set.

    `real` is what the bounds' own rounding takes, `float32` what executions in float32 take in
    addition. Both are estimates at the middle of the set: the checker has the last word.
    """

    real: Float[Tensor, "sets rows"]
    float32: Float[Tensor, "sets rows"]

    @classmethod
    def of(cls, graph: Graph, domain: Domain, specification: Specification) -> Self:
        """Estimate the roundings of a run at the middle of each set."""
        lower, upper = specification.region.bounding_box()
        middle = lower / 2 + upper / 2
        point = Box(middle, middle)
        found = propagate(graph, domain, point, specification.rows)
        own = rounding_allowance(graph, point, found.hidden, specification.rows)
        size = _FLOAT32 / torch.finfo(own.dtype).eps
        return cls(torch.nan_to_num(2 * own), torch.nan_to_num(own * max(size, 2.0)))

    def refuted(
        self,
        part: Specification,
        lower: Float[Tensor, "branches rows"],
        sets: Int[Tensor, "branches"],
        *,
        again: Bool[Tensor, "branches"],
    ) -> tuple[Bool[Tensor, "branches clauses"], Bool[Tensor, "branches clauses"]]:
        """Say which clauses are refuted, and which of them narrowly.

        A margin that executions may take up is split once more; where that was done already
        (`again`), a narrow one will do.
        """
        surely = part.refuted(lower - self.float32[sets])
        closely = part.refuted(lower - self.real[sets]) & again.unsqueeze(1)
        return surely | closely, closely & ~surely
