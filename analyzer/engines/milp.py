"""The engine `milp`: mixed-integer programs (Tjeng, Xiao, Tedrake, ICLR 2019), proved by trees.

Operands that interval and CROWN bounds leave undecided are bounded by linear programs and, where a
first look at the clause has not decided it, by mixed-integer ones, each stage in its share of the
time. The program of a clause stops as soon as it is known whether its constraints can be met. What
the solver finds is replayed; what it excludes, or cannot tell from what is only just met, is for a
split tree to prove, into which no bound of the solver's enters.
"""

import math
from collections.abc import Callable

from absolver.analyzer.engines.clauses import Decided, decide_each
from absolver.analyzer.engines.engine import Control
from absolver.analyzer.engines.known import Goal, KnownSet, tangents_domain
from absolver.analyzer.engines.prover import TreeProver
from absolver.analyzer.engines.tightening import Tightening
from absolver.analyzer.programs.build import build
from absolver.analyzer.programs.mixed import Aim, Minimum
from absolver.analyzer.programs.program import Program
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.programs.solvers import MixedSolver
from absolver.analyzer.report import Kind
from absolver.analyzer.search.strategy import Outcome, Task

# Of the time that is left: what each stage of tightening may take, a first look at the clause, on
# which mixed-integer programs for operands are only spent if it was in vain, and the solver then.
# The rest is the proof's.
_TIGHTENING, _FIRST, _SOLVING = 0.1, 0.1, 0.5
# The objective is a margin of outputs: what is nearer to 0 than a solver's tolerance says nothing.
_NEAR = 1e-6


def decide(task: Task, control: Control) -> Outcome:
    """Decide every clause by a mixed-integer program."""
    engine = _Engine(task, control, MixedSolver(task.execution.solver))
    return decide_each(task, control, engine.decide, summary=engine.summary)


class _Engine:
    def __init__(self, task: Task, control: Control, minimise: MixedSolver) -> None:
        self._task = task
        self._control = control
        self._minimise = minimise
        self._programs = 0
        self._leaves = 0
        self._tightening: Tightening | None = None
        self._mixed_due = True

    def _tightened(self, known: KnownSet) -> Tightening:
        """Return the boxes of a set, tightened by linear programs when they are first asked for."""
        if self._tightening is None or self._tightening.known is not known:
            self._tightening = Tightening(known, self._minimise, self._control)
            with self._control.timeline.during(Kind.PREPARATION, "operands by linear programs"):
                self._tightening.by_linear(_TIGHTENING * self._control.deadline.remaining)
            self._mixed_due = True
        return self._tightening

    def _solve(self, program: Program, share: float) -> Minimum:
        """Minimise a clause's excess until its sign is known."""
        seconds = share * self._control.deadline.remaining
        aim = Aim(program.objective, above=_NEAR, below=-_NEAR, seconds=seconds)
        self._programs += 1
        with self._control.timeline.during(Kind.SOLVER, "mixed-integer programs"):
            return self._minimise(program, aim)

    def summary(self) -> str:
        """Say how much was done."""
        tight = 0 if self._tightening is None else self._tightening.decided
        return (
            f"milp: {self._programs} programs, {tight} operands decided by tightening, "
            f"{self._leaves} linear programs for the proof"
            + (f"; {self._minimise.note}" if self._minimise.note else "")
        )

    def decide(self, goal: Goal, relaxation: Relaxation, tell: Callable[[float], None]) -> Decided:
        """Decide one clause."""
        tightening = self._tightened(goal.known)
        program = build(tightening.encoding, goal.forms, tangents_domain())
        found = self._solve(program, _FIRST)
        if not _known(found) and self._mixed_due:
            self._mixed_due = False
            with self._control.timeline.during(Kind.PREPARATION, "operands by mixed programs"):
                tightening.by_mixed(_TIGHTENING * self._control.deadline.remaining)
            program = build(tightening.encoding, goal.forms, tangents_domain())
        if not _known(found):
            found = self._solve(program, _SOLVING)
        tell(0.5)
        prover = TreeProver(goal, relaxation, self._control)
        if found.x is not None and prover.meets(found.x[program.inputs]):
            self._leaves += prover.solved
            return Decided(counterexample=prover.found)
        # Nearer to 0 than a solver's tolerance, the tree alone can tell one side from the other.
        if found.bound > -_NEAR:
            proof = prover.prove(tell=lambda share: tell(0.5 + share / 2))
            self._leaves += prover.solved
            if prover.found is not None:
                return Decided(counterexample=prover.found)
            if proof is not None:
                return Decided(proof=proof, narrow=prover.narrow)
            return Decided(reason=f"a margin of {found.bound:.6g} that no split tree proves")
        return Decided(reason=_why(found.bound, found.value, program.complete))


def _known(found: Minimum) -> bool:
    """Say whether a minimum's sign is known."""
    return found.bound > _NEAR or found.value < -_NEAR


def _why(bound: float, value: float, complete: bool) -> str:
    if math.isinf(bound):
        return "the solver's time was over before it knew anything"
    if not complete:
        return f"lines around operators leave margins from {bound:.6g} on possible"
    if value <= _NEAR:
        return f"a margin of {value:.6g} exists in floating point, which no run confirms"
    return f"the solver's time was over between margins of {bound:.6g} and {value:.6g}"
