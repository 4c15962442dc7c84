"""What an attack wants to meet, and where it stands."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Graph, Nonlinear, evaluate
from absolver.analyzer.properties.specification import Specification
from absolver.dsl.operators.record import Operator

NEAR = 1e-4  # relative to the row's norm: ten times what float32 runtimes differ by
HUGE = 1e30  # in place of an infinite value: many of them still have a sum


@dataclass(frozen=True, eq=False)
class Goals:
    """Clauses to meet, as `rows · output <= bounds` for every one of a clause's rows.

    A clause with fewer rows than others is padded by zero rows with the bound `inf`, which every
    output meets. `box` says in which element of the region the clause's inputs lie, `clause` is
    its number in the property.
    """

    clause: Int[Tensor, "clauses"]
    box: Int[Tensor, "clauses"]
    rows: Float[Tensor, "clauses constraints outputs"]
    bounds: Float[Tensor, "clauses constraints"]

    @classmethod
    def of(
        cls, specification: Specification, wanted: Bool[Tensor, "sets clauses"] | None = None
    ) -> "Goals":
        """Return the clauses of a specification, or those wanted, a region's set by its number."""
        present = specification.clause >= 0
        box, column = (present if wanted is None else present & wanted).nonzero(as_tuple=True)
        rows, bounds, used = specification.constraints_of(box, column)
        return cls(
            clause=specification.clause[box, column],
            box=box,
            rows=rows,
            bounds=torch.where(used, bounds, torch.inf),
        )

    def __len__(self) -> int:
        """Return the number of clauses."""
        return len(self.box)

    def select(self, index: Int[Tensor, "some"]) -> "Goals":
        """Return some of the clauses."""
        return Goals(self.clause[index], self.box[index], self.rows[index], self.bounds[index])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Goals":
        """Return the clauses on a device and in a dtype."""
        return Goals(
            self.clause.to(device),
            self.box.to(device),
            self.rows.to(device, dtype),
            self.bounds.to(device, dtype),
        )

    def excess(
        self, outputs: Float[Tensor, "clauses outputs"]
    ) -> Float[Tensor, "clauses constraints"]:
        """Say by how much each constraint is missed, in units of its row's norm."""
        missed = (self.rows @ outputs.unsqueeze(2)).squeeze(2) - self.bounds
        norm = self.rows.norm(dim=2)
        return missed / torch.where(norm > 0, norm, 1.0)


@dataclass(frozen=True, eq=False)
class Step:
    """Where the descent of each clause stands, and whether it is worth a run of the network.

    `missed` is what the worst of the clause's constraints is missed by.
    """

    x: Float[Tensor, "clauses *shape"]
    missed: Float[Tensor, "clauses"]
    promising: Bool[Tensor, "clauses"]

    @classmethod
    def at(cls, x: Float[Tensor, "clauses *shape"], missed: Float[Tensor, "clauses"]) -> Self:
        """Return a step all of whose near points are worth a run."""
        return cls(x, missed, missed <= NEAR)

    def or_better(self, other: "Step") -> "Step":
        """Return where each clause is missed by less."""
        better = other.missed < self.missed
        chosen = better.view(-1, *[1] * (self.x.dim() - 1))
        return Step(
            torch.where(chosen, other.x, self.x),
            torch.where(better, other.missed, self.missed),
            torch.where(better, other.promising, self.promising),
        )


def evaluate_with_slopes(
    graph: Graph, x: Float[Tensor, "batch *shape"]
) -> Float[Tensor, "batch *outputs"]:
    """Evaluate the network, with gradients that lead somewhere.

    A derivative that vanishes or overflows, as those of a saturated softmax do, is held at a size.
    That of a step, which is zero, is replaced by its operand's where that is not far from the
    steps (the straight-through estimator of Bengio, Leonard and Courville, 2013).
    """
    values: dict[str, Tensor] = {graph.input.name: x}
    for node in graph.nodes[1:]:
        value = evaluate(node, values)
        if isinstance(node, Nonlinear) and len(node.inputs) == 1:
            operand = values[node.inputs[0]]
            slope = _usable_slope(node.operator, operand.detach())
            if slope is not None:
                finite = torch.nan_to_num(value.detach(), posinf=HUGE, neginf=-HUGE)
                value = finite + slope * (operand - operand.detach())
        values[node.name] = value
    return values[graph.output.name]


def _usable_slope(operator: Operator, point: Tensor) -> Tensor | None:
    """Return what to use in place of a derivative, or None where it may stay as it is."""
    if operator.piecewise_linear:
        return None
    (slope,) = operator.gradient([point])
    if operator.smooth:
        return torch.copysign(torch.nan_to_num(slope).abs().clamp(1e-4, 1e4), slope)
    size = point.abs()
    return torch.where(size <= 2 * size.mean(), 1.0, slope) if bool((slope == 0).all()) else None
