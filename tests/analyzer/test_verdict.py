"""The rules of verdicts, all combinations of what may be known."""

from itertools import product

import pytest

from absolver.analyzer.report import Grade, Semantics, Verdict
from absolver.analyzer.verdict import conclude

REAL, FLOAT32 = Semantics.REAL, Semantics.FLOAT32
EXACT, RUNTIME, ALL = Grade.EXACT, Grade.RUNTIME, Grade.ALL_EXECUTIONS

# What the known counterexample shows; a row below has these in turn.
WITNESSES = ("none", "a run", "the reals", "both")
SHOWN = {
    frozenset(): "none",
    frozenset({RUNTIME}): "a run",
    frozenset({EXACT}): "the reals",
    frozenset({EXACT, RUNTIME}): "both",
    frozenset({ALL}): "both",
    frozenset({ALL, EXACT}): "both",
    frozenset({ALL, RUNTIME}): "both",
    frozenset({ALL, EXACT, RUNTIME}): "both",
}

# V verified, F falsified, ? unknown; r over the reals, f over float32.
TABLE = """
asked    bounds    proved    none  a run  the reals  both
either   open      nothing   ?r    Ff     Fr         Fr
either   refute    nothing   Vr    Ff     Fr         Fr
either   open      real      Vr    Ff     ?r         ?r
either   refute    real      Vr    Ff     ?r         ?r
either   open      float32   Vf    ?f     ?f         ?f
either   refute    float32   Vf    ?f     ?f         ?f
real     open      nothing   ?r    ?r     Fr         Fr
real     refute    nothing   Vr    ?r     Fr         Fr
real     open      real      Vr    ?r     ?r         ?r
real     refute    real      Vr    ?r     ?r         ?r
real     open      float32   Vr    ?r     ?r         ?r
real     refute    float32   Vr    ?r     ?r         ?r
float32  open      nothing   ?f    Ff     ?f         Ff
float32  refute    nothing   ?f    Ff     ?f         Ff
float32  open      real      ?f    Ff     ?f         ?f
float32  refute    real      ?f    Ff     ?f         ?f
float32  open      float32   Vf    ?f     ?f         ?f
float32  refute    float32   Vf    ?f     ?f         ?f
"""
LETTERS = {"V": Verdict.VERIFIED, "F": Verdict.FALSIFIED, "?": Verdict.UNKNOWN}
NUMBERS = {"r": REAL, "f": FLOAT32}
NAMES = {"either": None, "nothing": None, "real": REAL, "float32": FLOAT32}
EVERYTHING = tuple(product((None, REAL, FLOAT32), (False, True), (None, REAL, FLOAT32), SHOWN))


def rows() -> dict[tuple[Semantics | None, bool, Semantics | None], list[str]]:
    lines = [line.split() for line in TABLE.split("\n")[2:-1]]
    return {(NAMES[a], b == "refute", NAMES[p]): cells for a, b, p, *cells in lines}


@pytest.mark.parametrize(("asked", "refuted", "proved", "grades"), EVERYTHING)
def test_every_combination_gets_the_verdict_of_the_table(
    asked: Semantics | None, refuted: bool, proved: Semantics | None, grades: frozenset[Grade]
) -> None:
    verdict, about = rows()[asked, refuted, proved][WITNESSES.index(SHOWN[grades])]
    found = conclude(asked, refuted=refuted, proved=proved, grades=grades)
    assert (found.verdict, found.semantics) == (LETTERS[verdict], NUMBERS[about])


@pytest.mark.soundness
@pytest.mark.parametrize(("asked", "refuted", "proved", "grades"), EVERYTHING)
def test_no_verdict_claims_more_than_what_it_rests_on(
    asked: Semantics | None, refuted: bool, proved: Semantics | None, grades: frozenset[Grade]
) -> None:
    found = conclude(asked, refuted=refuted, proved=proved, grades=grades)
    match found.verdict, found.semantics:
        case Verdict.VERIFIED, about:
            assert not grades
            assert about is REAL or proved is FLOAT32
            assert about is REAL or asked is not REAL
            assert refuted or proved is not None
        case Verdict.FALSIFIED, Semantics.REAL:
            assert grades & {EXACT, ALL} and asked is not FLOAT32
        case Verdict.FALSIFIED, Semantics.FLOAT32:
            assert grades & {RUNTIME, ALL} and asked is not REAL
        case _:
            assert found.reason or not (refuted or proved or grades)
