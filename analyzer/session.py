"""What a run obeys and whom it tells: its clock, its display, the file that it goes on from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.report import Report

Watch = Callable[[str, int, int], None]
"""Told the stage, how much of it is done, and how much there is; for a progress display."""


@dataclass(frozen=True)
class Session:
    """The clock that a run obeys, who is told how it goes, and where it is kept if undecided."""

    deadline: Deadline = field(default_factory=Deadline)
    watch: Watch = lambda stage, done, total: None
    checkpoint: Path | None = None


class Interrupted(KeyboardInterrupt):
    """The user has stopped the run; `report` has what was found until then."""

    def __init__(self, report: Report) -> None:
        """Keep the report."""
        super().__init__("interrupted")
        self.report = report
