"""From what is to be proved to outcomes: kept proofs first, the rest in a pool of processes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from multiprocessing import get_context
from typing import TYPE_CHECKING, NamedTuple

from absolver.dsl.errors import LineError, ProverMissingError
from absolver.dsl.prover.cache import keep, kept
from absolver.dsl.prover.obligations import Obligation, Outcome, Status, decided, proved
from absolver.dsl.written import written_lines

if TYPE_CHECKING:
    from absolver.dsl.checker import CheckedDomain

Load = Callable[[], "CheckedDomain"]
"""Loads a domain, in whichever process it is proved; has to be picklable."""
Work = Callable[[], list[Outcome]]
Workers = Callable[[Sequence[Work]], Iterable[list[Outcome]]]
"""Does work, here or in other processes, which begin at once, and gives the answers in order."""


class Asked(NamedTuple):
    """A domain that is to be proved, and all the texts that it is read from."""

    load: Load
    texts: Sequence[str]


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
        yield lambda work: pool.map(_called, work) if work else ()


def prove(asked: Sequence[Asked], workers: Workers) -> Iterator[Outcome]:
    """Prove the facts of all operators, then what each domain owes.

    Operators are worked on while domains are read, so that only what is left is waited for.
    """
    of_operators = prove_operators(workers)
    of_domains = prove_domains(asked, workers)
    yield from of_operators
    yield from of_domains


def prove_operators(workers: Workers) -> Iterable[Outcome]:
    """Begin to prove the facts of all operators."""
    listed = kept("operators")
    if listed is None:
        from absolver.dsl.prover.operators import subjects

        listed = [Outcome(name, "is an operator", proved(), 0.0) for name in subjects()]
        keep(listed, "operators")
    known = {each.subject: kept("operator", each.subject) for each in listed}
    new = [subject for subject, outcomes in known.items() if outcomes is None]
    answers = zip(new, workers([partial(prove_operator, subject) for subject in new]), strict=True)
    return _gathered(known, answers)


def prove_operator(subject: str) -> list[Outcome]:
    """Prove what is owed for one operator, and keep it."""
    from absolver.dsl.prover.operators import obligations

    found = [decided(obligation) for obligation in obligations(subject)]
    keep(found, "operator", subject)
    return found


def prove_domains(asked: Sequence[Asked], workers: Workers) -> Iterable[Outcome]:
    """Begin to prove what domains owe; what several of them owe is proved once."""
    found = {place: kept("domain", *each.texts) for place, each in enumerate(asked)}
    owed = {place: _owed(asked[place].load) for place, known in found.items() if known is None}
    where = {o.content: (place, at) for place, of in owed.items() for at, o in enumerate(of)}
    known = {content: kept("rule", content) for content in where}
    # The longest rules take longest; they come first, so that no process waits for another.
    new = sorted((each for each, of in known.items() if of is None), key=len, reverse=True)
    work = [partial(prove_rule, asked[where[c][0]].load, where[c][1]) for c in new]
    answers = workers(work)
    return _of_domains(asked, found, owed, (known, zip(new, answers, strict=True)))


def _of_domains(
    asked: Sequence[Asked],
    found: Mapping[int, list[Outcome] | None],
    owed: Mapping[int, Sequence[Obligation]],
    rules: tuple[dict[str, list[Outcome] | None], Iterable[tuple[str, list[Outcome]]]],
) -> Iterator[Outcome]:
    """Gather what was kept and what is answered, domain by domain, and keep it."""
    known, answers = rules
    known.update(answers)
    for place, each in enumerate(asked):
        outcomes = found[place]
        if outcomes is None:
            distinct = {obligation.content: obligation for obligation in owed[place]}
            outcomes = [
                outcome
                for content, obligation in distinct.items()
                for outcome in _named(known[content] or (), obligation)
            ]
            keep(outcomes, "domain", *each.texts)
        yield from outcomes


def _gathered(
    known: dict[str, list[Outcome] | None], answers: Iterable[tuple[str, list[Outcome]]]
) -> Iterator[Outcome]:
    known.update(answers)
    for outcomes in known.values():
        yield from outcomes or ()


def prove_rule(load: Load, place: int) -> list[Outcome]:
    """Prove one obligation of a domain, and keep it."""
    return _decided(_owed(load)[place])


def _decided(obligation: Obligation) -> list[Outcome]:
    found = [decided(obligation)]
    keep(found, "rule", obligation.content)
    return found


def _named(outcomes: Iterable[Outcome], obligation: Obligation) -> list[Outcome]:
    """Say what was decided of some content of one obligation that has it."""
    return [replace(each, subject=obligation.subject, claim=obligation.claim) for each in outcomes]


def require_lines(domain: "CheckedDomain") -> None:
    """Raise a located error unless every line that a domain writes out is proved."""
    for line in written_lines(domain.rules):
        require_solvers()
        from absolver.dsl.prover.lines import line_obligation

        obligation = line_obligation(domain.name, line)
        (outcome,) = kept("rule", obligation.content) or _decided(obligation)
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
