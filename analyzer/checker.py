"""The checker, run as a process of its own: what it answers about a certificate."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from absolver.analyzer.deadline import Deadline, DeadlineExpired
from absolver.analyzer.report import Audit

# The console script `audit`; -P: a folder `onnx` where the user happens to be is not trusted.
COMMAND = (sys.executable, "-P", "-m", "absolver.certificates.audit", "--json")
ANSWERS = ("valid", "invalid", "incomplete")  # by exit code
LONGEST_WAIT_S = 1e6  # poll(2) counts milliseconds in 31 bits


@dataclass(frozen=True)
class Statement:
    """The files that a certificate is about; the query is a VNN-LIB file, or a query record.

    `recurrent` are the outputs that are inputs of the next step, `OUT=IN`. Where `rational`, the
    checker is to compute in rational numbers, which is slow.
    """

    network: Path
    query: Path
    recorded: bool = False
    recurrent: tuple[str, ...] = ()
    rational: bool = False

    @property
    def options(self) -> list[str]:
        """How the checker is told of what is in no file."""
        tier = ["--tier", "rational"] if self.rational else []
        return [*(f"--recurrent={pair}" for pair in self.recurrent), *tier]


Checker = Callable[[Statement, Path, Deadline], Audit]
"""Judges the certificate in a file."""


def audit(statement: Statement, certificate: Path, deadline: Deadline) -> Audit:
    """Run the checker on a certificate.

    Guarantee: the answer is `valid` only if the checker's process has printed that and has ended
    with the code that says so. The process ends before this function does, however that ends.
    """
    # Absolute, as a name that begins with a dash would be read as an option.
    network, query, proof = (
        str(path.absolute()) for path in (statement.network, statement.query, certificate)
    )
    asked = ["--query", query] if statement.recorded else [query]
    command = [*COMMAND, network, *asked, proof, *statement.options]
    start = time.monotonic()
    try:
        code, output, errors = _run(command, deadline)
    except OSError as error:
        return Audit("", f"audit cannot be started: {error.strerror or error}")
    seconds = time.monotonic() - start
    answer, reason, tier = _said(output)
    if code in range(len(ANSWERS)) and answer == ANSWERS[code]:
        return Audit(answer, reason, tier, seconds)
    return Audit("", _failure(code, errors), seconds=seconds)


def _said(output: str) -> tuple[str, str, str]:
    """Return the answer that the checker has printed, its reason and its tier; empty if none."""
    try:
        content = json.loads(output)
    except ValueError:
        return "", "", ""
    if not isinstance(content, dict):
        return "", "", ""
    answer, reason, tier = (str(content.get(key, "")) for key in ("answer", "reason", "tier"))
    return answer, reason, tier


def _run(command: list[str], deadline: Deadline) -> tuple[int, str, str]:
    """Run a command to its end; its exit code, and what it has printed."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        seconds = deadline.remaining
        try:
            limit = seconds if seconds < LONGEST_WAIT_S else None
            output, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise DeadlineExpired from None
        finally:  # also at a deadline's signal, and at Ctrl-C
            if process.poll() is None:
                process.kill()
                process.wait()
    return process.returncode, output, errors


def _failure(code: int, errors: str) -> str:
    """Say how the checker has failed: its last words, or the signal that has ended it."""
    lines = errors.strip().splitlines()
    words = f": {lines[-1][:300]}" if lines else ""
    if code < 0:
        return f"audit was ended by signal {-code}{words}"
    return f"audit has failed with exit code {code}{words or ' and no answer'}"
