"""What is to be proved, and what came of it: three answers, never a wrong one of the first two."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from time import perf_counter


class Status(Enum):
    """The three answers; whatever is not certainly one of the first two is the third."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Point:
    """A place at which a claim fails, in exact decimals, and both sides of it there."""

    values: Mapping[str, float]
    """By name: `l`, `u`, `x` and parameters; `l(y)` and so on where there are several operands."""
    claimed: float = 0.0
    actual: float = 0.0
    picture: tuple[tuple[float, float, float], ...] = field(default=(), repr=False)
    """(x, actual, claimed) along the operand, to be drawn."""


@dataclass(frozen=True)
class Answer:
    """The answer to one question; `detail` says by what, or why not."""

    status: Status
    detail: str = ""
    point: Point | None = None
    queries: tuple[str, ...] = field(default=(), repr=False)
    """The questions to z3 behind it, in SMT-LIB."""


@dataclass(frozen=True)
class Obligation:
    """One claim, and how to decide it."""

    subject: str
    """The operator, or the domain and its operator."""
    claim: str
    decide: Callable[[], Answer] = field(repr=False)
    content: str = ""
    """What the answer depends on, the prover itself aside: equal contents have equal answers."""


@dataclass(frozen=True)
class Outcome:
    """An obligation that was decided; the subject and the claim are those of the obligation."""

    subject: str
    claim: str
    answer: Answer
    seconds: float


def decided(obligation: Obligation) -> Outcome:
    """Decide an obligation; an error of the prover is no proof."""
    start = perf_counter()
    try:
        answer = obligation.decide()
    except Exception as error:  # whatever goes wrong, nothing is claimed
        answer = Answer(Status.UNDECIDED, f"{type(error).__name__}: {error}")
    return Outcome(obligation.subject, obligation.claim, answer, perf_counter() - start)


def proved(detail: str = "") -> Answer:
    """Answer that a claim holds."""
    return Answer(Status.PROVED, detail)


def refuted(detail: str, point: Point | None = None) -> Answer:
    """Answer that a claim fails."""
    return Answer(Status.REFUTED, detail, point)


def undecided(detail: str) -> Answer:
    """Answer that neither is known."""
    return Answer(Status.UNDECIDED, detail)


def combined(*answers: Answer) -> Answer:
    """Answer that several claims hold together: the first one that is not proved, or proved."""
    queries = tuple(query for answer in answers for query in answer.queries)
    for status in (Status.REFUTED, Status.UNDECIDED):
        for answer in answers:
            if answer.status is status:
                return Answer(status, answer.detail, answer.point, queries)
    details = dict.fromkeys(answer.detail for answer in answers if answer.detail)
    return Answer(Status.PROVED, "; ".join(details), queries=queries)
