"""What is kept of a run, what counts as done, and what the end of a process means."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from absolver.analyzer.bench.job import Settings, read_ending
from absolver.analyzer.bench.result import Answer, ResultsFile, read_results
from absolver.analyzer.bench.runner import Ending
from tests.analyzer.bench.cases import instance, job, result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def test_results_are_read_back_as_they_were_written(path: Path) -> None:
    written = [result("p"), result("q", Answer.SAT, grades=("exact", "runtime"), check_seconds=0.5)]
    for each in written:
        with ResultsFile(path) as file:
            file.add(each)
    assert read_results([path]) == {each.key: each for each in written}


def test_a_result_is_in_the_file_before_the_file_is_closed(path: Path) -> None:
    with ResultsFile(path) as file:
        file.add(result())
        assert len(read_results([path])) == 1


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_torn_last_line_is_passed_over_and_nothing_is_lost_behind_it(
    path: Path, cut: int
) -> None:
    with ResultsFile(path) as file:
        file.add(result("p"))
        file.add(result("torn"))
    path.write_bytes(path.read_bytes()[:-cut])
    torn = {result("torn").key} if cut == 1 else set()  # without its line break it is still whole
    assert set(read_results([path])) == {result("p").key} | torn
    with ResultsFile(path) as file:
        file.add(result("q"))
    assert set(read_results([path])) == {result("p").key, result("q").key} | torn


def test_of_two_results_for_one_job_the_last_counts(path: Path) -> None:
    with ResultsFile(path) as file:
        file.add(result(answer=Answer.ERROR))
        file.add(result(answer=Answer.SAT))
    (found,) = read_results([path]).values()
    assert found.answer is Answer.SAT


@pytest.mark.parametrize("line", ["", "1", "[]", "{}", '{"answer": "maybe"}', "\x00"])
def test_a_line_that_is_no_result_is_passed_over(path: Path, line: str) -> None:
    path.write_text(line + "\n")
    assert read_results([path]) == {}


def test_a_result_answers_its_job_and_no_other() -> None:
    known = job().key
    assert result().key == known
    others = [
        job(network_sha256="1"),
        job(query_sha256="1"),
        job(instance=instance(timeout_s=11.0)),
        job(settings=Settings(domain="crown")),
        job(settings=Settings(seed=1)),
        job(version="2"),
    ]
    assert known not in {other.key for other in others}
    assert job(one_thread=True, certificate=Path("c")).key == known
    assert job(instance=instance("p.vnnlib", expected="sat", family="g")).key == known


def test_certificates_of_different_jobs_have_different_names() -> None:
    jobs = [job("a/p.vnnlib.gz"), job("b/p.vnnlib"), job("b/p.vnnlib", version="2")]
    names = {each.certificate_name for each in jobs}
    assert len(names) == 3 and all(name.startswith("f-n-p-") for name in names)


def ending(verdict: str, exit_code: int, **content: object) -> Ending:
    return Ending(
        exit_code=exit_code,
        seconds=1.23456,
        cpu_seconds=1.0,
        peak_memory_bytes=1000,
        overtime=False,
        output=json.dumps({"verdict": verdict} | content),
        errors="",
    )


@pytest.mark.parametrize(
    ("verdict", "exit_code", "answer"),
    [
        ("verified", 0, Answer.UNSAT),
        ("verified", 3, Answer.UNSAT),
        ("verified", 73, Answer.UNSAT),
        ("falsified", 1, Answer.SAT),
        ("unknown", 2, Answer.UNKNOWN),
        ("timeout", 2, Answer.TIMEOUT),
        ("bounds", 0, Answer.ERROR),
        ("", 0, Answer.ERROR),
    ],
)
def test_the_verdict_becomes_vnncomps_word(verdict: str, exit_code: int, answer: Answer) -> None:
    assert read_ending(job(), ending(verdict, exit_code)).answer is answer


@pytest.mark.soundness
@pytest.mark.parametrize("exit_code", [-9, -11, 64, 65, 70, 130])
@pytest.mark.parametrize("verdict", ["verified", "falsified"])
def test_a_process_that_has_failed_has_answered_nothing(verdict: str, exit_code: int) -> None:
    failed = read_ending(job(), ending(verdict, exit_code, checked=True))
    assert (failed.answer, failed.checked) == (Answer.ERROR, False)
    killed = read_ending(job(), replace(ending(verdict, -9, checked=True), overtime=True))
    assert (killed.answer, killed.checked) == (Answer.TIMEOUT, False)


def test_a_failure_is_told_by_the_last_words_or_the_signal() -> None:
    failed = replace(ending("", 70), output="", errors="progress\nabsolver: out of memory\n")
    assert read_ending(job(), failed).message == "absolver: out of memory"
    assert read_ending(job(), ending("", -9)).message == "ended by signal 9"
    assert read_ending(job(), ending("", 0)).message == "ended with code 0 and no answer"


def test_what_the_analyzer_reports_is_kept() -> None:
    found = read_ending(
        job(certificate=Path("/x/y.cert")),
        ending(
            "verified",
            0,
            checked=True,
            semantics="float32",
            certificate={"size": 12, "seconds": 0.5},
            stages=[{"name": "load", "seconds": 0.1}],
        ),
    )
    assert found.checked and found.semantics == "float32" and found.seconds == 1.235
    assert (found.certificate, found.certificate_bytes, found.check_seconds) == ("y.cert", 12, 0.5)
    assert found.stages == {"load": 0.1} and found.message == ""
    reason = "timeout after 60 s, 41 of 96 branches open"
    assert read_ending(job(), ending("timeout", 2, reason=reason)).open_branches == 41


def test_a_query_about_several_networks_goes_to_the_standards_command() -> None:
    several = replace(instance(), networks=(("f", Path("a")), ("g", Path("b"))))
    command = job(instance=several).command()
    assert command[4:] and "verify" in command
    assert {"--network=f=a", "--network=g=b", "--timeout=10.0"} <= set(command)
    said = replace(
        ending("", 0),
        output="unsat\n",
        errors="absolver: verified; checked by audit in 0.1 s (1 kB)",
    )
    found = read_ending(job(instance=several), said)
    assert found.answer is Answer.UNSAT and found.checked
