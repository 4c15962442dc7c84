"""The engine `lp`: LP-Full (Wong and Kolter 2018; Salman et al. 2019), one relaxation a clause.

Both ends of every operand that is not decided are bounded by a linear program over all lines
around the operators before it, layer after layer; then so is each clause. It is incomplete.
"""

from collections.abc import Callable

from absolver.analyzer.engines.clauses import Decided, decide_each
from absolver.analyzer.engines.engine import Control
from absolver.analyzer.engines.hidden import linear_bounds
from absolver.analyzer.engines.known import Goal, KnownSet
from absolver.analyzer.engines.prover import TreeProver
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.report import Kind
from absolver.analyzer.search.strategy import Outcome, Task


def decide(task: Task, control: Control) -> Outcome:
    """Decide every clause by one linear program."""
    engine = _Engine(control)
    return decide_each(
        *(task, control, engine.decide),
        summary=engine.summary,
        prepare=engine.prepare,
    )


class _Engine:
    def __init__(self, control: Control) -> None:
        self._control = control
        self._best: list[float] = []

    def prepare(self, known: KnownSet) -> KnownSet:
        """Bound a set's operands."""
        with self._control.timeline.during(Kind.SOLVER, "linear programs"):
            return linear_bounds(known, self._control)

    def summary(self) -> str:
        """Say how far the clauses are from being refuted."""
        worst = min(self._best, default=0.0)
        return f"lp: the least margin of {len(self._best)} clauses is {worst:.6g}"

    def decide(self, goal: Goal, relaxation: Relaxation, tell: Callable[[float], None]) -> Decided:
        """Decide one clause."""
        prover = TreeProver(goal, relaxation, self._control)
        proof = prover.prove(most=1, tell=tell)
        self._best.append(prover.margin)
        if prover.found is not None:
            return Decided(counterexample=prover.found)
        if proof is not None:
            return Decided(proof=proof, narrow=prover.narrow)
        return Decided(reason=f"the linear relaxation has a margin of {prover.margin:.6g}")
