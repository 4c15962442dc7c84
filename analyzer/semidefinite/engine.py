"""What the semidefinite engines share: open clauses become rows, proposals become proofs."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.analyzer.engines.engine import Control
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.region import Region
from absolver.analyzer.search.probing import Prober
from absolver.analyzer.search.strategy import Outcome, Task
from absolver.analyzer.semidefinite.eigenvectors import least_pairs
from absolver.analyzer.semidefinite.encode import Problem, encode
from absolver.analyzer.semidefinite.lagrangian import MOST_DENSE, Point, estimate, lagrangian_of
from absolver.analyzer.semidefinite.lines import searched_lines
from absolver.analyzer.semidefinite.proved import prove
from absolver.analyzer.semidefinite.relaxation import Constraint, Forms, Relaxation, Term
from absolver.analyzer.semidefinite.start import from_lines
from absolver.domains import load
from absolver.dsl.domain import Domain

UNCHECKED = (
    "proved in float64 with every rounding accounted for, but certificates have no rule for "
    "eigenvalues yet, so that no independent checker has seen it"
)
NOTHING_ASKED = "a clause asks nothing of the outputs, so that no bound of them refutes it"
_LINES = "alpha_crown"
# A vector with less of the constant than this names no point.
_TINY = 1e-6


@dataclass(frozen=True)
class Rows:
    """The open clauses of one set, one row each, relaxed; a row above its bound refutes its clause.

    The other constraints of a clause, if it has some, are constraints of the relaxation.
    """

    relaxation: Relaxation
    bound: Float[Tensor, "rows"]
    strict: Bool[Tensor, "rows"]

    def refuted(self, lower: Float[Tensor, "rows"]) -> Bool[Tensor, "rows"]:
        """Say which rows a proved bound refutes; never one whose bound is NaN."""
        return (lower > self.bound) | (self.strict & (lower == self.bound))

    def select(self, rows: Tensor) -> "Rows":
        """Return some rows."""
        return Rows(self.relaxation.select(rows), self.bound[rows], self.strict[rows])

    def open_after(self, point: Point) -> Int[Tensor, " open"]:
        """Return the rows that a proposal does not refute, by proof.

        Of large relaxations only those are proved that it seems to refute: a proof there takes the
        time of many steps.
        """
        small = torch.full_like(self.strict, self.relaxation.size <= MOST_DENSE)
        seems = (small | self.refuted(estimate(point))).nonzero().squeeze(1)
        lower = torch.full_like(self.bound, -torch.inf)
        if len(seems):
            found = prove(self.relaxation.select(seems), point.select(seems))
            lower[seems] = lower.new_tensor([proof.bound for proof in found])
        return (~self.refuted(lower)).nonzero().squeeze(1)


Watch = Callable[[str], None]
"""Is told in words what is open; raises once the time is over."""

Propose = Callable[[Rows, Point, int, Watch], Point | None]
"""Proposes for open rows, from what was proposed before, in one round after the other from 0 on.

None where nothing more is to be proposed.
"""


def decide_rows(task: Task, control: Control, propose: Propose, *, pairs: bool = False) -> Outcome:
    """Refute every open clause by proved bounds of a semidefinite relaxation of its set.

    Guarantee: as `Engine` says; what is refuted is refuted over the reals, rounding included.
    """
    whole, execution = task.specification, task.execution
    setting = Setting(
        task.problem.graph(execution, torch.float64),
        task.domain,
        task.searched or load(_LINES),
        execution.memory_bytes,
        pairs,
    )
    prober = Prober(
        task.problem.graph(execution, torch.float32),
        whole.region.to(execution.device, torch.float32),
        task.replay,
    )
    for number in range(whole.sets):
        index = torch.tensor([number], device=whole.rows.device)
        only, done = whole.select(index), number / whole.sets
        for clause in _asking_nothing(only):
            found = task.replay(clause, _middle(only.region))
            return Outcome(counterexample=found, reason="" if found else NOTHING_ASKED)

        def watch(words: str, share: float = done) -> None:
            control.progress(share, words)

        watch(f"input set {number} of {whole.sets} is being relaxed")

        def meets(
            rows: Rows, point: Point, only: Specification = only, index: Tensor = index
        ) -> bool:
            return prober(only, _inputs(rows, point), index)

        left = _left_open(relaxed_rows(setting, only), propose, meets, watch)
        if prober.found is not None:
            return Outcome(counterexample=prober.found)
        if left:
            return Outcome(
                reason=f"{left} clauses of input set {number} are beyond what this relaxation "
                "proves; it is not complete, --engine bab is"
            )
    return Outcome(proofs=(), rigorous=True, reason=UNCHECKED)


def _asking_nothing(only: Specification) -> list[int]:
    """Return the numbers of those open clauses of one set that have no constraint on outputs."""
    bare = (only.clause[0] >= 0) & ~only.member[0].any(1)
    return [int(number) for number in only.clause[0, bare]]


def _middle(region: Region) -> Float[Tensor, "1 *shape"]:
    lower, upper = region.bounding_box()
    return region.project(lower / 2 + upper / 2)


@dataclass(frozen=True)
class Setting:
    """A network, which domains bound its neurons and draw its lines, and how large it may get."""

    graph: Graph
    domain: Domain
    lines: Domain
    memory_bytes: int
    pairs: bool = False


def relaxed_rows(setting: Setting, only: Specification) -> Rows:
    """Relax the open clauses of one set; hidden bounds come from a domain, by proof.

    Of a clause's constraints the one that is nearest to being refuted is minimised where all of
    the others hold.
    """
    graph, region = setting.graph, only.region.to(only.rows.device, torch.float64)
    found = propagate(
        *(graph, setting.domain, region, only.rows.double()),
        memory_bytes=setting.memory_bytes,
        rounding=Rounding(),
    )
    clauses = (only.clause[0] >= 0).nonzero().squeeze(1)
    member, rows, bound = only.member[0, clauses], only.rows[0].double(), only.bound[0].double()
    margins = torch.nan_to_num(found.rows[0].double() - bound, nan=-torch.inf)
    first = torch.where(member, margins, -torch.inf).argmax(1)
    problem = Problem(graph=graph, region=region, boxes=found.hidden, rows=rows[first])
    chosen = searched_lines(problem, setting.lines)
    relaxation = encode(problem, setting.lines, chosen, pairs=setting.pairs)
    others = member.clone()
    others[torch.arange(len(first), device=first.device), first] = False
    if bool(others.any()):
        extra = _where_others_hold(relaxation, rows, bound, others)
        relaxation = replace(relaxation, constraints=(*relaxation.constraints, extra))
    return Rows(relaxation, bound[first], only.strict[0][first])


def _where_others_hold(
    relaxation: Relaxation,
    rows: Float[Tensor, "places outputs"],
    bound: Float[Tensor, "places"],
    others: Bool[Tensor, "rows places"],
) -> Constraint:
    """State that a counterexample meets the other constraints, too: `bound - row · y >= 0`."""
    held = others.to(rows.dtype)
    places = torch.zeros(len(bound), dtype=torch.long, device=rows.device)
    output = relaxation.graph.output.name
    terms = tuple(
        Term(output, places + number, -held * rows[:, number])
        for number in range(rows.shape[1])
        if bool((held * rows[:, number] != 0).any())
    )
    return Constraint(name="clause", rest=Forms(terms, held * bound))


def _left_open(
    rows: Rows, propose: Propose, meets: Callable[[Rows, Point], bool], watch: Watch
) -> int:
    """Refute rows until none is left, one is met, or no more is to be hoped; count what is left."""
    point, number = from_lines(rows.relaxation), 0
    while True:
        left = rows.open_after(point)
        if not len(left):
            return 0
        rows, point = rows.select(left), point.select(left)
        watch(f"{len(left)} clauses are open")
        before = estimate(point)
        if meets(rows, point) or (proposed := propose(rows, point, number, watch)) is None:
            return len(left)
        after = estimate(proposed)
        point, number = proposed, number + 1
        # A round is not expected to gain more than the one before it.
        if number > 1 and bool((rows.bound - after > after - before).any()):
            return len(rows.open_after(point))


def _inputs(rows: Rows, point: Point) -> Float[Tensor, "1 *shape"]:
    """Return the input at which the first row's bound is nearly taken: a guess at a violation."""
    first = torch.zeros(1, dtype=torch.long, device=point.charges.device)
    relaxation, point = rows.relaxation.select(first), point.select(first)
    pairs = least_pairs(lagrangian_of(relaxation), point.multipliers, point.charges, 1)
    vector = pairs.vectors[:, 0]
    ahead = torch.where(vector[:, :1].abs() > _TINY, vector[:, :1], 1.0)
    w = torch.cat([torch.ones_like(ahead), (vector[:, 1:] / ahead).clamp(-1, 1)], 1)
    values = relaxation.forward(w)[relaxation.graph.input.name]
    return values.view(-1, *relaxation.graph.input.shape)
