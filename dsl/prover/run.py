"""From what is to be proved to outcomes: kept proofs, the rest in a pool of processes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context

from absolver.dsl.errors import ProverMissingError
from absolver.dsl.prover import cache
from absolver.dsl.prover.obligations import Outcome, decided

OPERATORS = "operators"
_MODULES = {"z3": "z3-solver", "sympy": "sympy", "flint": "python-flint"}


def require_solvers() -> None:
    """Raise one clear error if what proofs need is not installed."""
    absent = [package for module, package in _MODULES.items() if find_spec(module) is None]
    if absent:
        raise ProverMissingError(
            f"proofs need {' and '.join(absent)}: pip install 'absolver[smt]'. "
            "Domains without `line` rules work without."
        )


def prove_operators(jobs: int) -> Iterator[Outcome]:
    """Prove the facts of all operators, those first that are kept already."""
    subjects = cache.kept(OPERATORS)
    names = [outcome.subject for outcome in subjects] if subjects is not None else None
    if names is None:
        from absolver.dsl.prover.operators import subjects as all_subjects

        names = list(all_subjects())
        cache.keep([_listed(name) for name in names], OPERATORS)
    open_names = []
    for name in names:
        found = cache.kept(OPERATORS, name)
        if found is None:
            open_names.append(name)
        else:
            yield from found
    for outcomes in _mapped(prove_operator, open_names, jobs):
        yield from outcomes


def prove_operator(subject: str) -> list[Outcome]:
    """Prove what is owed for one operator, and keep it."""
    from absolver.dsl.prover.operators import obligations

    outcomes = [decided(obligation) for obligation in obligations(subject)]
    cache.keep(outcomes, OPERATORS, subject)
    return outcomes


def _mapped(
    work: Callable[[str], list[Outcome]], items: Sequence[str], jobs: int
) -> Iterable[list[Outcome]]:
    if jobs <= 1 or len(items) <= 1:
        yield from map(work, items)
        return
    # Not forked: threads of torch would not be there in the copy.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, items)


def _listed(name: str) -> Outcome:
    from absolver.dsl.prover.obligations import proved

    return Outcome(name, "listed", proved(), 0.0)
