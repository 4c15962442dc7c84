"""The engine `refine`: a domain's pass, and oracles that tighten what it knows of neurons.

With `--domain zonotope` that is RefineZono (Singh et al., ICLR 2019), with `--domain crown`
RefinePoly (ERAN): chosen neurons are bounded by linear and by mixed-integer programs with a share
of the time each, then the domain passes again. Who goes on is who has gained most per second. What
refutes a clause at the end is shown to the checker: bounds of neurons as splits whose other sides
are refuted.
"""

from collections.abc import Callable
from math import inf

from absolver.analyzer.engines.clauses import Decided, decide_each
from absolver.analyzer.engines.engine import Control
from absolver.analyzer.engines.known import Goal, KnownSet
from absolver.analyzer.engines.prover import TreeProver
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.refine.refinement import Refinement, Setting, prepared
from absolver.analyzer.search.strategy import Outcome, Task

# Of the time that is left: what searching slopes of hidden bounds may take, where a domain has
# some; what refining a set may take; the rest is for proofs.
_SEARCHING, _REFINING = 0.2, 0.6


def decide(task: Task, control: Control) -> Outcome:
    """Refine what a domain knows of each set, and decide every clause by a linear program."""
    engine = _Engine(task, control)
    return decide_each(
        *(task, control, engine.decide),
        summary=engine.summary,
        prepare=lambda known: prepared(known, task.domain, _SEARCHING * control.deadline.remaining),
    )


class _Engine:
    def __init__(self, task: Task, control: Control) -> None:
        self._task = task
        self._control = control
        self._refined: Refinement | None = None
        self._refuted = False
        self._words: list[str] = []

    def summary(self) -> str:
        """Say which oracle has gained what."""
        return "refine: " + ("; ".join(self._words) or "nothing was left to be refined")

    def decide(self, goal: Goal, relaxation: Relaxation, tell: Callable[[float], None]) -> Decided:
        """Decide one clause: as it is, or over what oracles have found of its set."""
        prover = TreeProver(goal, relaxation, self._control)
        proof = prover.prove(most=1)
        if proof is None and prover.found is None:
            refined = self._refinement(goal.known, tell)
            prover = TreeProver(goal, relaxation, self._control)
            proof = prover.prove(
                refined.guide(goal),
                # What facts refute that no leaf can be shown is refuted by splits, given time.
                most=inf if self._refuted else 1,
                tell=lambda share: tell(_REFINING + (1 - _REFINING) * share),
            )
        if prover.found is not None:
            return Decided(counterexample=prover.found)
        if proof is not None:
            return Decided(proof=proof, narrow=prover.narrow)
        return Decided(reason="the oracles leave it open")

    def _refinement(self, known: KnownSet, tell: Callable[[float], None]) -> Refinement:
        if self._refined is None or self._refined.evidence.known is not known:
            seconds = _REFINING * self._control.deadline.remaining
            setting = Setting(self._task.domain, seconds, solver=self._task.execution.solver)
            self._refined = Refinement(known, setting)
            scheduled = self._refined.run(lambda share: tell(_REFINING * share))
            self._refuted = bool(scheduled.refuted.all())
            self._words.append(self._refined.words(scheduled))
        return self._refined
