"""One clause after the other: what engines of linear programs have in common."""

from collections.abc import Callable
from dataclasses import dataclass, field

from absolver.analyzer.engines.engine import Control
from absolver.analyzer.engines.known import Goal, KnownSet, known_sets, tangents_domain
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.report import Counterexample
from absolver.analyzer.search.proof import TreeProof
from absolver.analyzer.search.strategy import Outcome, Task


@dataclass(frozen=True, kw_only=True)
class Decided:
    """How one clause has ended: refuted by a tree or in exact arithmetic, met, or neither."""

    proof: TreeProof | None = None
    exact: bool = False
    narrow: bool = False
    counterexample: Counterexample | None = None
    reason: str = ""
    """Why it is not decided, or why what is refuted has no tree."""


Decide = Callable[[Goal, Relaxation, Callable[[float], None]], Decided]
"""Decides a clause, given the relaxation of its set; told is which share of it is done."""


@dataclass
class _Found:
    proofs: list[TreeProof] = field(default_factory=list)
    exact: bool = True
    """Whether exact arithmetic has refuted everything that is refuted."""
    narrow: bool = False
    reasons: dict[str, None] = field(default_factory=dict)
    open: int = 0
    bare: int = 0
    """How many clauses are refuted without a tree."""


def decide_each(
    task: Task,
    control: Control,
    decide: Decide,
    *,
    summary: Callable[[], str],
    prepare: Callable[[KnownSet], KnownSet] = lambda known: known,
) -> Outcome:
    """Decide every clause of a task, until one of them is met.

    What is left open does not keep an engine from the others: one of them may be met.
    """
    total, done, found = int((task.specification.clause >= 0).sum()), 0, _Found()
    for known in known_sets(task):
        if not any(True for _ in known.goals()):
            continue
        known = prepare(known)
        relaxation = Relaxation(known.encoding, tangents_domain(), known.root.points)
        for goal in known.goals():
            words = f"{total - done + found.open} of {total} clauses are open"

            def tell(share: float, done: int = done, words: str = words) -> None:
                control.progress((done + share) / total, words)

            tell(0.0)
            one = decide(goal, relaxation, tell)
            if one.counterexample is not None:
                return Outcome(counterexample=one.counterexample, summary=summary())
            _take(found, one)
            done += 1
    return _outcome(found, total, summary())


def _take(found: _Found, one: Decided) -> None:
    found.narrow |= one.narrow
    if one.reason:
        found.reasons[one.reason] = None
    if one.proof is None and not one.exact:
        found.open += 1
        return
    found.exact &= one.exact
    if one.proof is not None:
        found.proofs.append(one.proof)
    else:
        found.bare += 1


def _outcome(found: _Found, total: int, summary: str) -> Outcome:
    reason = "; ".join(found.reasons)
    # What is refuted without a tree needs all else to be refuted exactly, too.
    undecided = found.open + (0 if found.exact else found.bare)
    if undecided:
        count = f"{undecided} of {total} clauses are open"
        return Outcome(summary=summary, reason=f"{count}: {reason}" if reason else count)
    return Outcome(
        proofs=found.proofs,
        rigorous=found.exact,
        narrow=found.narrow,
        summary=summary,
        reason=reason if found.bare else "",
    )
