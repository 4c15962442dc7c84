"""`analyze` and its certificates: what is printed, kept and returned, whatever goes wrong."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from absolver.analyzer import checker
from absolver.analyzer import verify as verification
from absolver.analyzer.certify.cases import Cases
from absolver.analyzer.cli.analyze import main
from absolver.analyzer.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_FALSIFIED,
    EXIT_INTERRUPTED,
    EXIT_UNCHECKED,
    EXIT_UNKNOWN,
    EXIT_USAGE,
    EXIT_VERIFIED,
)
from absolver.analyzer.search.strategy import Outcome

Write = Callable[..., Path]
IDENTITY = (([[1.0]], [0.0]),)
UNIT = [("-1", "1")]


@pytest.fixture
def holds(write_network: Write, write_property: Write) -> tuple[Path, Path]:
    return write_network(*IDENTITY), write_property(UNIT, "(>= Y_0 2.5)")


@pytest.fixture
def fails(write_network: Write, write_property: Write) -> tuple[Path, Path]:
    return write_network(*IDENTITY), write_property(UNIT, "(>= Y_0 0.5)")


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, list[str], str]:
    code = main([str(argument) for argument in argv])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


def pretend(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a Python script in the checker's place."""
    monkeypatch.setattr(checker, "COMMAND", (sys.executable, "-c", script))


def answering(answer: str, code: int, message: str = "") -> str:
    said = {"answer": answer, "reason": message, "tier": "fast"}
    return f"print({json.dumps(said)!r}); raise SystemExit({code})"


def test_a_checked_verdict_exits_0_and_says_over_which_numbers(
    holds: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, answering("valid", 0))
    code, out, err = run(capsys, *holds, "--domain", "crown")
    assert (code, out[0], err) == (EXIT_VERIFIED, "verified", "")
    start, end = out[1].split(" s (")
    assert start.startswith("float32 semantics; domain crown; checked by audit in ")
    assert end.endswith("bytes)")


@pytest.mark.parametrize("answer", ["invalid", "incomplete"])
def test_a_verdict_that_is_not_accepted_exits_3_and_says_why(
    answer: str,
    holds: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = {"invalid": 1, "incomplete": 2}[answer]
    pretend(monkeypatch, answering(answer, code, "no rule for the operator foo"))
    code, out, _ = run(capsys, *holds)
    assert (code, out[0]) == (EXIT_UNCHECKED, "verified")
    expected = f"unchecked: audit answers {answer}: no rule for the operator foo; real semantics"
    assert out[1].startswith(expected)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("/no/such/program",), "audit cannot be started: No such file"),
        ((sys.executable, "-m", "no.such.module"), "audit has failed with exit code 1"),
        ((sys.executable, "-c", "raise ValueError(5)"), "exit code 1: ValueError: 5"),
    ],
)
def test_a_checker_that_is_missing_or_crashes_leaves_a_verdict_unchecked(
    command: tuple[str, ...],
    words: str,
    holds: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(checker, "COMMAND", command)
    code, out, _ = run(capsys, *holds)
    assert (code, out[0]) == (EXIT_UNCHECKED, "verified")
    assert out[1].startswith("unchecked: ") and words in out[1]


def test_a_counterexample_says_what_it_shows(
    fails: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, answering("valid", 0))
    code, out, _ = run(capsys, *fails)
    assert (code, out[0]) == (EXIT_FALSIFIED, "falsified")
    assert out[1].startswith("counterexample: exact, runtime, all executions; domain ")
    assert "; checked by audit in " in out[1]
    pretend(monkeypatch, answering("incomplete", 2, "no rule"))
    code, out, _ = run(capsys, *fails)
    assert (code, out[0]) == (EXIT_FALSIFIED, "falsified")
    expected = "counterexample: runtime; unchecked: audit answers incomplete: no rule; domain "
    assert out[1].startswith(expected)


@pytest.mark.parametrize("name", ["holds", "fails"])
def test_json_tells_what_was_checked(
    name: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pretend(monkeypatch, answering("valid", 0))
    place = tmp_path / "out.cert"
    question = request.getfixturevalue(name)
    _, out, _ = run(capsys, *question, "--json", "--certificate", place)
    content = json.loads("\n".join(out))
    assert content["checked"] is True and content["unchecked"] == ""
    assert content["semantics"] == ("float32" if name == "holds" else "real")
    certificate = content["certificate"]
    assert certificate["path"] == str(place) and certificate["size"] == place.stat().st_size
    assert len(certificate["sha256"]) == 64 and certificate["query_record"] is None
    assert certificate["answer"] == "valid" and certificate["tier"] == "fast"
    assert 0 < certificate["seconds"] < 60
    if name == "fails":
        assert content["counterexample"]["grades"] == ["exact", "runtime", "all executions"]


def test_the_record_of_an_input_is_kept_for_audit(
    write_network: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pretend(monkeypatch, answering("valid", 0))
    network = write_network((np.eye(2), [0.0, 0.0]))
    np.save(tmp_path / "x.npy", np.array([[1.0, 0.25]], np.float32))
    asked = (network, "--input", tmp_path / "x.npy", "--epsilon", "0.1")
    assert run(capsys, *asked, "--certificate", tmp_path / "out.cert")[0] == EXIT_VERIFIED
    first = (tmp_path / "out.cert.query.json").read_bytes()
    assert json.loads(first)["epsilon"] == "1/10"
    run(capsys, *asked, "--query-record", tmp_path / "q.json")
    assert (tmp_path / "q.json").read_bytes() == first


@pytest.mark.parametrize("option", ["--certificate", "--query-record"])
@pytest.mark.parametrize("place", ["no/such/folder/out", "."])
def test_a_file_that_cannot_be_written_ends_the_run_before_its_work(
    option: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(*_: object, **__: object) -> None:
        pytest.fail("the work has started")

    monkeypatch.setattr(verification, "pose", work)
    target = tmp_path / place
    code, out, err = run(
        capsys, tmp_path / "net", "--input", tmp_path / "x", "--epsilon", "1", option, target
    )
    assert (code, out) == (EXIT_CANNOT_CREATE, [])
    assert err.startswith(f"analyze: {target}: cannot be written") and err.count("\n") == 1


def test_what_lies_at_the_certificates_place_stays_until_there_is_a_new_one(
    write_network: Write,
    write_property: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("absolver.analyzer.verify.decide_by_search", lambda *_: Outcome())
    (tmp_path / "out.cert").write_text("an older one")
    open_question = write_network(([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
    query = write_property(UNIT, "(>= Y_0 1.5)")
    options = ("--domain", "interval", "--certificate", tmp_path / "out.cert")
    assert run(capsys, open_question, query, *options)[1][0] == "unknown"
    assert (tmp_path / "out.cert").read_text() == "an older one"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["net.onnx", "p.vnnlib", "--certificate", "net.onnx"], "overwrite"),
        (["net.onnx", "p.vnnlib", "--certificate", "./p.vnnlib"], "overwrite"),
        (["net.onnx", "--certificate", "out"], "add a property"),
        (["net.onnx", "--semantics", "real"], "add a property"),
        (["net.onnx", "p.vnnlib", "--query-record", "q"], "--input"),
        (["net.onnx", "p.vnnlib", "--semantics", "float16"], "float16"),
        (
            ["net.onnx", "--input", "x", "--epsilon", "1"]
            + ["--certificate", "out", "--query-record", "out"],
            "overwrite",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (EXIT_USAGE, []) and word in err


@pytest.mark.parametrize("name", ["holds", "fails"])
def test_a_full_disk_does_not_cost_the_verdict(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    files = [str(path) for path in request.getfixturevalue(name)]
    command = [sys.executable, "-m", "absolver.analyzer.cli.analyze", *files]
    command += ["--certificate", str(tmp_path / "out.cert")]
    # No file may grow beyond 0 blocks; pipes may.
    limited = ["bash", "-c", f"ulimit -f 0; exec {shlex.join(command)}"]
    result = subprocess.run(limited, capture_output=True, text=True)
    first, second, *_ = result.stdout.splitlines()
    assert result.returncode == EXIT_CANNOT_CREATE
    assert first == {"holds": "verified", "fails": "falsified"}[name]
    assert "unchecked: " in second and "out.cert" in second and "cannot be written" in second
    assert "out.cert" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out.cert").exists()


def test_an_interruption_during_the_check_claims_nothing(
    holds: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started = tmp_path / "started"
    pretend(monkeypatch, f"import time; open({str(started)!r}, 'w'); time.sleep(60)")

    def interrupt() -> None:
        while not started.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code, out, err = run(capsys, *holds)
    thread.join()
    assert (code, out[0], err) == (EXIT_INTERRUPTED, "unknown", "analyze: interrupted\n")
    assert "interrupted in: certify" in out[1]


def test_an_interruption_while_writing_leaves_a_prefix_under_another_name(
    holds: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(cases: Cases) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Cases, "write", interrupt)
    code, out, _ = run(capsys, *holds, "--certificate", tmp_path / "out.cert")
    assert (code, out[0]) == (EXIT_INTERRUPTED, "unknown")
    assert "interrupted in: certify" in out[1]
    assert not (tmp_path / "out.cert").exists()
    prefix = (tmp_path / "out.cert.partial").read_bytes()
    assert prefix.startswith(b"ABSOLVER-CERTIFICATE 1\n") and len(prefix) > 100


def test_what_only_balls_in_a_norm_prove_is_certified_over_the_reals(
    write_network: Write, write_property: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Rotations by 45 degrees keep the 2-norm, and let boxes grow by its factor each."""
    turn = [[0.7071, -0.7071], [0.7071, 0.7071]]
    network = write_network(*[(turn, [5.0, 5.0])] * 3, (turn, [20.0, 5.0]))
    point = tmp_path / "x.npy"
    np.save(point, np.zeros((1, 2), dtype=np.float32))
    near = ("--input", point, "--epsilon", "3", "--norm", "2", "--label", "1")
    code, out, _ = run(capsys, network, *near, "--domain", "lipschitz")
    assert (code, out[0]) == (EXIT_VERIFIED, "verified")
    assert "real semantics" in out[1] and "checked by audit" in out[1]
    code, out, _ = run(capsys, network, *near, "--domain", "interval")
    assert (code, out[0]) == (EXIT_UNKNOWN, "unknown")


@pytest.mark.parametrize("inner", ["crown", "zonotope", "interval", "crown & interval"])
def test_parts_of_the_input_set_are_a_tree_of_splits_in_a_certificate(
    inner: str, write_network: Write, write_property: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """relu(x + 1/2) - relu(x - 1/2) is 1 at most; lines over [-1, 1] alone say 1.125."""
    network = write_network(([[1.0], [1.0]], [0.5, -0.5]), ([[1.0, -1.0]], [0.0]))
    question = (network, write_property(UNIT, "(>= Y_0 1.05)"))
    parts = "64" if inner == "interval" else "4"
    code, out, _ = run(capsys, *question, "--domain", f"powerset({inner}, {parts})")
    assert (code, out[0]) == (EXIT_VERIFIED, "verified")
    assert "checked by audit" in out[1] and not any("search" in line for line in out)
