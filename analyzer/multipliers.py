"""The best multipliers of a polytope's cuts for some linear forms: linear programs, by HiGHS."""

from dataclasses import dataclass

import highspy
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.programs.highs import moderate, within_reach
from absolver.analyzer.programs.program import Rows
from absolver.analyzer.propagate.propagator import Forms
from absolver.analyzer.regions.polytope import Polytope

Array = NDArray[np.float64]
# What is smaller, for the largest one of a form, proves nothing in floating point.
_LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class Multiples:
    """Lower bounds of rows over polytopes, and the multiples of the cuts that they take."""

    rows: Float[Tensor, "batch rows"]
    multipliers: Float[Tensor, "batch rows constraints"]

    def where_above(self, known: Float[Tensor, "batch rows"]) -> "Multiples":
        """Return them without multiples where another bound, without any, is as good."""
        above = (self.rows > known).unsqueeze(2)
        return Multiples(self.rows, torch.where(above, self.multipliers, 0.0))


def over_polytope(forms: Forms, polytope: Polytope) -> Multiples:
    """Bound the rows behind forms, which hold over the polytope's box, over the polytope."""
    coefficients = forms.coefficients
    multipliers = optimal_multipliers(polytope, coefficients)
    center = polytope.box.center.flatten(1).unsqueeze(2)
    at_center = (coefficients.flatten(2) @ center).squeeze(2)
    least = polytope.minimum_with(coefficients, multipliers) - at_center
    return Multiples(forms.at_center + least, multipliers)


def optimal_multipliers(
    polytope: Polytope, rows: Float[Tensor, "batch rows *shape"]
) -> Float[Tensor, "batch rows constraints"]:
    """Return multipliers with which `minimum_with` is the minimum of each form (strong duality).

    Guarantee: none is negative. They are only proposed: whatever the solver returns, the bound that
    `minimum_with` computes from them holds.
    """
    found = torch.zeros(*rows.shape[:2], polytope.bound.shape[1], dtype=torch.float64)
    for element in range(len(rows)):
        lower, upper, matrix, bound = (
            x[element].double().cpu().numpy()
            for x in (
                polytope.box.lower.flatten(1),
                polytope.box.upper.flatten(1),
                polytope.matrix.flatten(2),
                polytope.bound,
            )
        )
        costs = rows[element].flatten(1).double().cpu().numpy()
        found[element] = torch.from_numpy(_duals(costs, (lower, upper), matrix, bound))
    return found.to(rows.device, rows.dtype)


def _duals(
    costs: Float[Array, "rows n"],
    box: tuple[Float[Array, " n"], Float[Array, " n"]],
    matrix: Float[Array, "constraints n"],
    bound: Float[Array, " constraints"],
) -> Float[Array, "rows constraints"]:
    """Minimise each cost over the polytope; the duals of its cuts, 0 where that fails."""
    duals = np.zeros((len(costs), len(matrix)))
    # Variables that no cut mentions have no part in the duals.
    used = (matrix != 0).any(axis=0)
    lower, upper, matrix = box[0][used], box[1][used], matrix[:, used]
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    solver.addVars(len(lower), *within_reach(lower, upper))
    entries = matrix != 0
    starts = np.concatenate([[0], entries.sum(axis=1).cumsum()])
    below = np.full(len(matrix), -highspy.kHighsInf)
    rows, unit = moderate(Rows(starts, entries.nonzero()[1], matrix[entries], below, bound))
    start, column = rows.start[:-1].astype(np.int32), rows.column.astype(np.int32)
    solver.addRows(len(rows), rows.lower, rows.upper, len(column), start, column, rows.coefficient)
    every = np.arange(len(lower), dtype=np.int32)
    for i, cost in enumerate(costs[:, used]):
        if not np.isfinite(cost).all():
            continue
        solver.changeColsCost(len(every), every, cost)
        solver.run()
        solution = solver.getSolution()
        if solution.dual_valid:
            dual = np.maximum(-np.array(solution.row_dual), 0.0)
            duals[i] = np.where(dual > _LEAST * dual.max(initial=0.0), dual * unit, 0.0)
    return np.where(np.isfinite(duals), duals, 0.0)
