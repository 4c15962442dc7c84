"""The rules of verdicts: what may be said of what has been found."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from absolver.analyzer.report import Grade, Semantics, Verdict


@dataclass(frozen=True)
class Conclusion:
    """A verdict, the executions that it is about, and what else there is to say."""

    verdict: Verdict
    semantics: Semantics
    reason: str = ""


def conclude(
    asked: Semantics | None,
    *,
    refuted: bool,
    proved: Semantics | None,
    grades: AbstractSet[Grade],
) -> Conclusion:
    """Say what follows for a query about `asked`, or about either semantics if that is None.

    `refuted`: bounds over the reals refute every clause, checked or not. `proved`: the checker has
    accepted a proof over these numbers; one over float32 is one over the reals, too. `grades`: what
    the known counterexample shows.

    Guarantee: verified only if no violation is known, neither a run nor over the reals, and over
    float32 only if that is proved; falsified over the reals only by an exact witness, over float32
    only by a run. Where a proof and a witness contradict each other, nothing is claimed.
    """
    exact = not grades.isdisjoint({Grade.EXACT, Grade.ALL_EXECUTIONS})
    run = not grades.isdisjoint({Grade.RUNTIME, Grade.ALL_EXECUTIONS})
    about = asked or proved or Semantics.REAL
    if (exact and proved is not None) or (run and proved is Semantics.FLOAT32):
        return Conclusion(Verdict.UNKNOWN, about, "the counterexample contradicts a checked proof")
    if exact and asked is not Semantics.FLOAT32:
        return Conclusion(Verdict.FALSIFIED, Semantics.REAL)
    if run and asked is not Semantics.REAL:
        return Conclusion(Verdict.FALSIFIED, Semantics.FLOAT32)
    if run:
        rest = "a checked proof says that it holds" if proved else "no violation is known"
        reason = f"a run of onnxruntime violates the property; over the reals {rest}"
        return Conclusion(Verdict.UNKNOWN, about, reason)
    if exact:
        reason = "it is violated over the reals, but no run that violates it is known"
        return Conclusion(Verdict.UNKNOWN, about, reason)
    if asked is Semantics.FLOAT32 and proved is not Semantics.FLOAT32:
        reason = "it holds over the reals, but that is not proved of float32 executions"
        return Conclusion(Verdict.UNKNOWN, about, reason if proved or refuted else "")
    if proved is not None or refuted:
        return Conclusion(Verdict.VERIFIED, about)
    return Conclusion(Verdict.UNKNOWN, about)
