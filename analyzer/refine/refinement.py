"""One set of a task in the fixpoint: its problem, its facts, and the oracles that tighten them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite

from torch import Tensor

from absolver.analyzer.decide import MODEST_WORK
from absolver.analyzer.engines.known import Goal, KnownSet
from absolver.analyzer.engines.prover import Guide
from absolver.analyzer.fixpoint.reducers import DomainReducer, Problem, Reducer
from absolver.analyzer.fixpoint.schedule import Purpose, Scheduled, Turn, reduce_by_gain
from absolver.analyzer.fixpoint.store import Assumptions, FactStore, HalfSpaces, InputSet
from absolver.analyzer.programs.solvers import MixedSolver
from absolver.analyzer.refine.active_sets import ActiveSetReducer
from absolver.analyzer.refine.ascents import AscentReducer
from absolver.analyzer.refine.evidence import Evidence
from absolver.analyzer.refine.layers import layers
from absolver.analyzer.refine.linear import LinearReducer
from absolver.analyzer.refine.mixed import MixedReducer
from absolver.analyzer.refine.outputs import CutReducer, OutputReducer
from absolver.analyzer.refine.passes import catch_up
from absolver.analyzer.refine.slopes import SlopesReducer
from absolver.analyzer.search.hidden import Effort, search_hidden
from absolver.dsl.domain import Domain

ORACLES = ("lp rows", "cuts", "active sets", "decomposition", "d-lp", "lp", "milp")
"""By name, in the order in which they are tried."""

# A bound of a neuron that takes less of its interval away is not worth a leaf of a certificate.
_WORTH = 3e-3


@dataclass(frozen=True)
class Setting:
    """Which domain is refined, for how long, and by whom."""

    domain: Domain
    seconds: float = inf
    solver: str = ""
    oracles: Sequence[str] = ORACLES
    slice_s: float = 1.0


def prepared(known: KnownSet, domain: Domain, seconds: float) -> KnownSet:
    """Return a set whose hidden bounds have searched slopes, and groups, if the domain has them."""
    if not domain.optimised:
        return known
    memory_bytes = known.task.execution.memory_bytes
    effort = Effort(domain, seconds, memory_bytes, MODEST_WORK)
    return known.with_root(search_hidden(known.graph, known.specification, effort))


class Refinement:
    """A set whose facts are tightened.

    Facts depend on nothing but the network and the set: what is found for one clause serves all.
    """

    def __init__(self, known: KnownSet, setting: Setting) -> None:
        """Begin with what a certificate can say of hidden neurons."""
        self.evidence = Evidence(known, _WORTH)
        self.store = FactStore()
        self.problem = _problem(known)
        self._known, self._setting = known, setting
        for name, box in known.boxes.items():
            self.store.add(self.problem.assumptions, name, box)

    def run(self, tell: Callable[[float], None] = lambda share: None) -> Scheduled:
        """Tighten facts until the domain's pass or an oracle refutes all clauses, or it is enough.

        `tell` is told which share of the time is over.
        """
        setting = self._setting
        whole = self._known.specification

        def refuted(rows: Tensor) -> Tensor:
            return whole.refuted(rows).all(1)

        def watch(turns: Sequence[Turn]) -> None:
            spent = sum(turn.seconds for turn in turns)
            tell(min(1.0, spent / setting.seconds) if isfinite(setting.seconds) else 0.0)

        closing = OutputReducer(self.evidence) if OutputReducer.name in setting.oracles else None
        purpose = Purpose(refuted, setting.seconds, setting.slice_s, closing, tell=watch)
        base: Reducer = DomainReducer(setting.domain)
        if setting.domain.optimised:
            base = SlopesReducer(setting.domain, self._known.root.points)
        return reduce_by_gain(self.problem, base, self._oracles(), self.store, purpose)

    def guide(self, goal: Goal) -> Guide:
        """Return what has been found as a tree that proves a clause, if it is enough for that."""
        for layer in layers(self._known.graph):
            catch_up(self.evidence, layer)
        return self.evidence.guide(goal)

    def _oracles(self) -> list[Reducer]:
        evidence, solver = self.evidence, MixedSolver(self._setting.solver)
        every: dict[str, Callable[[], Reducer]] = {
            OutputReducer.name: lambda: OutputReducer(evidence),
            CutReducer.name: lambda: CutReducer(evidence),
            ActiveSetReducer.name: lambda: ActiveSetReducer(evidence),
            "decomposition": lambda: AscentReducer(evidence),
            "d-lp": lambda: AscentReducer(evidence, copies=True),
            LinearReducer.name: lambda: LinearReducer(evidence),
            MixedReducer.name: lambda: MixedReducer(evidence, solver),
        }
        return [every[name]() for name in self._setting.oracles]

    def words(self, scheduled: Scheduled) -> str:
        """Say what each oracle has gained."""
        names = dict.fromkeys(turn.reducer for turn in scheduled.turns)
        parts = []
        for name in names:
            own = [turn for turn in scheduled.turns if turn.reducer == name]
            seconds, gain = sum(t.seconds for t in own), sum(t.gain for t in own)
            parts.append(f"{name} {gain:.1%} in {seconds:.1f} s")
        count = len(self.evidence.lemmas)
        return f"{count} bounds of neurons; of what was missing " + (", ".join(parts) or "nothing")


def _problem(known: KnownSet) -> Problem:
    whole = known.specification
    unsafe = HalfSpaces(whole.rows.double(), whole.bound.double())
    assumptions = Assumptions(known.graph, "real", InputSet(f"set {known.number}"))
    return Problem(known.graph, known.region, unsafe, assumptions)
