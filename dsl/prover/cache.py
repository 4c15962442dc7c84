"""Proofs kept by content: under a hash of everything that a proof has read, the prover included."""

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from absolver.dsl.prover.obligations import Answer, Outcome, Point, Status

_LIBRARIES = ("z3-solver", "sympy", "python-flint", "torch", "lark", "numpy", "scipy")
_LANGUAGE = Path(__file__).resolve().parents[1]


def kept(*content: str) -> list[Outcome] | None:
    """What was decided of some content by this very prover; None if nothing was."""
    try:
        entry = json.loads(_file(content).read_text(encoding="utf-8"))
        if entry["content"] != [fingerprint(), *content]:
            return None
        return [_outcome(each) for each in entry["outcomes"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, torn, or of another version: proved anew


def keep(outcomes: Iterable[Outcome], *content: str) -> None:
    """Keep answers, but no undecided ones; where nothing can be written, nothing is kept."""
    outcomes = list(outcomes)
    if any(outcome.answer.status is Status.UNDECIDED for outcome in outcomes):
        return  # another run, or another machine, may have more time
    entry = {"content": [fingerprint(), *content], "outcomes": [_record(o) for o in outcomes]}
    path = _file(content)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(entry), encoding="utf-8")
        partial.replace(path)
    except OSError:
        return


@cache
def fingerprint() -> str:
    """A hash of the language's and the prover's own sources, and the versions of what they use."""
    digest = hashlib.sha256(platform.python_version().encode())
    for library in _LIBRARIES:
        try:
            digest.update(f"{library} {version(library)}\n".encode())
        except PackageNotFoundError:
            digest.update(f"{library} absent\n".encode())
    for pattern in ("*.py", "*.lark", "*.dom"):
        for path in sorted(_LANGUAGE.rglob(pattern)):
            digest.update(f"{path.relative_to(_LANGUAGE)}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _file(content: tuple[str, ...]) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.sha256("\n".join((fingerprint(), *content)).encode()).hexdigest()
    return Path(root) / "absolver" / "proofs" / f"{name}.json"


def _record(outcome: Outcome) -> dict[str, Any]:
    answer = outcome.answer
    point = answer.point
    return {
        "subject": outcome.subject,
        "claim": outcome.claim,
        "seconds": outcome.seconds,
        "status": answer.status.value,
        "detail": answer.detail,
        "queries": list(answer.queries),
        "point": None
        if point is None
        else [dict(point.values), point.claimed, point.actual, point.picture],
    }


def _outcome(record: dict[str, Any]) -> Outcome:
    point = None if record["point"] is None else _point(*record["point"])
    status, queries = Status(record["status"]), tuple(record["queries"])
    answer = Answer(status, record["detail"], point, queries)
    return Outcome(record["subject"], record["claim"], answer, record["seconds"])


def _point(
    values: dict[str, float], claimed: float, actual: float, picture: list[list[float]]
) -> Point:
    return Point(values, claimed, actual, tuple((x, y, line) for x, y, line in picture))
