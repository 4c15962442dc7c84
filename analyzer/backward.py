"""Domains that go `backward`: what a violation assumes of the outputs tightens what is before."""

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from absolver.analyzer.fixpoint.iteration import Fixpoint, reduce_to_fixpoint
from absolver.analyzer.fixpoint.reducers import DomainReducer, InverseReducer, Problem
from absolver.analyzer.fixpoint.store import Assumptions, FactStore, HalfSpaces, InputSet
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.properties.specification import Specification
from absolver.dsl.domain import Domain

NO_RULE_BACKWARD = "certificates have no rule for inverses of operators, and no search did without"
"""Why there is no certificate."""
# Rounds of a fixpoint: later ones gain little.
_MOST_ROUNDS = 8


def reduced(
    problem: Problem,
    domain: Domain,
    store: FactStore,
    strict: Bool[Tensor, "batch rows"],
    *,
    memory_bytes: int,
    rounding: Rounding | None = None,
) -> Fixpoint:
    """Run a domain forward and the operators' inverses backward, in turn, until nothing gains.

    Guarantee: every run in the region whose outputs meet the assumed rows has its values within
    the facts that the store has then, up to rounding, or without exception with a `rounding`.
    """
    inner = replace(domain, backward=False)
    reducers = (DomainReducer(inner, memory_bytes, rounding), InverseReducer(rounding))
    return reduce_to_fixpoint(problem, reducers, store, strict=strict, most_rounds=_MOST_ROUNDS)


def refuted_backward(
    graph: Graph,
    domain: Domain,
    part: Specification,
    open_: Bool[Tensor, "sets clauses"],
    *,
    memory_bytes: int,
    rounding: Rounding | None,
) -> Bool[Tensor, "sets clauses"]:
    """Say which open clauses cannot be met: each is assumed, and what it says goes backward.

    With a `rounding` that is proved, over the reals in float64; elsewhere nothing is.
    """
    graph, refuted = graph.joined, torch.zeros_like(open_)
    pairs = open_.nonzero()
    if rounding is not None and (rounding.executes or part.rows.dtype != torch.float64):
        return refuted
    if not len(pairs):
        return refuted
    sets, clauses = pairs.unbind(1)
    some = part.select(sets)
    asked = part.member[sets, clauses]
    # Rows of other clauses ask nothing.
    rows = some.rows * asked.unsqueeze(2)
    bound = torch.where(asked, some.bound, torch.inf)
    unsafe = HalfSpaces(rows, bound)
    known = Assumptions(graph, "real", InputSet("sets"), outputs=frozenset({unsafe}))
    found = reduced(
        *(Problem(graph, some.region, unsafe, known), domain, FactStore(), some.strict & asked),
        memory_bytes=memory_bytes,
        rounding=rounding,
    )
    refuted[sets, clauses] = found.refuted
    return refuted
