"""Solvers by name, each imported when it is asked for."""

from absolver.analyzer.errors import EXIT_USAGE, AbsolverError
from absolver.analyzer.programs.exact import ExactSolver
from absolver.analyzer.programs.mixed import (
    Aim,
    LicenceError,
    Minimise,
    Minimum,
    MissingSolverError,
)
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


def exact_solver(name: str) -> ExactSolver:
    """Return a solver that computes in rationals, by name; Z3 if none is named."""
    match name or "z3":
        case "z3":
            from absolver.analyzer.programs.z3_solver import decide

            return decide
        case "cvc5":
            from absolver.analyzer.programs import cvc5_solver

            return cvc5_solver.decide
    raise UnsuitableSolverError(
        f"{name} does not compute in exact rationals: take --solver z3 or cvc5, or --engine milp"
    )


def second_opinion(name: str) -> ExactSolver | None:
    """Return another exact solver than the one that is named, if it is installed."""
    try:
        return exact_solver("cvc5") if name in ("", "z3") else exact_solver("z3")
    except MissingSolverError:
        return None


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
