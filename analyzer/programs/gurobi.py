"""Gurobi as a solver of programs with choices, as far as its licence goes."""

import math

import numpy as np

from absolver.analyzer.programs.highs import merged
from absolver.analyzer.programs.mixed import (
    Aim,
    LicenceError,
    Minimum,
    MissingSolverError,
    apart,
)
from absolver.analyzer.programs.program import Program, Rows

try:
    import gurobipy
    from gurobipy import GRB
except ModuleNotFoundError:
    raise MissingSolverError("gurobipy", "gurobi") from None

# The codes of errors that mean: no licence, or a model that is too large for it.
_LICENCE = (GRB.Error.NO_LICENSE, GRB.Error.SIZE_LIMIT_EXCEEDED)


def minimise(program: Program, aim: Aim) -> Minimum:
    """Minimise a variable of a program."""
    if aim.seconds <= 0:
        return Minimum(-math.inf)
    try:
        with gurobipy.Env(params={"OutputFlag": 0}) as environment:
            with _posed(program, aim, environment) as model:
                apart(model.optimize, model.terminate)
                return _minimum(model)
    except gurobipy.GurobiError as error:
        if error.errno in _LICENCE:
            size = f"{len(program.lower)} variables"
            raise LicenceError(f"Gurobi's licence does not allow {size}: {error}") from None
        raise


def _posed(program: Program, aim: Aim, environment: gurobipy.Env) -> gurobipy.Model:
    model = gurobipy.Model(env=environment)
    model.Params.Threads = 1
    if math.isfinite(aim.seconds):
        model.Params.TimeLimit = aim.seconds
    if math.isfinite(aim.above):
        model.Params.BestBdStop = aim.above
    if math.isfinite(aim.below):
        model.Params.BestObjStop = aim.below
    kinds = np.full(len(program.lower), GRB.CONTINUOUS)
    kinds[program.switches] = GRB.BINARY
    cost = np.zeros(len(program.lower))
    cost[aim.variable] = aim.coefficient
    x = model.addMVar(len(cost), program.lower, program.upper, cost, kinds).tolist()
    links = [choice.links for choice in program.choices]
    rows = merged(Rows.joined([program.rows, program.constraints, program.hull, *links]))
    for row in range(len(rows)):
        columns, coefficients = rows.terms(row)
        form = gurobipy.LinExpr(coefficients.tolist(), [x[c] for c in columns.tolist()])
        low, high = float(rows.lower[row]), float(rows.upper[row])
        if low == high:
            model.addConstr(form == low)
            continue
        if math.isfinite(low):
            model.addConstr(form >= low)
        if math.isfinite(high):
            model.addConstr(form <= high)
    return model


def _minimum(model: gurobipy.Model) -> Minimum:
    if model.Status in (GRB.INFEASIBLE, GRB.INF_OR_UNBD):
        # The objective is bounded by what the network's outputs are: it is not unbounded.
        return Minimum(math.inf)
    bound = model.ObjBound if model.IsMIP else -math.inf
    if model.Status == GRB.OPTIMAL and not model.IsMIP:
        bound = model.ObjVal
    if not model.SolCount:
        return Minimum(bound)
    return Minimum(bound, model.ObjVal, np.array(model.X))
