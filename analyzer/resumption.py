"""What a run leaves for the next one of the same command, and what it takes from an earlier one."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from jaxtyping import Bool
from torch import Tensor

from absolver.analyzer.decide import Execution
from absolver.analyzer.problem import Ball, NamedQuery, Query
from absolver.analyzer.report import Report, Semantics, Verdict
from absolver.analyzer.search.checkpoint import Checkpoint, Saved
from absolver.analyzer.search.race import Standing
from absolver.dsl.domain import Domain


class Resumption:
    """Keeps a run in a file while it is undecided; without a file it does nothing."""

    def __init__(self, path: Path | None) -> None:
        """Name the file."""
        self.saved: Saved | None = None
        """Where an earlier run has stopped, if there was one."""
        self._path = path
        self._checkpoint: Checkpoint | None = None

    def begin(
        self,
        about: Callable[[], Mapping[str, str]],
        domains: Mapping[str, Domain | None],
        execution: Execution,
    ) -> None:
        """Read the file, if there is one; raises if it is of another run, or cannot be written."""
        if self._path is None:
            return
        named = [domain for domain in domains.values() if domain is not None]
        every = [*named, *(factor for domain in named for factor in domain.factors)]
        self._checkpoint = Checkpoint(self._path, about(), every, execution.device)
        self.saved = self._checkpoint.load()

    @property
    def standing(self) -> Standing | None:
        """Where the searches have stopped, if there were any."""
        return self.saved.standing if self.saved is not None else None

    def keeper(self, refuted: Bool[Tensor, "sets clauses"]) -> Callable[..., None]:
        """Return what a race tells its standing; `refuted` are the clauses that are no longer open.

        A standing is asked for only where there is a file to keep it.
        """
        checkpoint = self._checkpoint

        def keep(standing: Callable[[], Standing]) -> None:
            if checkpoint is not None:
                checkpoint.keep(lambda: Saved(refuted=refuted, standing=standing()))

        return keep

    def flush(self) -> None:
        """Write what was kept last: what follows may take long."""
        if self._checkpoint is not None:
            self._checkpoint.flush()

    def close(self, report: Report) -> Report:
        """Keep what an undecided run has found, and say so; a verdict needs no file any more."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            return report
        notes = report.notes
        if self.standing is not None:
            done = sum(state.bounded for state in self.standing.states.values())
            notes += (f"resumed from {self._path}, after {done} branches",)
        if report.verdict in (Verdict.VERIFIED, Verdict.FALSIFIED):
            checkpoint.remove()
            return replace(report, notes=notes)
        kept = checkpoint.flush()
        if checkpoint.failure:
            notes += (f"no checkpoint in {self._path}: {checkpoint.failure}",)
        return replace(report, notes=notes, checkpoint=self._path if kept else None)


def identity(
    network: Path,
    query: Query,
    domains: Mapping[str, Domain | None],
    execution: Execution,
    semantics: Semantics | None,
) -> Mapping[str, str]:
    """Return what makes two runs the same, by name: only then may one go on from the other."""
    files = [network]
    if isinstance(query, NamedQuery):
        files += [path for _, path in query.others]
    return {
        "version": version("absolver"),
        "network": _digest(*(path.read_bytes() for path in files)),
        "property": _query_digest(query),
        **{name: _domain_digest(domain) for name, domain in domains.items()},
        "dtype": execution.dtype,
        "semantics": semantics.value if semantics is not None else "",
    }


def _query_digest(query: Query) -> str:
    match query:
        case Ball():
            words = repr((query.epsilon, query.norm, query.label, query.clip))
            return _digest(query.center.read_bytes(), words.encode())
        case NamedQuery():
            return _digest(query.path.read_bytes(), query.network.encode())
        case Path():
            return _digest(query.read_bytes())


def _domain_digest(domain: Domain | None) -> str:
    if domain is None:
        return ""
    factors = [_domain_digest(factor) for factor in domain.factors]
    beside = _domain_digest(domain.bounds_from)
    return _digest(*(part.encode() for part in (domain.name, domain.source, beside, *factors)))


def _digest(*parts: bytes) -> str:
    """Return the SHA-256 of some parts, each told from the next one."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
