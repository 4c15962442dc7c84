"""What runs when: which searches a problem gets, and what they leave behind."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

import torch

from absolver.analyzer.certify.regions import as_checked
from absolver.analyzer.certify.rehearsal import Rows, rehearse
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import MODEST_WORK, Execution
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.problem import Safety
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.replay import Replay
from absolver.analyzer.report import Counterexample
from absolver.analyzer.search.activations import ActivationSearch
from absolver.analyzer.search.hidden import Effort, search_hidden
from absolver.analyzer.search.inputs import InputSearch
from absolver.analyzer.search.probing import Prober
from absolver.analyzer.search.proof import Root, TreeProof
from absolver.analyzer.search.race import Contender, Race, Rivals, Standing
from absolver.analyzer.search.search import Resources, Search, State
from absolver.analyzer.search.tolerance import Tolerance
from absolver.dsl.domain import Carrier, Domain

# Halving inputs refutes little where very many of them vary.
_MOST_INPUTS = 64
# Where so few vary, halving them is nearly always best, unless half-spaces cut corners off boxes.
_FEW_INPUTS, _FEW_WEIGHT = 10, 8.0
# How much of the time may go into hidden bounds where neurons are grouped.
_GROUPED_SHARE = 0.6
# Inputs are split in single precision where its roundings are at most this share of margins, and
# where that pays: certificates of such searches have to name more slopes.
_NEGLIGIBLE, _MANY_NEURONS = 1e-3, 1000


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a race of searches, or another engine, has ended.

    If `proofs` is not None, each clause that was open is refuted: by one of these trees or, if
    `rigorous`, by arithmetic whose roundings are all accounted for. Where that gives no
    certificate, `reason` says why. It also says why nothing is decided. `narrow` says that some
    margin may not suffice for executions in float32.
    """

    proofs: Sequence[TreeProof] | None = None
    rigorous: bool = False
    narrow: bool = False
    counterexample: Counterexample | None = None
    summary: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Task:
    """What is to be decided: a problem's sets with open clauses, and who refutes them.

    `domain` bounds whole boxes; `searched`, if there is one, has lines over neurons whose slopes
    are searched where operators are split.
    """

    problem: Safety
    specification: Specification
    domain: Domain
    searched: Domain | None
    replay: Replay
    execution: Execution
    float32: bool


def decide_by_search(task: Task, rivals: Rivals, standing: Standing | None = None) -> Outcome:
    """Search until every clause is refuted, or one is met, or the time is over.

    Inputs are split where few of them vary, operators' operands where a domain has lines between
    neurons. Where both can be done they race, as which is better cannot be told beforehand. With
    a standing an earlier race on the same task goes on.
    """
    execution, specification = task.execution, task.specification
    prober = Prober(
        task.problem.graph(execution, torch.float32),
        specification.region.to(execution.device, torch.float32),
        task.replay,
    )
    race = Race(list(_contenders(task, prober, rivals.deadline)), rivals, standing)
    winner = race.run()
    summary = "; ".join(
        f"{s.name}: {s.bounded} branches bounded, {s.open} open, {s.closed:.1%} closed"
        for s in race.searches
    )
    if winner is not None and not winner.found:
        return Outcome(proofs=winner.proofs(), narrow=winner.narrow, summary=summary)
    return Outcome(counterexample=prober.found, summary=summary)


def prove_by_search(task: Task, rivals: Rivals) -> bool:
    """Split inputs until bounds that are proved in spite of rounding refute every clause.

    For what no certificate can say: the engine's own proof, over the reals. True only if all is
    refuted; so nothing of it is ever taken from a file.
    """
    if _varying_inputs(task.specification) > _MOST_INPUTS:
        return False
    graph = task.problem.graph(task.execution, task.specification.rows.dtype)
    resources = Resources(task.execution.memory_bytes)
    search = InputSearch(graph, task.domain, task.specification, None, resources)
    return Race([Contender(search.name, lambda _: search)], rivals).run() is search


def _contenders(
    task: Task, prober: Prober[Counterexample], deadline: Deadline
) -> Iterator[Contender]:
    specification = task.specification
    resources = Resources(task.execution.memory_bytes, prober)
    graph = task.problem.graph(task.execution, specification.rows.dtype)
    tolerance = Tolerance.of(graph, task.domain, specification, float32=task.float32)
    varying = _varying_inputs(specification)

    def by_inputs(state: State | None) -> Search:
        setting = _in_single(task) or (graph, specification, tolerance)
        search = InputSearch(setting[0], task.domain, *setting[1:], resources)
        if state is not None:
            search.restore(state)
        return search

    def by_activations(state: State | None) -> Search | None:
        assert task.searched is not None and lines is not None
        if state is None and task.searched.groups:
            # Groups are bounded together with hidden neurons.
            return with_hidden_slopes(_GROUPED_SHARE * deadline.remaining)
        root = state.root if state is not None else _root(task, graph, lines)
        if root is None:
            return None
        search = ActivationSearch(graph, task.searched, specification, root, tolerance, resources)
        if state is not None:
            search.restore(state)
        return search

    def with_hidden_slopes(seconds: float) -> Search:
        assert task.searched is not None
        effort = Effort(task.searched, seconds, task.execution.memory_bytes, MODEST_WORK)
        root = search_hidden(graph, specification, effort)
        return ActivationSearch(graph, task.searched, specification, root, tolerance, resources)

    if varying <= _MOST_INPUTS:
        few = varying <= _FEW_INPUTS and isinstance(specification.region, Box)
        weight = _FEW_WEIGHT if few else 1.0
        yield Contender(InputSearch.name, by_inputs, weight)
    lines = over_neurons(task.domain)
    if task.searched is not None and lines is not None:
        again = None if task.searched.groups else with_hidden_slopes
        yield Contender(ActivationSearch.name, by_activations, again=again)


def _in_single(task: Task) -> tuple[Graph, Specification, Tolerance] | None:
    """Return what is searched in single precision; None where that may take up margins."""
    single, known = torch.float32, task.specification
    if known.rows.dtype == single or task.float32:
        return None
    graph = task.problem.graph(task.execution, single)
    if graph.neurons < _MANY_NEURONS:
        return None
    region = known.region.to(known.region.device, single)
    # What rounding does to the constraints is far less than what it does to their bounds.
    rows, bound = known.rows.to(single), known.bound.to(single)
    whole = replace(known, region=region, rows=rows, bound=bound)
    tolerance = Tolerance.of(graph, task.domain, whole, float32=False)
    lower, upper = whole.region.bounding_box()
    outputs = graph(lower / 2 + upper / 2).flatten(1)
    least = whole.margins((whole.rows @ outputs.unsqueeze(2)).squeeze(2)).abs()
    asked = (whole.member & (whole.clause >= 0).unsqueeze(2)).any(dim=1)
    small = tolerance.needed <= _NEGLIGIBLE * least
    return (graph, whole, tolerance) if bool(small[asked].all()) else None


def _root(task: Task, graph: Graph, lines: Domain) -> Root | None:
    """Bound hidden neurons on the whole sets, as a certificate can say it; None if unbounded."""
    region = as_checked(task.specification.region)
    found = rehearse(
        *(graph, lines, region, task.specification.rows),
        memory_bytes=task.execution.memory_bytes,
        rows=Rows.ALL,
        most_work=MODEST_WORK,
    )
    if all(bool(torch.isfinite(side).all()) for box in found.boxes.values() for side in box):
        return Root(lines, found.boxes, found.masks, found.rows)
    return None


def over_neurons(domain: Domain) -> Domain | None:
    """Return the factor of a domain that has lines between neurons, if there is one.

    Of several the first one with groups of neurons, or else with slopes that are searched.
    """
    found = [f for f in domain.factors or (domain,) if f.carrier is Carrier.NEURONS]
    return max(found, key=lambda f: (bool(f.groups), f.optimised), default=None)


def _varying_inputs(specification: Specification) -> float:
    """Count the inputs that vary in some set; infinite where sets cannot be split."""
    region = specification.region
    if not isinstance(region, Box | Polytope):
        return inf
    lower, upper = region.bounding_box()
    return int((lower < upper).flatten(1).sum(1).amax())
