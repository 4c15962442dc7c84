"""The smallest maximum of affine functions over a box that may be cut: a linear program."""

from dataclasses import dataclass

import highspy
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

Array = NDArray[np.float64]
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Cuts:
    """Half-spaces `matrix @ x <= bound`."""

    matrix: Float[Array, "cuts n"]
    bound: Float[Array, " cuts"]


@dataclass(frozen=True)
class Optimum:
    """Where the maximum is least, what it is there, and the functions' weights that prove it."""

    x: Float[Array, " n"]
    value: float
    weights: Float[Array, " functions"]
    """At least 0; with them the sum of the functions is nowhere less, up to the cuts' share."""


def least_maximum(
    coefficients: Float[Array, "functions n"],
    constant: Float[Array, " functions"],
    box: tuple[Float[Array, " n"], Float[Array, " n"]],
    cuts: Cuts | None = None,
) -> Optimum | None:
    """Minimise the largest of `coefficients @ x + constant` by HiGHS; None where that fails.

    Variables are x and t, rows `coefficients @ x + constant <= t` and the cuts. Weights are the
    rows' duals (strong duality), the point lies in the box; neither is to be trusted unseen.
    """
    lower, upper = box
    matrix = np.hstack([coefficients, np.full((len(coefficients), 1), -1.0)])
    bound = -constant
    if cuts is not None:
        matrix = np.vstack([matrix, np.hstack([cuts.matrix, np.zeros((len(cuts.matrix), 1))])])
        bound = np.concatenate([bound, cuts.bound])
    if not (np.isfinite(matrix).all() and np.isfinite(bound).all()):
        return None
    solver, infinity = _solver(), highspy.kHighsInf
    rows, columns = matrix.shape
    solver.addVars(columns, np.append(lower, -infinity), np.append(upper, infinity))
    solver.changeColCost(columns - 1, 1.0)
    used = matrix != 0
    starts = np.concatenate([[0], used.sum(1).cumsum()[:-1]]).astype(np.int32)
    places = used.nonzero()[1].astype(np.int32)
    below = np.full(rows, -infinity)
    solver.addRows(rows, below, bound, len(places), starts, places, matrix[used])
    if (solver.getNumRow(), solver.getNumCol()) != matrix.shape:
        # HiGHS refuses coefficients above 1e15, and ends of variables beyond its infinity.
        return None
    solver.run()
    found = solver.getSolution()
    if not (found.value_valid and found.dual_valid):
        return None
    values, duals = np.array(found.col_value), np.array(found.row_dual)
    weights = np.maximum(-duals[: len(constant)], 0.0)
    return Optimum(np.clip(values[:-1], lower, upper), float(values[-1]), weights)


def _solver() -> highspy.Highs:
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    for option in ("primal_feasibility_tolerance", "dual_feasibility_tolerance"):
        solver.setOptionValue(option, _TOLERANCE)
    return solver
