"""Verifiers as processes: how ours and each peer is found, started, and understood."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, Self

from workloads import ROOT

from absolver.analyzer.bench.job import ANALYZE, VERDICT_CODES, WORDS
from absolver.analyzer.bench.runner import Ending

RIVALS = ROOT.parent / "rivals"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every verifier is asked: plain files in a folder of its own, where it may write."""

    network: Path
    query: Path
    folder: Path
    limit_s: float
    cores: int
    configuration: str
    """alpha,beta-CROWN's configuration of the family, and arguments; empty for its defaults."""


@dataclass(frozen=True)
class Said:
    """What a verifier has said, in VNN-COMP's words, and the seconds that it counts itself."""

    answer: str
    own_seconds: float | None = None
    message: str = ""


class AbsentError(Exception):
    """A verifier is not here; the message says how it is made to be."""


def checkout(variable: str, folder_name: str, part: str) -> tuple[Path, Path]:
    """Return a peer's folder and its interpreter, or raise `AbsentError`; `part` must be there."""
    folder_variable, python_variable = f"ABSOLVER_{variable}", f"ABSOLVER_{variable}_PYTHON"
    folder = Path(os.environ.get(folder_variable, RIVALS / folder_name)).absolute()
    if not (folder / part).is_dir():
        raise AbsentError(f"no {part} in {folder}; ${folder_variable} names a checkout")
    python = Path(os.environ.get(python_variable, folder / ".venv/bin/python")).absolute()
    if not python.exists():
        raise AbsentError(f"no interpreter {python}; ${python_variable} names one")
    return folder, python


def commit(folder: Path) -> str:
    """Return the commit that is checked out, abbreviated."""
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"


class Verifier(Protocol):
    """A program that answers a query."""

    name: ClassVar[str]

    @classmethod
    def find(cls) -> Self:
        """Find the verifier, or raise `AbsentError`."""

    @property
    def version(self) -> str:
        """Which one it is."""

    def command(self, task: Task) -> list[str]:
        """Return the command that answers a task."""

    def read(self, task: Task, ending: Ending) -> Said:
        """Understand how the command has ended."""


@dataclass(frozen=True)
class Absolver:
    """`analyze`, with the certificate and its check, which are part of its answer."""

    name: ClassVar[str] = "absolver"
    version: str

    @classmethod
    def find(cls) -> Self:
        """Ours is always here."""
        return cls(commit(ROOT))

    def command(self, task: Task) -> list[str]:
        """Return the command."""
        given = [str(task.network), str(task.query), "--json", f"--timeout={task.limit_s!r}"]
        return _in_folder(task, {}, [*ANALYZE, *given])

    def read(self, task: Task, ending: Ending) -> Said:
        """Read what `--json` has printed."""
        try:
            content = json.loads(ending.output)
        except ValueError:
            return _without_answer(ending)
        if ending.exit_code not in VERDICT_CODES:
            return _without_answer(ending)
        stages = sum(stage["seconds"] for stage in content.get("stages", ()))
        message = content["unchecked"] or content["reason"]
        return Said(str(WORDS[content["verdict"]]), stages, message)


@dataclass(frozen=True)
class AlphaBetaCrown:
    """alpha,beta-CROWN with the configuration that its authors wrote for the family."""

    name: ClassVar[str] = "alpha,beta-CROWN"
    version: str
    folder: Path
    python: Path

    @classmethod
    def find(cls) -> Self:
        """Find a checkout with auto_LiRPA inside, and an interpreter that has what it needs."""
        folder, python = checkout("ALPHA_BETA_CROWN", "alpha-beta-CROWN", "complete_verifier")
        return cls(commit(folder), folder, python)

    def command(self, task: Task) -> list[str]:
        """Return the command; in a folder of its own, where it keeps pickles beside the query."""
        code = self.folder / "complete_verifier"
        given = ["--device", "cpu", "--onnx_path", task.network, "--vnnlib_path", task.query]
        given += ["--results_file", _result(task), "--timeout", f"{task.limit_s:g}"]
        if task.configuration:
            file, *more = task.configuration.split()
            given += ["--config", code / file, *more]
        return _in_folder(task, {}, [self.python, "-W", "ignore", code / "abcrown.py", *given])

    def read(self, task: Task, ending: Ending) -> Said:
        """Read the result file, and the seconds from behind its start-up, which it prints."""
        own = re.findall(r"^Time: (\S+)$", ending.output, re.MULTILINE)
        return _from_file(task, ending, {}, float(own[-1]) if own else None)


@dataclass(frozen=True)
class Nnenum:
    """nnenum, with the settings that it chooses itself."""

    name: ClassVar[str] = "nnenum"
    version: str
    folder: Path
    python: Path

    @classmethod
    def find(cls) -> Self:
        """Find a checkout, and an interpreter that has what it needs."""
        folder, python = checkout("NNENUM", "nnenum", "src/nnenum")
        return cls(commit(folder), folder, python)

    def command(self, task: Task) -> list[str]:
        """Return the command of its script for the competition, with a number of processes."""
        given = [task.network, task.query, f"{task.limit_s:g}", _result(task), task.cores]
        # Its processes are its parallelism, as in its script for the competition.
        variables = {"PYTHONPATH": str(self.folder / "src"), "OPENBLAS_NUM_THREADS": "1"}
        variables["OMP_NUM_THREADS"] = "1"
        return _in_folder(task, variables, [self.python, "-m", "nnenum.nnenum", *given])

    def read(self, task: Task, ending: Ending) -> Said:
        """Read the result file, and the seconds of the search, which it prints."""
        own = re.findall(r"^Runtime: (\S+) sec", ending.output, re.MULTILINE)
        words = {"holds": "unsat", "violated": "sat"}
        return _from_file(task, ending, words, sum(map(float, own)) if own else None)


def _in_folder(task: Task, variables: Mapping[str, str], command: list[object]) -> list[str]:
    """Return a command that is run in the task's folder with that many threads."""
    settings = {"OMP_NUM_THREADS": str(task.cores)} | dict(variables)
    assigned = [f"{name}={value}" for name, value in settings.items()]
    return ["env", f"--chdir={task.folder}", *assigned, *map(str, command)]


def _result(task: Task) -> Path:
    return task.folder / "result"


def _from_file(
    task: Task, ending: Ending, words: Mapping[str, str], own_seconds: float | None
) -> Said:
    """Read a result file whose first line is the answer, perhaps in other words."""
    file = _result(task)
    first = (file.read_text().splitlines() or [""])[0].strip() if file.exists() else ""
    answer = words.get(first, first)
    if answer in ("sat", "unsat", "timeout", "unknown"):
        return Said(answer, own_seconds)
    return _without_answer(ending)


def _without_answer(ending: Ending) -> Said:
    if ending.overtime:
        return Said("timeout", None, "killed after its time")
    lines = ending.errors.strip().splitlines() or ending.output.strip().splitlines()
    last = lines[-1][:200] if lines else "nothing printed"
    return Said("error", None, f"exit code {ending.exit_code}: {last}")
