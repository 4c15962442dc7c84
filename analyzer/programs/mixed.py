"""Minima of variables of a program, whole numbers included: what every such solver answers."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from absolver.analyzer.errors import EXIT_USAGE, AbsolverError
from absolver.analyzer.programs.program import Array, Program

Result = TypeVar("Result")
# How long the main thread sleeps between two looks at a solver; signals arrive in between.
_LOOK = 0.05
# How long a solver that was told to stop is waited for.
_PATIENCE = 1.0


class MissingSolverError(AbsolverError):
    """A solver was asked for that is not installed."""

    exit_code = EXIT_USAGE

    def __init__(self, solver: str, extra: str) -> None:
        """Name the solver, and the extra that brings it."""
        super().__init__(f"{solver} is not installed: pip install 'absolver[{extra}]'")


class LicenceError(AbsolverError):
    """A solver's licence does not allow what was asked."""

    exit_code = EXIT_USAGE


@dataclass(frozen=True)
class Aim:
    """What is minimised, `coefficient * variable`, and when that is known well enough.

    A solver may stop once the minimum is above `above`, or a point is at most at `below`.
    """

    variable: int
    coefficient: float = 1.0
    above: float = math.inf
    below: float = -math.inf
    seconds: float = math.inf


@dataclass(frozen=True)
class Minimum:
    """What a solver says, in floating point: a bound of the minimum, and its best point, if any.

    The bound is infinite where there is no point. Neither is to be trusted unseen.
    """

    bound: float
    value: float = math.inf
    x: Array | None = None


Minimise = Callable[[Program, Aim], Minimum]


def apart(work: Callable[[], Result], stop: Callable[[], None]) -> Result:
    """Do some work in a thread of its own, so that signals reach the main thread meanwhile.

    Whatever is raised here, as by a timer or by Ctrl-C, tells the work to stop, and goes on.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
        while thread.is_alive():
            thread.join(_LOOK)
    except BaseException:
        stop()
        if thread.is_alive():
            thread.join(_PATIENCE)
        raise
    if errors:
        raise errors[0]
    return results[0]
