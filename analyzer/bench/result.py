"""What is known of an instance that was run, and the file that keeps it, one line each."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any


class Answer(StrEnum):
    """What a process has answered, in VNN-COMP's words: `sat` is a counterexample."""

    SAT = "sat"
    UNSAT = "unsat"
    UNKNOWN = "unknown"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class Result:
    """Everything that one run of an instance has shown; what does not apply is empty or None.

    `seconds` is the wall-clock time of the whole process, its start and the check of the
    certificate included. `checked` says that the checker has accepted the certificate.
    """

    family: str
    network: str
    query: str
    network_sha256: str
    query_sha256: str
    timeout_s: float
    settings: dict[str, Any]
    version: str
    answer: Answer
    checked: bool
    seconds: float
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    exit_code: int
    semantics: str = ""
    grades: tuple[str, ...] = ()
    certificate: str = ""
    certificate_bytes: int | None = None
    check_seconds: float | None = None
    open_branches: int | None = None
    stages: Mapping[str, float]
    message: str = ""

    @property
    def key(self) -> str:
        """What this result answers, as `Job.key`."""
        return identity(
            self.network_sha256, self.query_sha256, self.timeout_s, self.settings, self.version
        )


def identity(
    network_sha256: str,
    query_sha256: str,
    timeout_s: float,
    settings: Mapping[str, Any],
    version: str,
) -> str:
    """Return one string for the files, the time, the options and the version."""
    return json.dumps([network_sha256, query_sha256, timeout_s, settings, version], sort_keys=True)


def read_results(files: Iterable[Path]) -> dict[str, Result]:
    """Read the results of earlier runs by their keys; of several for one key, the last.

    A line that is no whole result, as a run that was killed may leave behind, is passed over: its
    instance will be run again.
    """
    results: dict[str, Result] = {}
    for path in files:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            result = _read(line)
            if result is not None:
                results[result.key] = result
    return results


class ResultsFile:
    """A file of results, one JSON object a line, to which results are added.

    Guarantee: after `add` the result is the system's to keep, whatever becomes of this process.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, behind what it has."""
        self._file = path.open("a+b")
        self._end_torn_line()

    def __enter__(self) -> "ResultsFile":
        """Return the open file."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self._file.close()

    def add(self, result: Result) -> None:
        """Write one line."""
        line = json.dumps(asdict(result), allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def _end_torn_line(self) -> None:
        size = self._file.seek(0, 2)
        if size == 0:
            return
        self._file.seek(size - 1)
        if self._file.read(1) != b"\n":
            self._file.write(b"\n")


def _read(line: str) -> Result | None:
    try:
        content = json.loads(line)
        known = {field.name: content[field.name] for field in fields(Result)}
        known["answer"] = Answer(known["answer"])
        known["grades"] = tuple(known["grades"])
        known["seconds"] = float(known["seconds"])
    except (ValueError, KeyError, TypeError):
        return None
    return Result(**known)
