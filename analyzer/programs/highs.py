"""HiGHS (Huangfu and Hall 2018): linear programs that change a little, with duals and rays."""

import math
from dataclasses import dataclass

import highspy
import numpy as np

from absolver.analyzer.programs.program import Array, Numbers, Rows

_FEASIBILITY = 1e-9
# A signal waits for the end of a call: no call takes longer than so many seconds.
_SLICE = 0.5


@dataclass(frozen=True)
class Solved:
    """What a linear program has come to.

    `duals` has one number for each row: not negative where the lower side is used, not positive
    where the upper one is. Where `feasible` they prove the value, else that there is no point.
    """

    feasible: bool
    value: float
    x: Array
    duals: Array


class LinearProgram:
    """A linear program that is solved many times, each time from where the last solve has ended."""

    def __init__(self, lower: Array, upper: Array, rows: Rows) -> None:
        """Pose variables with bounds, and rows; the objective is 0."""
        self._solver = highspy.Highs()  # type: ignore[no-untyped-call]
        self._solver.silent()
        for option in ("primal_feasibility_tolerance", "dual_feasibility_tolerance"):
            self._solver.setOptionValue(option, _FEASIBILITY)
        # What presolve removes has no duals where a program is infeasible.
        self._solver.setOptionValue("presolve", "off")
        self._solver.addVars(len(lower), lower, upper)
        self._rows = 0
        self.add(rows)

    def add_variables(self, lower: Array, upper: Array) -> Numbers:
        """Add variables with bounds; return their numbers."""
        first = self._solver.getNumCol()
        self._solver.addVars(len(lower), lower, upper)
        return np.arange(first, first + len(lower))

    def add(self, rows: Rows) -> Numbers:
        """Add rows; return their numbers."""
        rows = merged(rows)
        start, column = rows.start[:-1].astype(np.int32), rows.column.astype(np.int32)
        self._solver.addRows(
            *(len(rows), rows.lower, rows.upper, len(column)),
            *(start, column, rows.coefficient),
        )
        self._rows += len(rows)
        return np.arange(self._rows - len(rows), self._rows)

    def remove_last(self, count: int) -> None:
        """Remove the rows that were added last."""
        self._solver.deleteRows(count, np.arange(self._rows - count, self._rows, dtype=np.int32))
        self._rows -= count

    def bound(self, row: int, lower: float, upper: float) -> None:
        """Change the bounds of a row."""
        self._solver.changeRowBounds(row, lower, upper)

    def change(self, row: int, column: int, coefficient: float) -> None:
        """Change one coefficient."""
        self._solver.changeCoeff(row, column, coefficient)

    def minimise(self, columns: Numbers, costs: Array) -> None:
        """Take another objective, on these variables alone."""
        count = self._solver.getNumCol()
        everything = np.arange(count, dtype=np.int32)
        whole = np.zeros(count)
        np.add.at(whole, columns, costs)
        self._solver.changeColsCost(count, everything, whole)

    def solve(self, seconds: float = math.inf) -> Solved | None:
        """Solve; None where the time is over, or HiGHS cannot say what it has found."""
        left = seconds
        while True:
            # HiGHS counts the time of all calls together.
            limit = self._solver.getRunTime() + min(_SLICE, max(left, 0.0))
            self._solver.setOptionValue("time_limit", limit)
            self._solver.run()
            if self._solver.getModelStatus() != highspy.HighsModelStatus.kTimeLimit:
                break
            left -= _SLICE
            if left <= 0:
                return None
        match self._solver.getModelStatus():
            case highspy.HighsModelStatus.kOptimal:
                found = self._solver.getSolution()
                x, duals = np.array(found.col_value), np.array(found.row_dual)
                return Solved(True, self._solver.getObjectiveValue(), x, duals)
            case highspy.HighsModelStatus.kInfeasible:
                _, known, ray = self._solver.getDualRay()  # type: ignore[attr-defined]
                return Solved(False, math.inf, np.zeros(0), np.array(ray)) if known else None
        return None


def merged(rows: Rows) -> Rows:
    """Return the same rows with every variable at most once in each: sums are rounded."""
    row = np.repeat(np.arange(len(rows)), np.diff(rows.start))
    order = np.lexsort((rows.column, row))
    row, column, coefficient = row[order], rows.column[order], rows.coefficient[order]
    again = np.zeros(len(row), dtype=bool)
    again[1:] = (row[1:] == row[:-1]) & (column[1:] == column[:-1])
    if not again.any():
        return rows
    first = np.nonzero(~again)[0]
    start = np.concatenate([[0], np.cumsum(np.bincount(row[first], minlength=len(rows)))])
    sums = np.add.reduceat(coefficient, first)
    return Rows(start, column[first], sums, rows.lower, rows.upper)
