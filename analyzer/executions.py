"""A proof about float32 executions by the analyzer's own bounds, where the checker has no rule."""

from dataclasses import replace
from pathlib import Path

import torch

from absolver.analyzer.deadline import Deadline, DeadlineExpired
from absolver.analyzer.decide import Execution, chunk_size
from absolver.analyzer.errors import AbsolverError
from absolver.analyzer.problem import DEFAULT_DOMAIN, Query, Safety, pose
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.report import Report, Semantics, Verdict
from absolver.domains import load
from absolver.dsl.domain import Domain


def strengthened(
    report: Report, network: Path, query: Query, execution: Execution, deadline: Deadline
) -> Report:
    """Return a report that says `verified` if float32 executions alone stood against it.

    Guarantee: the verdict changes only where bounds over the reals have refuted every clause, no
    violation is known, and the analyzer's bounds of every float32 execution refute every clause;
    no checker has accepted that, and the report says so.
    """
    asked = report.verdict is Verdict.UNKNOWN and report.semantics is Semantics.FLOAT32
    if not (asked and report.unchecked and report.counterexample is None):
        return report
    try:
        with deadline.enforced():
            problem = pose(network, query, execution)
            assert isinstance(problem, Safety), "there is a query"
            domain = load(report.domain or DEFAULT_DOMAIN)
            if not proved_over_executions(problem, domain, execution, deadline):
                return report
    except DeadlineExpired:
        return report
    except AbsolverError as error:
        return replace(report, notes=(*report.notes, f"no bounds of executions: {error}"))
    return replace(report, verdict=Verdict.VERIFIED, reason="")


def proved_over_executions(
    problem: Safety, domain: Domain, execution: Execution, deadline: Deadline
) -> bool:
    """Say whether one pass of a domain refutes every clause for every float32 execution.

    Guarantee: if so, no execution in float32 of the graph's nodes meets a clause, whatever the
    order of its sums; products and comparisons of the query are exact, or not, as one likes.
    """
    graph = problem.graph(execution, torch.float64)
    memory_bytes = execution.memory_bytes
    size = chunk_size(graph, memory_bytes, torch.float64)
    for part in problem.specify(torch.float64).chunks(size):
        deadline.check()
        found = propagate(
            *(graph, domain, part.region, part.rows),
            memory_bytes=memory_bytes,
            rounding=Rounding("float32"),
        )
        if not part.verified(found.rows):
            return False
    return True
