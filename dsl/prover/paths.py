"""All ways through a program that branches on symbolic conditions, one after the other."""

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple, TypeVar

import z3

Result = TypeVar("Result")


class _Choice(NamedTuple):
    """One answer on a path, and whether the other one is still to be tried."""

    answer: bool
    open: bool


@dataclass
class _Path:
    """One way through: what is decided beforehand, and what has been decided so far."""

    planned: list[_Choice]
    taken: list[_Choice] = field(default_factory=list)
    assumed: list[Any] = field(default_factory=list)
    solver: Any = field(default_factory=z3.Solver)
    names: Iterator[int] = field(default_factory=count)
    known: list[tuple[Any, Any]] = field(default_factory=list)

    def assume(self, condition: Any) -> None:  # noqa: ANN401
        self.assumed.append(condition)
        self.solver.add(condition)


_PATH: ContextVar[_Path] = ContextVar("path")
# Only what is certainly impossible is left out, so that little time is well spent on it.
_MILLISECONDS = 300


def paths(run: Callable[[], Result]) -> Iterator[tuple[list[Any], Result]]:
    """Run a program once for each way through it that is not certainly impossible.

    Yields what holds on the way (assumptions, answers, definitions) with the program's result.
    """
    planned: list[_Choice] = []
    while True:
        path = _Path(planned)
        path.solver.set("timeout", _MILLISECONDS)
        token = _PATH.set(path)
        try:
            result = run()
        finally:
            _PATH.reset(token)
        yield path.assumed, result
        turns = [place for place, choice in enumerate(path.taken) if choice.open]
        if not turns:
            return
        last = turns[-1]
        planned = [*path.taken[:last], _Choice(not path.taken[last].answer, open=False)]


def decide(condition: Any) -> bool:  # noqa: ANN401
    """Answer a symbolic condition; another run will take the other answer if it is possible."""
    path = _PATH.get()
    place = len(path.taken)
    if place < len(path.planned):
        choice = path.planned[place]
    else:
        yes, no = (path.solver.check(each) != z3.unsat for each in (condition, z3.Not(condition)))
        choice = _Choice(yes, open=yes and no)
    path.taken.append(choice)
    path.assume(condition if choice.answer else z3.Not(condition))
    return choice.answer


def assume(*conditions: Any) -> None:  # noqa: ANN401
    """Add hypotheses, or the definition of something new, to the path."""
    for condition in conditions:
        if condition is not True:
            _PATH.get().assume(condition)


def fresh(name: str) -> Any:  # noqa: ANN401
    """Make a real unknown with a name that the program has not used before."""
    return z3.Real(f"{name}_{next(_PATH.get().names)}")


def named(name: str, formula: Any) -> Any:  # noqa: ANN401
    """Make an unknown for what is a function of a formula: the same one for the same formula."""
    path = _PATH.get()
    for known, unknown in path.known:
        if known.eq(formula):
            return unknown
    unknown = fresh(name)
    path.known.append((formula, unknown))
    return unknown


def fresh_flag(name: str) -> Any:  # noqa: ANN401
    """Make an unknown condition with a name that the program has not used before."""
    return z3.Bool(f"{name}_{next(_PATH.get().names)}")
