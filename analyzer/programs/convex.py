"""cvxpy with Clarabel (Goulart and Chen 2024): linear relaxations by an interior-point method."""

import math

import numpy as np

from absolver.analyzer.programs.highs import merged
from absolver.analyzer.programs.mixed import Aim, Minimum, MissingSolverError, apart
from absolver.analyzer.programs.program import Array, Program, Rows

try:
    import cvxpy
except ModuleNotFoundError:
    raise MissingSolverError("cvxpy", "convex") from None


def minimise_relaxed(program: Program, aim: Aim) -> Minimum:
    """Minimise a variable over the hulls of a program, its choices left open.

    The value is a bound of the mixed-integer minimum as far as an interior point's tolerance goes.
    """
    if aim.seconds <= 0:
        return Minimum(-math.inf)
    x = cvxpy.Variable(len(program.lower))
    rows = merged(Rows.joined([program.rows, program.constraints, program.hull]))
    matrix = _dense(rows, len(program.lower))
    relations = [
        *_between(matrix @ x, rows.lower, rows.upper),
        *_between(x, program.lower, program.upper),
    ]
    problem = cvxpy.Problem(cvxpy.Minimize(aim.coefficient * x[aim.variable]), relations)
    limit = {"time_limit": aim.seconds} if math.isfinite(aim.seconds) else {}
    apart(lambda: problem.solve(solver=cvxpy.CLARABEL, **limit), lambda: None)
    if problem.status == cvxpy.INFEASIBLE:
        return Minimum(math.inf)
    if problem.status != cvxpy.OPTIMAL:
        return Minimum(-math.inf)
    return Minimum(float(problem.value), float(problem.value), np.array(x.value))


def _dense(rows: Rows, variables: int) -> Array:
    matrix = np.zeros((len(rows), variables))
    row = np.repeat(np.arange(len(rows)), np.diff(rows.start))
    matrix[row, rows.column] = rows.coefficient
    return matrix


def _between(form: "cvxpy.Expression", lower: Array, upper: Array) -> "list[cvxpy.Constraint]":
    """Return the constraints that bounds are, without those that are infinite."""
    equal = lower == upper
    above, below = np.isfinite(lower) & ~equal, np.isfinite(upper) & ~equal
    return [
        *([form[equal] == lower[equal]] if equal.any() else []),
        *([form[above] >= lower[above]] if above.any() else []),
        *([form[below] <= upper[below]] if below.any() else []),
    ]
