"""From what is to be proved to outcomes: kept proofs first, the rest in a pool of processes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
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
Work = Callable[[], list[Outcome]]
Workers = Callable[[Iterable[Work]], Iterable[list[Outcome]]]
"""Does work, here or in other processes, and gives the answers in order."""

_MODULES: Mapping[str, str] = {"z3": "z3-solver", "sympy": "sympy", "flint": "python-flint"}


def require_solvers() -> None:
    """Raise one clear error if what proofs are built on is not installed."""
    absent = [package for module, package in _MODULES.items() if find_spec(module) is None]
    if absent:
        raise ProverMissingError(
            f"proofs need {' and '.join(absent)}: pip install 'absolver[smt]'. "
            "Domains without written lines work without them."
        )


@contextmanager
def workers(jobs: int) -> Iterator[Workers]:
    """Work in so many processes, which start when there is work, and go on to the end."""
    if jobs == 1:
        yield lambda work: (each() for each in work)
        return
    # Spawned: a forked copy would lack the threads of torch.
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield lambda work: pool.map(_called, work)


def prove_operators(workers: Workers) -> Iterator[Outcome]:
    """Prove the facts of all operators."""
    listed = kept("operators")
    if listed is None:
        from absolver.dsl.prover.operators import subjects

        listed = [Outcome(name, "is an operator", proved(), 0.0) for name in subjects()]
        keep(listed, "operators")
    for outcomes in workers(partial(prove_operator, each.subject) for each in listed):
        yield from outcomes


def prove_operator(subject: str) -> list[Outcome]:
    """Prove what is owed for one operator, and keep it."""
    found = kept("operator", subject)
    if found is None:
        from absolver.dsl.prover.operators import obligations

        found = [decided(obligation) for obligation in obligations(subject)]
        keep(found, "operator", subject)
    return found


def prove_domain(load: Load, texts: Sequence[str], workers: Workers) -> Iterator[Outcome]:
    """Prove what a domain owes; `texts` is all that it is read from."""
    found = kept("domain", *texts)
    if found is None:
        owed = _owed(load)
        distinct = {obligation.content: place for place, obligation in enumerate(owed)}
        # Other domains may have owed some of it before.
        known = {c: _named(kept("rule", c) or [], owed[p]) for c, p in distinct.items()}
        new = [content for content, outcomes in known.items() if not outcomes]
        work = (partial(prove_rule, load, distinct[content]) for content in new)
        known.update(zip(new, workers(work), strict=True))
        found = [outcome for outcomes in known.values() for outcome in outcomes]
        keep(found, "domain", *texts)
    yield from found


def prove_rule(load: Load, place: int) -> list[Outcome]:
    """Prove one obligation of a domain, and keep it."""
    obligation = _owed(load)[place]
    found = kept("rule", obligation.content)
    if found is None:
        found = [decided(obligation)]
        keep(found, "rule", obligation.content)
    return _named(found, obligation)


def _named(outcomes: Iterable[Outcome], obligation: Obligation) -> list[Outcome]:
    """Say what was decided of some content of one obligation that has it."""
    return [replace(each, subject=obligation.subject, claim=obligation.claim) for each in outcomes]


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


def _called(work: Work) -> list[Outcome]:
    return work()
