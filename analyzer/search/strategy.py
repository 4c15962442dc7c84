"""What runs when: which searches a problem gets, and what they leave behind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.problem import Safety
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.replay import Replay
from absolver.analyzer.report import Counterexample
from absolver.analyzer.search.inputs import InputSearch
from absolver.analyzer.search.probing import Prober
from absolver.analyzer.search.proof import TreeProof
from absolver.analyzer.search.race import race
from absolver.analyzer.search.search import Search
from absolver.analyzer.search.tolerance import Tolerance
from absolver.dsl.domain import Domain

# Halving inputs refutes little where very many of them vary.
_MOST_INPUTS = 64


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a race of searches ended.

    If `proofs` is not None, each wanted set is refuted by its proof. `narrow` says that some
    margin may not suffice for executions in float32.
    """

    proofs: Mapping[int, TreeProof] | None = None
    narrow: bool = False
    counterexample: Counterexample | None = None
    open: int = 0
    worst: float = 0.0
    summary: str = ""


def decide_by_search(
    problem: Safety,
    domain: Domain,
    specification: Specification,
    execution: Execution,
    *,
    replay: Replay,
    race_against: "Rivals",
) -> Outcome:
    """Search until every clause of the specification is refuted, or one is met."""
    dtype = specification.rows.dtype
    graph = problem.graph(execution, dtype)
    prober = Prober(
        problem.graph(execution, torch.float32),
        specification.region.to(execution.device, torch.float32),
        replay,
    )
    tolerance = Tolerance.of(graph, domain, specification)
    searches: list[Search] = []
    if _splits_inputs(specification):
        searches.append(
            InputSearch(
                *(graph, domain, specification, tolerance),
                memory_bytes=execution.memory_bytes,
                prober=prober,
            )
        )
    winner = race(searches, race_against.attack, race_against.deadline, race_against.watch)
    return _outcome(searches, winner, prober)


@dataclass(frozen=True)
class Rivals:
    """What runs beside the searches: an attack, the clock, and who is told how it goes."""

    attack: Callable[[float], bool]
    deadline: Deadline
    watch: Callable[[Search], None]


def _splits_inputs(specification: Specification) -> bool:
    region = specification.region
    if not isinstance(region, Box | Polytope):
        return False
    lower, upper = region.bounding_box()
    return int((lower < upper).flatten(1).sum(1).amax()) <= _MOST_INPUTS


def _outcome(
    searches: Sequence[Search], winner: Search | None, prober: Prober[Counterexample]
) -> Outcome:
    summary = "; ".join(
        f"{s.name}: {s.bounded} branches bounded, {s.open} open, {s.closed:.1%} closed"
        for s in searches
    )
    if winner is not None and not winner.found:
        return Outcome(proofs=winner.proofs(), narrow=winner.narrow, summary=summary)
    best = max(searches, key=lambda search: search.closed, default=None)
    return Outcome(
        counterexample=prober.found,
        open=0 if best is None else best.open,
        worst=0.0 if best is None else best.worst,
        summary=summary,
    )
