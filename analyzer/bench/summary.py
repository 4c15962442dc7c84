"""Results held against what is known: right, wrong, and a table of families."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from absolver.analyzer.bench.instances import Instance
from absolver.analyzer.bench.reference import Replies, seconds_of_right
from absolver.analyzer.bench.result import Answer, Result

LATE_S = 1.0  # an answer that is later than this after the instance's time counts as none

Finished = Sequence[tuple[Instance, Result]]


class Score(StrEnum):
    """What an answer is worth; `NEW` is one where no answer is known."""

    RIGHT = "right"
    NEW = "new"
    WRONG = "wrong"
    UNDECIDED = "undecided"
    ERROR = "error"


def score(instance: Instance, result: Result) -> Score:
    """Hold an answer against the known one.

    Guarantee: an answer that contradicts the known one is `WRONG`, however late it came.
    """
    if result.answer is Answer.ERROR:
        return Score.ERROR
    if result.answer not in (Answer.SAT, Answer.UNSAT):
        return Score.UNDECIDED
    if instance.expected and instance.expected != result.answer:
        return Score.WRONG
    if result.seconds > instance.timeout_s + LATE_S:
        return Score.UNDECIDED
    return Score.RIGHT if instance.expected else Score.NEW


@dataclass(frozen=True, kw_only=True)
class Row:
    """One family, or all of them, in numbers.

    `unsat` and `sat` count answers that nothing contradicts, `new` those among them where no answer
    is known; `known` counts instances whose answer is known. `median_s` is over decided instances.
    Tools count by right answers within the same time on the instances that are finished here.
    """

    name: str
    instances: int
    finished: int
    known: int
    unsat: int
    sat: int
    new: int
    wrong: int
    undecided: int
    errors: int
    unchecked: int
    median_s: float | None
    best_tool: str
    best_tool_right: int | None
    any_tool_right: int | None

    @property
    def right(self) -> int:
        """Answers that are known to be right."""
        return self.unsat + self.sat - self.new


def table(instances: Sequence[Instance], finished: Finished, replies: Replies) -> list[Row]:
    """Sum up each family, in the order in which they are named, and then all."""
    rows = []
    for family in dict.fromkeys(instance.family for instance in instances):
        members = [instance for instance in instances if instance.family == family]
        of_members = [pair for pair in finished if pair[0].family == family]
        rows.append(_row(family, members, of_members, replies))
    if len(rows) != 1:
        rows.append(_row("all", instances, finished, replies))
    return rows


def wrong(finished: Finished) -> list[tuple[Instance, Result]]:
    """Return the instances with a wrong answer."""
    return [
        (instance, result)
        for instance, result in finished
        if score(instance, result) is Score.WRONG
    ]


def decided_seconds(finished: Finished) -> list[float]:
    """Return the times of right answers, and of those that nobody contradicts, sorted."""
    return sorted(
        result.seconds
        for instance, result in finished
        if score(instance, result) in (Score.RIGHT, Score.NEW)
    )


def _row(
    name: str,
    instances: Sequence[Instance],
    finished: Finished,
    replies: Replies,
) -> Row:
    scores = [score(instance, result) for instance, result in finished]
    answers = [result.answer for _, result in finished]
    good = (Score.RIGHT, Score.NEW)
    decided = [a for a, s in zip(answers, scores, strict=True) if s in good]
    seconds = decided_seconds(finished)
    done = [instance for instance, _ in finished]
    tools = {tool: len(seconds_of_right(of, done)) for tool, of in replies.items()}
    best = max(tools, key=lambda tool: tools[tool], default="")
    return Row(
        name=name,
        instances=len(instances),
        finished=len(finished),
        known=sum(bool(instance.expected) for instance in instances),
        unsat=decided.count(Answer.UNSAT),
        sat=decided.count(Answer.SAT),
        new=scores.count(Score.NEW),
        wrong=scores.count(Score.WRONG),
        undecided=scores.count(Score.UNDECIDED),
        errors=scores.count(Score.ERROR),
        unchecked=sum(
            result.answer in (Answer.SAT, Answer.UNSAT) and not result.checked
            for _, result in finished
        ),
        median_s=median(seconds) if seconds else None,
        best_tool=best if best and tools[best] else "",
        best_tool_right=tools[best] if best else None,
        any_tool_right=_by_any(replies, done) if replies else None,
    )


def _by_any(replies: Replies, instances: Sequence[Instance]) -> int:
    """Count the instances that some tool has answered rightly in time."""
    return sum(
        any(seconds_of_right(of, [instance]) for of in replies.values()) for instance in instances
    )
