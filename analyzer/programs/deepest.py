"""From a point that only just meets a clause to one near by that meets it by more."""

import numpy as np

from absolver.analyzer.programs.highs import LinearProgram
from absolver.analyzer.programs.program import Array, Program, Rows


def deepest(program: Program, point: Array, seconds: float) -> Array | None:
    """Minimise the excess over the alternatives that hold at a point; return the inputs.

    A run in floating point needs some room, which solvers that look for any point do not leave.
    """
    chosen = [
        min(choice.alternatives, key=lambda rows: float(rows.violation(point).max(initial=0.0)))
        for choice in program.choices
    ]
    rows = Rows.joined([program.rows, program.constraints, *chosen])
    solver = LinearProgram(program.lower, program.upper, rows)
    solver.minimise(np.array([program.objective]), np.ones(1))
    found = solver.solve(seconds)
    return None if found is None or not found.feasible else found.x[program.inputs]
