"""The checker's process: every way in which it can end is an answer or a clear reason."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from absolver.analyzer import checker
from absolver.analyzer.checker import Statement, audit
from absolver.analyzer.deadline import Deadline, DeadlineExpired
from absolver.analyzer.report import Audit

STATEMENT = Statement(Path("net.onnx"), Path("p.vnnlib"))


def ask(
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    statement: Statement = STATEMENT,
    deadline: Deadline | None = None,
) -> Audit:
    """Run `audit` with a Python script in the checker's place."""
    monkeypatch.setattr(checker, "COMMAND", (sys.executable, "-c", script))
    return audit(statement, Path("proof"), deadline or Deadline())


def answering(answer: str, code: int, **content: str) -> str:
    said = {"answer": answer, "reason": "", "tier": "fast", **content}
    return f"print({json.dumps(said)!r}); raise SystemExit({code})"


@pytest.mark.parametrize(("answer", "code"), [("valid", 0), ("invalid", 1), ("incomplete", 2)])
def test_an_answer_is_taken_with_its_reason(
    answer: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ask(monkeypatch, answering(answer, code, reason="at step 3"))
    assert (said.answer, said.message, said.tier) == (answer, "at step 3", "fast")
    assert said.valid == (answer == "valid") and 0 < said.seconds < 60


@pytest.mark.soundness
@pytest.mark.parametrize(
    "script",
    [
        answering("valid", 1),
        answering("valid", 2),
        answering("valid", 3),
        answering("invalid", 0),
        answering("", 0),
        "",
        "print('valid')",
        "print('{}')",
        "print('[]')",
        "print('null')",
        "import os; os.abort()",
        "raise SystemExit(1)",
    ],
)
def test_what_is_no_clear_valid_is_not_valid(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ask(monkeypatch, script)
    assert not said.valid and said.answer == "" and said.message


def test_a_crash_is_told_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ask(monkeypatch, "raise RuntimeError('no more memory')")
    assert said.message == "audit has failed with exit code 1: RuntimeError: no more memory"


def test_an_end_by_a_signal_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ask(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    assert said.message == "audit was ended by signal 9"


def test_a_checker_that_is_not_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "COMMAND", ("/no/such/program",))
    said = audit(STATEMENT, Path("proof"), Deadline())
    assert not said.valid and said.message.startswith("audit cannot be started: No such file")


@pytest.mark.parametrize("recorded", [False, True])
def test_files_are_named_so_that_none_is_taken_for_an_option(
    recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import sys, json; print(json.dumps({'answer': 'valid', 'tier': ''}"
    script += " | {'reason': ' '.join(sys.argv[1:])}))"
    statement = Statement(Path("-n.onnx"), Path("--q"), recorded=recorded)
    words = ask(monkeypatch, script, statement).message.split()
    here = os.getcwd()
    query = ["--query", f"{here}/--q"] if recorded else [f"{here}/--q"]
    assert words == [f"{here}/-n.onnx", *query, f"{here}/proof"]


def sleeping(path: Path) -> str:
    return f"import os, time; open({str(path)!r}, 'w').write(str(os.getpid())); time.sleep(60)"


def is_running(path: Path) -> bool:
    try:
        os.kill(int(path.read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def test_the_deadline_ends_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deadline = Deadline.after(1.0)
    with pytest.raises(DeadlineExpired), deadline.enforced():
        ask(monkeypatch, sleeping(tmp_path / "pid"), deadline=deadline)
    assert not is_running(tmp_path / "pid")


def test_the_deadline_ends_the_process_where_no_signal_can_be_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended: list[bool] = []

    def work() -> None:
        try:
            ask(monkeypatch, sleeping(tmp_path / "pid"), deadline=Deadline.after(1.0))
        except DeadlineExpired:
            ended.append(is_running(tmp_path / "pid"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [False]


def test_an_interruption_ends_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    def interrupt() -> None:
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        ask(monkeypatch, sleeping(pid))
    thread.join()
    assert not is_running(pid)
