"""From what is to be proved to outcomes: kept proofs first, the rest in a pool of processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from multiprocessing import get_context
from typing import TYPE_CHECKING

from absolver.dsl.errors import LineError, ProverMissingError
from absolver.dsl.prover.cache import keep, kept
from absolver.dsl.prover.obligations import Obligation, Outcome, Status, decided, proved
from absolver.dsl.written import written_lines

if TYPE_CHECKING:
    from absolver.dsl.checker import CheckedDomain

Load = Callable[[], "CheckedDomain"]
"""Loads a domain, in whichever process it is proved; has to be picklable."""

_MODULES: Mapping[str, str] = {"z3": "z3-solver", "sympy": "sympy", "flint": "python-flint"}


def require_solvers() -> None:
    """Raise one clear error if what proofs are built on is not installed."""
    absent = [package for module, package in _MODULES.items() if find_spec(module) is None]
    if absent:
        raise ProverMissingError(
            f"proofs need {' and '.join(absent)}: pip install 'absolver[smt]'. "
            "Domains without written lines work without them."
        )


def prove_operators(jobs: int) -> Iterator[Outcome]:
    """Prove the facts of all operators."""
    listed = kept("operators")
    if listed is None:
        from absolver.dsl.prover.operators import subjects

        listed = [Outcome(name, "is an operator", proved(), 0.0) for name in subjects()]
        keep(listed, "operators")
    yield from _run([partial(prove_operator, each.subject) for each in listed], jobs)


def prove_operator(subject: str) -> list[Outcome]:
    """Prove what is owed for one operator, and keep it."""
    found = kept("operator", subject)
    if found is None:
        from absolver.dsl.prover.operators import obligations

        found = [decided(obligation) for obligation in obligations(subject)]
        keep(found, "operator", subject)
    return found


def prove_domain(load: Load, texts: Sequence[str], jobs: int) -> Iterator[Outcome]:
    """Prove what a domain owes; `texts` is all that it is read from."""
    found = kept("domain", *texts)
    if found is None:
        found = []
        count = len(_owed(load))
        distinct = {_owed(load)[place].content: place for place in range(count)}
        work = [partial(prove_rule, load, place) for place in distinct.values()]
        for outcome in _run(work, jobs):
            found.append(outcome)
        keep(found, "domain", *texts)
    yield from found


def prove_rule(load: Load, place: int) -> list[Outcome]:
    """Prove one obligation of a domain, and keep it."""
    obligation = _owed(load)[place]
    found = kept("rule", obligation.content)
    if found is None:
        found = [decided(obligation)]
        keep(found, "rule", obligation.content)
    return [replace(each, subject=obligation.subject, claim=obligation.claim) for each in found]


def require_lines(domain: "CheckedDomain") -> None:
    """Raise a located error unless every line that a domain writes out is proved."""
    for line in written_lines(domain.rules):
        require_solvers()
        from absolver.dsl.prover.lines import line_obligation

        obligation = line_obligation(domain.name, line)
        found = kept("rule", obligation.content)
        if found is None:
            found = [decided(obligation)]
            keep(found, "rule", obligation.content)
        (outcome,) = found
        if outcome.answer.status is Status.PROVED:
            continue
        at = outcome.answer.point
        where = "".join(f", {name} = {value!r}" for name, value in at.values.items()) if at else ""
        message = f"{outcome.answer.status.value}: {outcome.answer.detail}{where}"
        remedy = "write `slope …`, whose intercept is computed, or correct the line"
        raise LineError(line.slope.span, message, remedy)


@cache
def _owed(load: Load) -> tuple[Obligation, ...]:
    from absolver.dsl.prover.domains import obligations
    from absolver.dsl.prover.lines import line_obligations

    domain = load()
    return (*obligations(domain), *line_obligations(domain))


def _run(work: Sequence[Callable[[], list[Outcome]]], jobs: int) -> Iterator[Outcome]:
    with ExitStack() as stack:
        results: Iterator[list[Outcome]] = (each() for each in work)
        if jobs > 1 and len(work) > 1:
            # Spawned: a forked copy would lack the threads of torch.
            pool = stack.enter_context(ProcessPoolExecutor(jobs, get_context("spawn")))
            results = pool.map(_called, work)
        for outcomes in results:
            yield from outcomes


def _called(work: Callable[[], list[Outcome]]) -> list[Outcome]:
    return work()
