"""The engine `simplex`: Reluplex over exact rationals on every open clause of a task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from absolver.analyzer.certify.regions import as_checked
from absolver.analyzer.certify.rehearsal import Rows, rehearse
from absolver.analyzer.decide import MODEST_WORK
from absolver.analyzer.engines.engine import Control
from absolver.analyzer.problem import DEFAULT_DOMAIN
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.properties.property import LinearConstraint
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.search.proof import Root, TreeProof
from absolver.analyzer.search.strategy import Outcome, Task, over_neurons
from absolver.analyzer.simplex.encoding import Conditions, Encoding
from absolver.analyzer.simplex.errors import UnboundedSetError
from absolver.analyzer.simplex.proof import NoTreeError, tree_proof
from absolver.analyzer.simplex.rationals import fraction
from absolver.analyzer.simplex.reluplex import Refutation, Reluplex
from absolver.domains import load
from absolver.dsl.operators.record import Interval

DTYPE = torch.float64


def decide(task: Task, control: Control) -> Outcome:
    """Decide all open clauses, one after the other.

    Guarantee: each proof is of a clause that exact arithmetic has refuted, over the reals; a
    counterexample has been confirmed.
    """
    if not isinstance(task.specification.region, Box | Polytope):
        raise UnboundedSetError(
            "the engine simplex works on boxes and polytopes of inputs, and this set is "
            "neither; use --engine bab"
        )
    return _Run(task, control).outcome()


@dataclass(frozen=True)
class _Open:
    """A clause that is to be decided: its set, its column there, and its number."""

    set: int
    column: int
    clause: int


class _Run:
    """One run over the open clauses, and what it has found so far."""

    def __init__(self, task: Task, control: Control) -> None:
        self._task = task
        self._control = control
        self._graph = task.problem.graph(task.execution, DTYPE).to("cpu", DTYPE)
        self._region = task.specification.region.to(torch.device("cpu"), DTYPE)
        self._proofs: list[TreeProof] = []
        self._no_tree = ""
        self._branches, self._pivots = 0, 0

    def outcome(self) -> Outcome:
        """Decide every clause, until one of them is met."""
        every = [
            _Open(p, column, number)
            for p, numbers in enumerate(self._task.specification.clause.tolist())
            for column, number in enumerate(numbers)
            if number >= 0
        ]
        of_set, facts = -1, None
        for done, one in enumerate(every):
            if facts is None or one.set != of_set:
                of_set, facts = one.set, self._facts(one.set)
            found = self._clause(one, facts, (done, len(every)))
            if found is not None:
                return found
        return Outcome(
            proofs=self._proofs,
            rigorous=True,
            reason=self._no_tree,
            summary=self._summary,
        )

    @property
    def _summary(self) -> str:
        return f"simplex: {self._branches} branches, {self._pivots} pivots"

    def _facts(self, number: int) -> "_Facts":
        """Bound hidden neurons of one set: as a certificate says it, and proved."""
        region = self._region.select(torch.tensor([number]))
        rows = self._task.specification.rows[number : number + 1].to("cpu", DTYPE)
        domain = load(DEFAULT_DOMAIN)
        lines = over_neurons(domain)
        assert lines is not None, "the default domain has lines between neurons"
        memory_bytes = self._task.execution.memory_bytes
        found = rehearse(
            *(self._graph, lines, as_checked(region), rows),
            rows=Rows.ALL,
            memory_bytes=memory_bytes,
            most_work=MODEST_WORK,
        )
        root = Root(lines, found.boxes, found.masks, found.rows)
        proved = propagate(
            *(self._graph, domain, as_checked(region), rows),
            memory_bytes=memory_bytes,
            rounding=Rounding(),
            most_work=MODEST_WORK,
        )
        return _Facts(
            root, {n: Interval(*(side[0] for side in b)) for n, b in proved.hidden.items()}
        )

    def _clause(self, one: _Open, facts: "_Facts", progress: tuple[int, int]) -> Outcome | None:
        """Refute a clause, or return how the run ends with it."""
        around = self._task.problem.around
        clause = around.clauses[one.clause]
        conditions = Conditions(around.boxes[clause.box], clause)
        done, every = progress
        words = f"{every - done} of {every} clauses are open"

        def tell(share: float) -> None:
            self._control.progress((done + share) / every, words)

        tell(0.0)
        encoding = Encoding(self._graph, facts.boxes, conditions, self._control.deadline.check)
        search = Reluplex(encoding, tell)
        refutation = search.decide()
        self._branches += search.branches
        self._pivots += encoding.tableau.pivots
        if refutation is None:
            assert search.point is not None, "what is not refuted is met"
            return self._met(one, [fraction(x) for x in search.point])
        self._keep(one, encoding, refutation, facts.root)
        return None

    def _met(self, one: _Open, point: Sequence[Fraction]) -> Outcome:
        """Have a point at which a clause is met confirmed."""
        x = torch.tensor([float(value) for value in point], dtype=DTYPE)
        found = self._task.replay(one.clause, x.view(1, *self._graph.input.shape))
        reason = (
            "over the reals a clause is met, but at no point near by that the network's input "
            "type holds"
        )
        return Outcome(counterexample=found, summary=self._summary, reason="" if found else reason)

    def _keep(self, one: _Open, encoding: Encoding, refutation: Refutation, root: Root) -> None:
        """Keep a refutation as a tree for the certificate, where a tree can say it."""
        specification = self._task.specification
        try:
            scales = _scales(specification, one)
            self._proofs.append(
                tree_proof(encoding, refutation, root, scales, (one.set, one.column))
            )
        except NoTreeError as error:
            self._no_tree = str(error)


@dataclass(frozen=True, eq=False)
class _Facts:
    """What is known of one set: a root for certificates, and boxes that are proved."""

    root: Root
    boxes: Mapping[str, Interval]


def _scales(
    specification: Specification, one: _Open
) -> Mapping[LinearConstraint, tuple[int, float]]:
    """Say where each constraint is among a clause's rows, and how it was scaled."""
    rows = specification.member[one.set, one.column].nonzero().flatten().tolist()
    found = {}
    for place, row in enumerate(rows):
        constraint = specification.constraints[one.set][row]
        variable, coefficient = constraint.terms[0]
        scale = float(specification.rows[one.set, row, variable]) / float(coefficient)
        found[constraint] = (place, scale)
    return found
