"""Run commands as processes that end when this one does, and can all be ended at once."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from absolver.analyzer.bench import leash

# -I -S: nothing of the user's environment is looked at, which also makes it start quickly.
LEASH = (sys.executable, "-I", "-S", os.path.abspath(leash.__file__))


class StoppedError(Exception):
    """The command was not started, or was ended, because all work is to stop."""


@dataclass(frozen=True)
class Ending:
    """How a command ended, and what it has printed and used.

    `exit_code` is negative, the signal's number, where a signal has ended it; `overtime` says that
    it was killed because its time was over. The memory is the peak of its largest process.
    """

    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    overtime: bool
    output: str
    errors: str


class Runner:
    """Runs commands, from any number of threads, until it is stopped.

    Guarantee: no process of a command outlives `run`, `stop`, or this process.
    """

    def __init__(self) -> None:
        """Start with no process."""
        self._lock = threading.Lock()
        self._leashes: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def run(self, command: Sequence[str], limit_s: float, *, one_thread: bool) -> Ending:
        """Run a command to its end, or for `limit_s` seconds.

        `one_thread` tells its numeric libraries to use one thread. After `stop`, and where that
        has ended the command, it raises `StoppedError`.
        """
        environment = dict(os.environ)
        if one_thread:
            environment["OMP_NUM_THREADS"] = "1"
        with tempfile.TemporaryDirectory(prefix="absolver-bench-") as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            arguments = [*LEASH, str(limit_s), str(out), str(err), *command]
            said = self._leashed(arguments, environment)
            ending = json.loads(said)
            return Ending(
                **ending,
                output=out.read_text(encoding="utf-8", errors="replace"),
                errors=err.read_text(encoding="utf-8", errors="replace"),
            )

    def stop(self) -> None:
        """End all commands, and refuse new ones."""
        with self._lock:
            self._stopped = True
            for process in self._leashes:
                _let_go(process)

    def _leashed(self, arguments: Sequence[str], environment: dict[str, str]) -> str:
        with self._lock:
            if self._stopped:
                raise StoppedError
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                env=environment,
                start_new_session=True,  # Ctrl-C is for us
            )
            self._leashes.add(process)
        try:
            assert process.stdout is not None
            with process.stdout:
                said = process.stdout.read()
        finally:
            with self._lock:
                self._leashes.discard(process)
                _let_go(process)
            process.wait()
        if self._stopped:  # it may have been ended half-way
            raise StoppedError
        if process.returncode != 0:
            raise OSError(f"{arguments[0]} has ended with code {process.returncode}")
        return said


def _let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
