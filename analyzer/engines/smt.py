"""The engine `smt`: satisfiability over exact rationals (Ehlers 2017; Katz et al. 2017).

Bounds of hidden neurons that are proved are lemmas. A model is a point at which the clause is met
over the reals; it is replayed, after it was moved to where the clause is met by most. What is
excluded is proved by a split tree for the checker; where the time does not suffice for that, the
solver's exact arithmetic stands alone, unchecked. What the solver has no time for is left to the
split tree alone.
"""

from collections.abc import Callable

import numpy as np

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import MODEST_WORK
from absolver.analyzer.engines.clauses import Decided, decide_each
from absolver.analyzer.engines.engine import Control
from absolver.analyzer.engines.known import Goal, KnownSet, tangents_domain
from absolver.analyzer.engines.prover import TreeProver
from absolver.analyzer.problem import DEFAULT_DOMAIN
from absolver.analyzer.programs.build import build
from absolver.analyzer.programs.deepest import deepest
from absolver.analyzer.programs.encoding import Encoding, encode
from absolver.analyzer.programs.exact import ExactProgram, Finding, Status, exact
from absolver.analyzer.programs.program import Array
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.programs.solvers import exact_solver, second_opinion
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.report import Kind
from absolver.analyzer.search.proof import TreeProof
from absolver.analyzer.search.strategy import Outcome, Task
from absolver.domains import load

# Of the time that is left: for the solver, and of the rest for a proof that can be checked. What
# then remains is for the certificate, without which exact arithmetic stands alone.
_SOLVING, _PROVING = 0.5, 0.6


def decide(task: Task, control: Control) -> Outcome:
    """Decide every clause by a solver that computes in rationals."""
    engine = _Engine(task, control)
    return decide_each(task, control, engine.decide, summary=engine.summary)


class _Engine:
    def __init__(self, task: Task, control: Control) -> None:
        self._control = control
        self._name = task.execution.solver or "z3"
        self._solve = exact_solver(self._name)
        self._questions = 0
        self._leaves = 0
        self._proved: tuple[KnownSet, Encoding] | None = None

    def summary(self) -> str:
        """Say how much was done."""
        return (
            f"smt: {self._questions} questions to {self._name}, {self._leaves} linear programs "
            "for the proof"
        )

    def decide(self, goal: Goal, relaxation: Relaxation, tell: Callable[[float], None]) -> Decided:
        """Decide one clause."""
        encoding = self._encoding(goal.known)
        program = build(encoding, goal.forms, tangents_domain(), proved=True)
        output = encoding.views[encoding.graph.output.name]
        asked = exact(program, output, goal.known.task.problem.around, goal.clause)
        with self._control.timeline.during(Kind.SOLVER, self._name):
            found = self._solve(asked, _SOLVING * self._control.deadline.remaining)
        self._questions += 1
        tell(0.7)
        prover = TreeProver(goal, relaxation, self._control)

        def tell_rest(share: float) -> None:
            tell(0.7 + 0.3 * share)

        match found.status:
            case Status.MET:
                return self._met(asked, found, prover)
            case Status.EMPTY:
                return self._excluded(asked, prover, tell_rest, exact_numbers=encoding.exact)
        # Splits and linear programs are not exact, but may still find what a certificate can say.
        proof = self._proof(prover, tell_rest)
        if prover.found is not None:
            return Decided(counterexample=prover.found)
        return Decided(proof=proof, narrow=prover.narrow, reason="" if proof else found.words)

    def _proof(self, prover: TreeProver, tell: Callable[[float], None]) -> TreeProof | None:
        """Spend a part of what is left on a proof that can be checked."""
        seconds = _PROVING * self._control.deadline.remaining
        proof = prover.prove(tell=tell, deadline=Deadline.after(seconds))
        self._leaves += prover.solved
        return proof

    def _met(self, asked: ExactProgram, found: Finding, prover: TreeProver) -> Decided:
        """Replay a model, and what lies deeper in the same alternatives."""
        assert found.point is not None, "what is met is met somewhere"
        program = asked.program
        point = np.zeros(len(program.lower))
        for column, value in found.point.items():
            point[column] = float(value)
        tried: list[Array | None] = [point[program.inputs]]
        if program.complete:
            seconds = self._control.deadline.remaining / 2
            tried.insert(0, deepest(program, point, seconds))
        if any(x is not None and prover.meets(x) for x in tried):
            return Decided(counterexample=prover.found)
        if not program.complete:
            return Decided(reason="lines around operators leave it open")
        return Decided(
            reason=f"{self._name} has found a point over the reals at which the clause is met, but "
            "no run from a number of the network's input type near by meets it"
        )

    def _excluded(
        self,
        asked: ExactProgram,
        prover: TreeProver,
        tell: Callable[[float], None],
        *,
        exact_numbers: bool,
    ) -> Decided:
        """Prove what a solver has excluded, or have another one confirm it."""
        proof = self._proof(prover, tell)
        if prover.found is not None:
            return Decided(counterexample=prover.found)
        if proof is not None:
            return Decided(proof=proof, exact=exact_numbers, narrow=prover.narrow)
        other = second_opinion(self._name)
        second = None
        if other is not None:
            with self._control.timeline.during(Kind.SOLVER, "a second opinion"):
                second = other(asked, self._control.deadline.remaining / 2)
        if second is not None and second.status is Status.MET:
            return Decided(reason="two exact solvers contradict each other")
        if not exact_numbers:
            return Decided(
                reason=f"{self._name} excludes it for coefficients that were rounded, as those of "
                "means are, and no split tree was found in time"
            )
        agreed = second is not None and second.status is Status.EMPTY
        words = ", and so does a second solver" if agreed else ""
        return Decided(
            exact=True,
            reason=f"{self._name} excludes it in exact rationals{words}; "
            "no split tree was found in time that the checker could read",
        )

    def _encoding(self, known: KnownSet) -> Encoding:
        """Return a set's encoding over boxes that are proved in spite of rounding."""
        if self._proved is None or self._proved[0] is not known:
            found = propagate(
                *(known.graph, load(DEFAULT_DOMAIN), known.region, known.specification.rows),
                memory_bytes=known.task.execution.memory_bytes,
                rounding=Rounding(),
                most_work=MODEST_WORK,
            )
            boxes = {name: found.hidden[name] for name in known.boxes}
            self._proved = known, encode(known.graph, boxes, known.inputs, known.half_spaces)
        return self._proved[1]
