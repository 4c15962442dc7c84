"""Rows of the output bounded with searched slopes over what is known of neurons (alpha-CROWN)."""

from collections.abc import Mapping
from math import inf

import torch

from absolver.analyzer.fixpoint.reducers import Problem, Reducer, Reduction
from absolver.analyzer.fixpoint.store import FactStore
from absolver.analyzer.graph.graph import Nonlinear
from absolver.analyzer.search import ascent
from absolver.analyzer.search.ascent import Dual, Rows, ascend
from absolver.analyzer.search.groups import Groups
from absolver.dsl.domain import Domain


class SlopesReducer(Reducer):
    """Dual ascent of the rows, hidden bounds being those of the store."""

    name = "slopes"

    def __init__(
        self, domain: Domain, groups: Mapping[str, Groups] | None = None, *, steps: int = 20
    ) -> None:
        """Take a domain whose slopes have parameters, and groups of neurons by node's name."""
        self._domain, self._groups, self._steps = domain, groups or {}, steps

    def reduce(self, problem: Problem, store: FactStore, seconds: float = inf) -> Reduction:
        """Search slopes for every row."""
        known = store.known(problem.assumptions)
        needed = {o for n in problem.graph.nodes if isinstance(n, Nonlinear) for o in n.inputs}
        unsafe = problem.unsafe
        zero = torch.zeros_like(unsafe.bound).unsqueeze(2)
        rows = Rows(unsafe.rows.unsqueeze(2), zero, torch.ones_like(zero, dtype=torch.bool))
        boxes = {name: known[name] for name in needed}
        posed = ascent.Problem(problem.region, boxes, rows, groups=self._groups)
        dual = Dual(problem.graph, self._domain, posed)
        _, found, _ = ascend(dual, dual.start(), steps=self._steps if dual.ranges else 0)
        return Reduction(0.0, found, problem.nowhere, exhausted=True)
