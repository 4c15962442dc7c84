"""A proof about float32 executions by the analyzer's own bounds, where the checker has no rule."""

from dataclasses import replace
from pathlib import Path

import torch

from absolver.analyzer.certifier import Wishes
from absolver.analyzer.combinations import with_combinations
from absolver.analyzer.deadline import Deadline, DeadlineExpired
from absolver.analyzer.decide import Execution, chunk_size
from absolver.analyzer.errors import AbsolverError
from absolver.analyzer.frontends.onnx_loop import has_loop
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.loops.verify import RunsQuery, verify_runs
from absolver.analyzer.problem import DEFAULT_DOMAIN, Query, Safety, pose
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.report import Report, Semantics, Verdict
from absolver.analyzer.verify import Session, verify
from absolver.domains import load
from absolver.dsl.domain import Domain


def answer(
    network: Path,
    query: Query | RunsQuery | None = None,
    *,
    domain: str | None = None,
    execution: Execution | None = None,
    wishes: Wishes | None = None,
    session: Session | None = None,
) -> Report:
    """Answer a query as `verify` does, also where float32 executions alone stand against it.

    One about runs of a recurrent network is answered as `verify_runs` does.

    Guarantee: that of `verify`; besides, the verdict is `verified` where bounds over the reals have
    refuted every clause, no violation is known, and the analyzer's bounds of every float32
    execution refute every clause. No checker has accepted that, and the report says so.
    """
    execution, session = execution or Execution(), session or Session()
    if isinstance(query, Path) and has_loop(network):
        query = RunsQuery(query)
    if isinstance(query, RunsQuery):
        return verify_runs(
            *(network, query), domain=domain, execution=execution, wishes=wishes, session=session
        )
    report = verify(
        *(network, query), domain=domain, execution=execution, wishes=wishes, session=session
    )
    asked = report.verdict is Verdict.UNKNOWN and report.semantics is Semantics.FLOAT32
    # There is a reason why the proof is unchecked only where bounds have refuted everything.
    if not (asked and report.unchecked and report.counterexample is None):
        return report
    try:
        with session.deadline.enforced():
            problem = pose(network, query, execution)
            assert isinstance(problem, Safety), "there is a query"
            factors = load(domain or DEFAULT_DOMAIN)
            if not proved_over_executions(problem, factors, execution, session.deadline):
                return report
    except DeadlineExpired:
        return report
    except AbsolverError as error:
        return replace(report, notes=(*report.notes, f"no bounds of executions: {error}"))
    return replace(report, verdict=Verdict.VERIFIED, reason="")


def proved_over_executions(
    problem: Safety, domain: Domain, execution: Execution, deadline: Deadline
) -> bool:
    """Say whether bounds of a domain refute every clause for every float32 execution.

    Where one constraint of a clause is not refuted alone, sums of two are tried.

    Guarantee: if so, no execution in float32 of the graph's nodes meets a clause, whatever the
    order of its sums. Products that the query forms of inputs and outputs count as such nodes, of
    which the exact product is one execution.
    """
    graph = problem.graph(execution, torch.float64)
    memory_bytes = execution.memory_bytes
    size = chunk_size(graph, memory_bytes, torch.float64)
    for part in problem.specify(torch.float64).chunks(size):
        deadline.check()
        if _proved(graph, domain, part, memory_bytes):
            continue
        setting = (graph, domain, part.region, part.rows)
        forms = propagate(*setting, memory_bytes=memory_bytes, forms=True).forms
        if forms is None or not _proved(
            graph, domain, with_combinations(part, forms), memory_bytes
        ):
            return False
    return True


def _proved(graph: Graph, domain: Domain, part: Specification, memory_bytes: int) -> bool:
    rounding = Rounding("float32")
    setting = (graph, domain, part.region, part.rows)
    return part.verified(propagate(*setting, memory_bytes=memory_bytes, rounding=rounding).rows)
