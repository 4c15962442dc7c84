"""HiGHS as a solver of programs with choices, stopped as soon as it knows enough."""

import math

import highspy
import numpy as np

from absolver.analyzer.programs.highs import merged, moderate, within_reach
from absolver.analyzer.programs.mixed import Aim, Minimum, apart
from absolver.analyzer.programs.program import Program, Rows


def minimise(program: Program, aim: Aim) -> Minimum:
    """Minimise a variable of a program."""
    if aim.seconds <= 0:
        return Minimum(-math.inf)
    solver = _posed(program, aim)
    stopped = [False]

    def look(event: highspy.HighsCallbackEvent) -> None:
        out = event.data_out
        enough = out.mip_dual_bound > aim.above or out.mip_primal_bound <= aim.below
        if enough or stopped[0]:
            event.interrupt()

    def stop() -> None:
        stopped[0] = True

    solver.cbMipInterrupt += look
    apart(solver.run, stop)
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        return Minimum(math.inf)
    info, solution = solver.getInfo(), solver.getSolution()
    mixed = len(program.switches) > 0
    optimal = status == highspy.HighsModelStatus.kOptimal
    bound = info.mip_dual_bound if mixed else -math.inf
    if optimal and not mixed:
        bound = info.objective_function_value
    if not (solution.value_valid and math.isfinite(info.objective_function_value)):
        return Minimum(bound)
    return Minimum(bound, info.objective_function_value, np.array(solution.col_value))


def _posed(program: Program, aim: Aim) -> highspy.Highs:
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    if math.isfinite(aim.seconds):
        solver.setOptionValue("time_limit", aim.seconds)
    links = [choice.links for choice in program.choices]
    rows = Rows.joined([program.rows, program.constraints, program.hull, *links])
    rows, _ = moderate(merged(rows))
    solver.addVars(len(program.lower), *within_reach(program.lower, program.upper))
    solver.changeColCost(aim.variable, aim.coefficient)
    start, column = rows.start[:-1].astype(np.int32), rows.column.astype(np.int32)
    entries = (len(column), start, column, rows.coefficient)
    solver.addRows(len(rows), rows.lower, rows.upper, *entries)
    for switch in program.switches.tolist():
        solver.changeColIntegrality(switch, highspy.HighsVarType.kInteger)
    return solver
