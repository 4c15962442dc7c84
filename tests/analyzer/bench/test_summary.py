"""What answers are worth, and how they compare with other tools'."""

from pathlib import Path

import pytest

from absolver.analyzer.bench.errors import InstancesError
from absolver.analyzer.bench.reference import read_replies
from absolver.analyzer.bench.result import Answer
from absolver.analyzer.bench.summary import Score, decided_seconds, score, table, wrong
from absolver.analyzer.cli.bench_report import csv_text, lines
from tests.analyzer.bench.cases import instance, result

SAT, UNSAT = Answer.SAT, Answer.UNSAT


@pytest.mark.parametrize(
    ("answer", "expected", "worth"),
    [
        (SAT, "sat", Score.RIGHT),
        (UNSAT, "unsat", Score.RIGHT),
        (SAT, "unsat", Score.WRONG),
        (UNSAT, "sat", Score.WRONG),
        (SAT, "", Score.NEW),
        (UNSAT, "", Score.NEW),
        (Answer.UNKNOWN, "sat", Score.UNDECIDED),
        (Answer.TIMEOUT, "", Score.UNDECIDED),
        (Answer.ERROR, "unsat", Score.ERROR),
    ],
)
def test_an_answer_is_held_against_the_known_one(
    answer: Answer, expected: str, worth: Score
) -> None:
    assert score(instance(expected=expected), result(answer=answer)) is worth


@pytest.mark.soundness
def test_a_late_answer_counts_for_nothing_but_a_wrong_one_stays_wrong() -> None:
    late = result(answer=SAT, seconds=11.5)
    assert score(instance(expected="sat"), late) is Score.UNDECIDED
    assert score(instance(expected="unsat"), late) is Score.WRONG
    nowhen = result(answer=SAT, seconds=float("inf"))
    assert score(instance(expected="sat"), nowhen) is Score.UNDECIDED


REPLIES = """family,onnx,vnnlib,vnncomp_year,tool,result,time_s,counterexample_check
f,n.onnx,a,2023,old,unsat,3.0,
f,n.onnx,a,2024,old,timeout,10.0,
f,n.onnx,a,2024,fast,unsat,1.0,
f,n.onnx,b,2024,fast,unsat,2.0,
f,n.onnx,b,2024,slow,sat,11.0,
f,n.onnx,c,2024,slow,unsat,1.0,
f,n.onnx,d,2024,broken,error,,
"""


def test_the_table_sums_up_families_and_tools(tmp_path: Path) -> None:
    (tmp_path / "reference_results.csv").write_text(REPLIES)
    replies = read_replies(tmp_path)
    known = {"a": "unsat", "b": "sat", "c": "", "d": "unsat"}
    instances = [instance(query, expected=known[query]) for query in "abcd"]
    instances += [instance("z", family="g")]
    answers = [result("a", UNSAT, seconds=2.0), result("b", UNSAT, checked=False)]
    answers += [result("c", SAT, seconds=4.0), result("d", Answer.UNKNOWN)]
    finished = list(zip(instances, answers, strict=False))
    f, g, everything = table(instances, finished, replies)
    assert (f.name, f.instances, f.finished, f.known, f.right) == ("f", 4, 4, 3, 1)
    assert (f.unsat, f.sat, f.new, f.wrong, f.undecided, f.errors) == (1, 1, 1, 1, 1, 0)
    assert (f.unchecked, f.median_s) == (1, 3.0)
    # `old` counts by its newest year, `fast` is wrong on b, `slow` too late; c is not known.
    assert (f.best_tool, f.best_tool_right, f.any_tool_right) == ("fast", 1, 1)
    assert (g.instances, g.finished, g.median_s, g.best_tool) == (1, 0, None, "")
    assert (everything.name, everything.instances, everything.wrong) == ("all", 5, 1)
    assert [each.query for each, _ in wrong(finished)] == ["b"]
    assert decided_seconds(finished) == [2.0, 4.0]


def test_a_wrong_answer_is_the_last_thing_that_is_printed() -> None:
    finished = [(instance(expected="sat"), result(answer=UNSAT))]
    *_, last = lines([instance(expected="sat")], finished, {})
    assert last == "WRONG ANSWER, sat is known: unsat after 1.0 s: n.onnx p.vnnlib"
    assert csv_text(finished).splitlines()[1].endswith(",sat,wrong")


def test_without_other_tools_the_table_does_not_mention_them() -> None:
    (header, row) = lines([instance()], [(instance(), result())], {})
    assert "tool" not in header and row.split()[:4] == ["f", "1", "1", "0"]


def test_a_broken_table_of_other_tools_is_refused(tmp_path: Path) -> None:
    assert read_replies(tmp_path) == {}
    (tmp_path / "reference_results.csv").write_text("onnx,vnnlib\na,b,c,d,e,f,g\n")
    with pytest.raises(InstancesError, match="columns family, result, time_s, tool"):
        read_replies(tmp_path)
    (tmp_path / "reference_results.csv").write_text(REPLIES.replace(",3.0,", ",soon,"))
    with pytest.raises(InstancesError, match=r"csv:2: .*soon"):
        read_replies(tmp_path)
