"""Processes end when they should, and never outlive who has started them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from absolver.analyzer.bench.runner import Runner, StoppedError

PYTHON = (sys.executable, "-I", "-S", "-c")
# Starts a child of its own, writes both numbers, and waits for longer than any test does.
FAMILY = (
    "import os, subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(99)']);"
    "open(sys.argv[1] + '.new', 'w').write(f'{os.getpid()} {child.pid}');"
    "os.rename(sys.argv[1] + '.new', sys.argv[1]);"
    "time.sleep(99)"
)


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "that took too long"
        time.sleep(0.02)


def numbers(file: Path) -> list[int]:
    wait_for(file.exists)
    return [int(word) for word in file.read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead but not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it may end before it is read
        return False
    return state != "Z"


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


def test_what_a_command_prints_uses_and_ends_with_is_reported() -> None:
    program = (
        "import sys, time; block = b'1' * 200_000_000; time.sleep(0.2);"
        "print('out'); print('err', file=sys.stderr); sys.exit(3)"
    )
    ending = Runner().run([*PYTHON, program], 60, one_thread=True)
    assert (ending.exit_code, ending.output, ending.errors) == (3, "out\n", "err\n")
    assert not ending.overtime and 0.2 <= ending.seconds < 30
    assert 200_000_000 < ending.peak_memory_bytes < 400_000_000
    assert 0 < ending.cpu_seconds < 30


@pytest.mark.parametrize("one_thread", [True, False])
def test_one_thread_is_asked_for_where_others_work_beside(
    one_thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    program = "import os; print(os.environ['OMP_NUM_THREADS'])"
    ending = Runner().run([*PYTHON, program], 60, one_thread=one_thread)
    assert ending.output == ("1\n" if one_thread else "7\n")


@needs_proc
def test_when_its_time_is_over_the_whole_family_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    ending = Runner().run([*PYTHON, FAMILY, str(file)], 1.0, one_thread=True)
    assert ending.overtime and ending.exit_code == -signal.SIGKILL
    wait_for(lambda: not any(map(alive, numbers(file))))


@needs_proc
def test_what_a_command_leaves_behind_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    program = FAMILY.rpartition(";")[0]  # the same without its last wait
    ending = Runner().run([*PYTHON, program, str(file)], 60, one_thread=True)
    assert ending.exit_code == 0 and not ending.overtime
    wait_for(lambda: not any(map(alive, numbers(file))))


@needs_proc
def test_stop_ends_what_runs_and_refuses_what_comes(tmp_path: Path) -> None:
    runner, file = Runner(), tmp_path / "pids"
    raised: list[type] = []

    def run() -> None:
        try:
            runner.run([*PYTHON, FAMILY, str(file)], 60, one_thread=True)
        except StoppedError as error:
            raised.append(type(error))

    thread = threading.Thread(target=run)
    thread.start()
    pids = numbers(file)
    runner.stop()
    thread.join(20)
    assert raised == [StoppedError]
    wait_for(lambda: not any(map(alive, pids)))
    with pytest.raises(StoppedError):
        runner.run([*PYTHON, "pass"], 60, one_thread=True)


@needs_proc
def test_processes_end_with_their_owner_even_if_that_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    owner = (
        "import sys; from absolver.analyzer.bench.runner import Runner;"
        "Runner().run(sys.argv[1:], 60, one_thread=True)"
    )
    command = [sys.executable, "-P", "-c", owner, *PYTHON, FAMILY, str(file)]
    with subprocess.Popen(command) as process:
        pids = numbers(file)
        assert all(map(alive, pids))
        os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not any(map(alive, pids)))


def test_a_command_that_cannot_start_is_an_error() -> None:
    with pytest.raises(OSError, match="has ended with code"):
        Runner().run(["/no/such/program"], 1, one_thread=True)
