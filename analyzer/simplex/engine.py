"""The engine `simplex`: Reluplex over exact rationals on every open clause of a task."""

from collections.abc import Callable, Mapping

import torch

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.engines.clauses import Decided, decide_each
from absolver.analyzer.engines.engine import Control
from absolver.analyzer.engines.errors import UnsuitableSetError
from absolver.analyzer.engines.known import DTYPE, Goal, KnownSet
from absolver.analyzer.engines.prover import TreeProver
from absolver.analyzer.graph.graph import Affine
from absolver.analyzer.problem import DEFAULT_DOMAIN
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.propagate.terms import exact_rows
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.report import Kind
from absolver.analyzer.search.strategy import Outcome, Task
from absolver.analyzer.simplex.encoding import Conditions, Encoding
from absolver.analyzer.simplex.proof import guide
from absolver.analyzer.simplex.rationals import Number, fraction
from absolver.analyzer.simplex.reluplex import Refutation, Reluplex
from absolver.domains import load
from absolver.dsl.operators.record import Interval

# So many linear programs may complete a proof, where the checker's lines are not the simplex's.
_MOST_PROGRAMS = 2000
# Of the time that is left, for a proof of what is refuted exactly.
_PROOF = 0.7


def decide(task: Task, control: Control) -> Outcome:
    """Decide all open clauses, one after the other.

    Guarantee: what is refuted has no point over the reals, by exact arithmetic; a counterexample
    is one over the reals that a run has confirmed.
    """
    if not isinstance(task.specification.region, Box | Polytope):
        raise UnsuitableSetError(
            "the engine simplex works on boxes and polytopes of inputs, and this set is "
            "neither; use --engine bab"
        )
    engine = _Engine(task, control)
    return decide_each(task, control, engine.decide, summary=engine.summary)


class _Engine:
    def __init__(self, task: Task, control: Control) -> None:
        self._task = task
        self._control = control
        self._proved: tuple[KnownSet, Mapping[str, Interval]] | None = None
        self._branches, self._pivots = 0, 0

    def summary(self) -> str:
        """Say how much was done."""
        return f"simplex: {self._branches} branches, {self._pivots} pivots"

    def decide(self, goal: Goal, relaxation: Relaxation, tell: Callable[[float], None]) -> Decided:
        """Decide one clause."""
        around = self._task.problem.around
        clause = around.clauses[goal.clause]
        encoding = Encoding(
            goal.known.graph,
            self._boxes(goal.known),
            Conditions(around.boxes[clause.box], clause),
            self._control.deadline.check,
        )
        search = Reluplex(encoding, lambda share: tell(0.9 * share))
        try:
            with self._control.timeline.during(Kind.SOLVER, "simplex"):
                refutation = search.decide()
        finally:
            self._branches += search.branches
            self._pivots += encoding.tableau.pivots
        if refutation is None:
            assert search.point is not None, "what is not refuted is met"
            return self._met(goal, search.point)
        return self._refuted(goal, encoding, refutation, relaxation)

    def _boxes(self, known: KnownSet) -> Mapping[str, Interval]:
        """Bound operands of operators on a set, in spite of rounding."""
        if self._proved is None or self._proved[0] is not known:
            around = Box(*known.specification.region.bounding_box())
            found = propagate(
                *(known.graph, load(DEFAULT_DOMAIN), around, known.specification.rows),
                memory_bytes=self._task.execution.memory_bytes,
                rounding=Rounding(),
            )
            boxes = {n: Interval(*(side[0] for side in box)) for n, box in found.hidden.items()}
            self._proved = known, boxes
        return self._proved[1]

    def _met(self, goal: Goal, point: list[Number]) -> Decided:
        """Have a point at which a clause is met confirmed."""
        x = torch.tensor([float(fraction(value)) for value in point], dtype=DTYPE)
        found = self._task.replay(goal.clause, x.view(1, *goal.known.graph.input.shape))
        if found is not None:
            return Decided(counterexample=found)
        return Decided(reason="over the reals a clause is met, but no run near that point shows it")

    def _refuted(
        self, goal: Goal, encoding: Encoding, refutation: Refutation, relaxation: Relaxation
    ) -> Decided:
        """Have what exact arithmetic has refuted proved by a tree, if a tree can say it."""
        # Coefficients of divisions and means are rounded.
        affine = [node for node in encoding.graph.nodes if isinstance(node, Affine)]
        known = all(exact_rows(linear) for node in affine for linear in node.maps)
        prover = TreeProver(goal, relaxation, self._control)
        enough = Deadline.after(_PROOF * self._control.deadline.remaining)
        proof = prover.prove(
            guide(encoding, refutation, goal), most=_MOST_PROGRAMS, deadline=enough
        )
        if prover.found is not None:
            return Decided(counterexample=prover.found)
        if proof is None:
            return Decided(exact=known, reason="no splits that a certificate can say prove it")
        return Decided(exact=known, proof=proof, narrow=prover.narrow)
