"""The engine `star`: star sets, split where they are on several pieces of an operator."""

from collections.abc import Callable

from absolver.analyzer.engines.clauses import Decided, decide_each
from absolver.analyzer.engines.engine import Control
from absolver.analyzer.engines.known import Goal
from absolver.analyzer.engines.prover import TreeProver
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.report import Kind
from absolver.analyzer.search.strategy import Outcome, Task
from absolver.analyzer.stars.search import StarSearch


def decide(task: Task, control: Control) -> Outcome:
    """Decide every clause by star sets; their splits are proved once more by a tree."""
    engine = _Engine(control)
    return decide_each(task, control, engine.decide, summary=engine.summary)


class _Engine:
    def __init__(self, control: Control) -> None:
        self._control = control
        self._stars, self._programs = 0, 0

    def summary(self) -> str:
        """Say how much was done."""
        return f"star: {self._stars} stars, {self._programs} linear programs"

    def decide(self, goal: Goal, relaxation: Relaxation, tell: Callable[[float], None]) -> Decided:
        """Decide one clause."""
        prover = TreeProver(goal, relaxation, self._control)
        search = StarSearch(
            goal, self._control.deadline, prover.meets, lambda share: tell(0.7 * share)
        )
        with self._control.timeline.during(Kind.SOLVER, "star sets"):
            guide = search.run()
        self._stars += search.stars
        self._programs += search.programs
        if guide is None:
            return Decided(counterexample=prover.found)
        if search.open:
            return Decided(reason="a star touches the clause, up to rounding, and no run meets it")
        proof = prover.prove(guide, tell=lambda share: tell(0.7 + 0.3 * share))
        if prover.found is not None:
            return Decided(counterexample=prover.found)
        if proof is None:
            return Decided(reason="what stars exclude in floating point is proved by no splits")
        return Decided(proof=proof, narrow=prover.narrow)
