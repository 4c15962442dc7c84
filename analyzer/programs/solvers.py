"""Solvers by name, each imported when it is asked for."""

from absolver.analyzer.errors import EXIT_USAGE, AbsolverError
from absolver.analyzer.programs.mixed import Aim, LicenceError, Minimise, Minimum
from absolver.analyzer.programs.program import Program


class UnsuitableSolverError(AbsolverError):
    """A solver was named that does not solve what an engine asks."""

    exit_code = EXIT_USAGE


class MixedSolver:
    """A solver of mixed-integer programs, and HiGHS in its place from where its licence ends."""

    def __init__(self, name: str) -> None:
        """Take a solver by name, HiGHS if none is named."""
        self.note = ""
        """Why HiGHS has taken its place, if it has."""
        self._first = _mixed_solver(name or "highs")
        self._highs = self._first if name in ("", "highs") else _mixed_solver("highs")

    def __call__(self, program: Program, aim: Aim) -> Minimum:
        """Minimise a variable of a program."""
        if not self.note:
            try:
                return self._first(program, aim)
            except LicenceError as error:
                self.note = f"{error}; HiGHS goes on"
        return self._highs(program, aim)


def _mixed_solver(name: str) -> Minimise:
    match name:
        case "highs":
            from absolver.analyzer.programs.highs_mixed import minimise

            return minimise
        case "gurobi":
            from absolver.analyzer.programs import gurobi

            return gurobi.minimise
    raise UnsuitableSolverError(
        f"{name} solves no mixed-integer programs: take --solver highs or gurobi, or --engine smt"
    )
