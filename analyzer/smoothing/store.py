"""Counts in a file, a line for each input, from which a run goes on and certificates are made."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absolver.analyzer.smoothing.errors import CountsError
from absolver.analyzer.smoothing.gradient import HalfMeans
from absolver.analyzer.smoothing.smoothed import Counts


class CountStore:
    """A file of JSON lines: what the counts are of, then the counts of one input each.

    Guarantee: a line is written as a whole or not at all used; a file of another run is refused.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        """Open a file for a run, which is created, or read as far as it goes."""
        self._path = path
        self.known: dict[int, Counts] = {}
        """What has been counted before, by the input's number."""
        head = json.dumps(dict(run), sort_keys=True)
        if not path.exists():
            path.write_text(head + "\n", encoding="utf-8")
            return
        # A line without an end was being written when a run was stopped.
        whole, end, _ = path.read_text(encoding="utf-8").rpartition("\n")
        first, *lines = (whole + end).splitlines() or [""]
        if first != head:
            raise CountsError(
                f"{path} has the counts of another run: {first[:300]}; this one is {head}. "
                "Give --counts another file, or delete this one."
            )
        for number, line in enumerate(lines, start=2):
            counts = _read(path, number, line)
            self.known[counts.index] = counts
        path.write_text("\n".join([head, *lines, ""]), encoding="utf-8")

    def add(self, counts: Counts) -> None:
        """Append the counts of an input."""
        line: dict[str, Any] = {
            "index": counts.index,
            "label": counts.label,
            "selection": counts.selection,
            "estimation": counts.estimation,
        }
        if counts.means is not None:
            line["means"] = [counts.means.dot, counts.means.size]
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.known[counts.index] = counts

    def __iter__(self) -> Iterator[Counts]:
        """Give the counts in the order of the inputs."""
        return (self.known[index] for index in sorted(self.known))


def _read(path: Path, number: int, line: str) -> Counts:
    try:
        entry = json.loads(line)
        selection, estimation = (tuple(map(int, entry[key])) for key in ("selection", "estimation"))
        means = HalfMeans(*map(float, entry["means"])) if "means" in entry else None
        return Counts(int(entry["index"]), int(entry["label"]), selection, estimation, means)
    except (ValueError, TypeError, KeyError) as error:
        raise CountsError(f"{path}:{number}: not the counts of an input: {error!r}") from None
