"""What an engine is: it decides the open clauses of a task, alone, and says how it knows."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.engines.names import ENGINES
from absolver.analyzer.search.strategy import Outcome, Task
from absolver.analyzer.timeline import Timeline


@dataclass(frozen=True)
class Control:
    """The clock that an engine obeys, and who is told how it goes.

    `progress` is told which share is done and, in words, what is open. It raises once the time is
    over, so that an engine that calls it often needs no other check of the clock.
    """

    deadline: Deadline
    progress: Callable[[float, str], None] = lambda share, words: None
    timeline: Timeline = field(default_factory=Timeline)


Engine = Callable[[Task, Control], Outcome]
"""Decides every clause of the task's specification whose number is not -1.

Guarantee: an outcome with `proofs` has a tree for each open clause, with proposals that the checker
will judge; or it is `rigorous`, and exact arithmetic, or one that accounts for every rounding, has
refuted each of them. A counterexample has been replayed. What a solver says that computes in
floating point is none of these.
"""


def engine_named(name: str) -> Engine:
    """Return an engine of `ENGINES`; its module is imported here."""
    decide: Engine = import_module(ENGINES[name].module).decide
    return decide
