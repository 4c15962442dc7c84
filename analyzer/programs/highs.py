"""HiGHS (Huangfu and Hall 2018): linear programs that change a little, with duals and rays."""

import math
from dataclasses import dataclass

import highspy
import numpy as np

from absolver.analyzer.programs.program import Array, Numbers, Rows

_FEASIBILITY = 1e-9
# HiGHS refuses coefficients above 1e15, drops those below 1e-9, and takes numbers above 1e20 for
# infinite: rows whose largest number has another exponent of 2 than these are written in its unit.
_EXPONENTS = range(-20, 40)
# Of subnormal numbers the unit would overflow; they are as good as 0 here.
_MOST_EXPONENT = 1000
_FARTHEST = 1e19
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
        self._solver.addVars(len(lower), *within_reach(lower, upper))
        self._rows = 0
        self._unit = np.zeros(0)
        self.add(rows)

    def add_variables(self, lower: Array, upper: Array) -> Numbers:
        """Add variables with bounds; return their numbers."""
        first = self._solver.getNumCol()
        self._solver.addVars(len(lower), lower, upper)
        return np.arange(first, first + len(lower))

    def add(self, rows: Rows) -> Numbers:
        """Add rows; return their numbers."""
        rows, unit = moderate(merged(rows))
        self._unit = np.append(self._unit, unit)
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
        self._unit = self._unit[: self._rows]

    def bound(self, row: int, lower: float, upper: float) -> None:
        """Change the bounds of a row."""
        unit = self._unit[row]
        self._solver.changeRowBounds(row, lower * unit, upper * unit)

    def change(self, row: int, column: int, coefficient: float) -> None:
        """Change one coefficient."""
        self._solver.changeCoeff(row, column, coefficient * self._unit[row])

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
                x, duals = np.array(found.col_value), np.array(found.row_dual) * self._unit
                return Solved(True, self._solver.getObjectiveValue(), x, duals)
            case highspy.HighsModelStatus.kInfeasible:
                _, known, ray = self._solver.getDualRay()  # type: ignore[attr-defined]
                ray = np.array(ray) * self._unit if known else np.zeros(0)
                return Solved(False, math.inf, np.zeros(0), ray) if known else None
        return None


def moderate(rows: Rows) -> tuple[Rows, Array]:
    """Return rows whose numbers HiGHS takes, and the powers of 2 by which they were multiplied."""
    size = np.maximum(*(np.abs(np.where(np.isfinite(e), e, 0.0)) for e in (rows.lower, rows.upper)))
    row = np.repeat(np.arange(len(rows)), np.diff(rows.start))
    np.maximum.at(size, row, np.abs(rows.coefficient))
    _, exponent = np.frexp(size)
    modest = (_EXPONENTS.start <= exponent) & (exponent < _EXPONENTS.stop)
    unit = np.ldexp(1.0, np.where(modest, 0, np.minimum(-exponent, _MOST_EXPONENT)))
    scaled = rows.coefficient * unit[row]
    return Rows(rows.start, rows.column, scaled, rows.lower * unit, rows.upper * unit), unit


def within_reach(lower: Array, upper: Array) -> tuple[Array, Array]:
    """Return ends of variables such that HiGHS sees no variable beyond infinity."""
    return np.minimum(lower, _FARTHEST), np.maximum(upper, -_FARTHEST)


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
