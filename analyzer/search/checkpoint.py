"""The file that a run leaves behind, so that the same command goes on from there.

Two lines of text come first: what the file is, and what the run was about. A ZIP archive of NumPy
arrays follows, whose sums guard every byte. Nothing in a file is believed: what a search that went
on has refuted counts only once the checker has accepted its certificate.
"""

import json
import os
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from absolver.analyzer.certify.group_entries import GroupFacts
from absolver.analyzer.certify.rehearsal import Masks
from absolver.analyzer.certify.row_lines import RowLines
from absolver.analyzer.errors import EXIT_DATA, EXIT_NO_INPUT, AbsolverError
from absolver.analyzer.results import UnwritableError, check_writable
from absolver.analyzer.search.activations import Cuts
from absolver.analyzer.search.groups import Groups
from absolver.analyzer.search.inputs import Boxes
from absolver.analyzer.search.paths import Paths
from absolver.analyzer.search.proof import LeafPassage, Leaves, Root
from absolver.analyzer.search.race import Standing
from absolver.analyzer.search.records import Array, Decoder, encode
from absolver.analyzer.search.search import State
from absolver.analyzer.search.tree import Splits
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval

_MAGIC = b"Absolver checkpoint, format 2\n"
_LONGEST_HEADER = 1 << 16
# Seldom enough that writing takes at most this share of the time.
_SECONDS, _SHARE = 5.0, 0.02


# What readers of ZIP archives, JSON and arrays raise where bytes are not what they should be.
_BROKEN = (
    *(ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, EOFError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


class CheckpointError(AbsolverError):
    """A checkpoint cannot be read, or is that of another run."""

    exit_code = EXIT_DATA


class UnreadableCheckpointError(CheckpointError):
    """A checkpoint may not be read."""

    exit_code = EXIT_NO_INPUT


@dataclass(frozen=True, eq=False, kw_only=True)
class Saved:
    """Where a run was: the clauses that one pass had refuted, and the searches on the others."""

    refuted: Bool[Tensor, "sets clauses"]
    standing: Standing


_RECORDS = (
    *(Saved, Standing, State, Boxes, Cuts, Paths, Splits, Leaves),
    *(Root, Interval, Masks, RowLines, LeafPassage, GroupFacts, Groups),
)


class Checkpoint:
    """The file of one run, written now and then: a crash loses little of a long run.

    Guarantee: at any time the file is whole, or was never there; it is replaced in one step.
    """

    def __init__(
        self, path: Path, about: Mapping[str, str], domains: Sequence[Domain], device: str
    ) -> None:
        """Take what makes a run this one; raises unless the file can be written."""
        check_writable(path)
        if path.exists() and not path.is_file():
            raise UnwritableError(f"{path}: is no regular file. Name another place.")
        self.failure = ""
        """Why the file could not be written last time."""
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._about = dict(about)
        self._domains = domains
        self._device = device
        self._latest: Saved | None = None
        self._written = time.monotonic()
        self._pause = _SECONDS

    def load(self) -> Saved | None:
        """Return where an earlier run was, or None if there is no file."""
        try:
            with self._path.open("rb") as file:
                self._check_header(file)
                with zipfile.ZipFile(file) as archive:
                    return self._read(archive)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnreadableCheckpointError(
                f"{self._path}: cannot be read: {error.strerror or error}"
            ) from None
        except _BROKEN:
            raise CheckpointError(
                f"{self._path}: is no whole checkpoint: part of it is missing or was changed. "
                "Delete it to begin anew, or name another file."
            ) from None

    def keep(self, take: Callable[[], Saved]) -> None:
        """Remember where the run is, and write that if it is time."""
        self._latest = take()
        if time.monotonic() - self._written >= self._pause:
            self.flush()

    def flush(self) -> bool:
        """Write what was kept last; say whether the file has it."""
        if self._latest is None:
            return not self.failure and self._path.exists()
        start = time.monotonic()
        try:
            self._write(self._latest)
        except OSError as error:
            full = error.errno == ENOSPC
            self.failure = "the disk is full" if full else error.strerror or str(error)
        else:
            self.failure, self._latest = "", None
        self._written = time.monotonic()
        self._pause = max(_SECONDS, (self._written - start) / _SHARE)
        return not self.failure

    def remove(self) -> None:
        """Remove the file, as its run has ended."""
        self._latest = None
        for path in (self._path, self._partial):
            path.unlink(missing_ok=True)

    def _check_header(self, file: BinaryIO) -> None:
        if file.readline(len(_MAGIC)) != _MAGIC:
            raise CheckpointError(
                f"{self._path}: is no checkpoint of this version of Absolver. Name another file."
            )
        found = json.loads(file.readline(_LONGEST_HEADER))
        if found == self._about:
            return
        if not isinstance(found, dict):
            raise ValueError("the header names nothing")
        differ = [name for name in self._about if found.get(name) != self._about[name]]
        raise CheckpointError(
            f"{self._path}: is the checkpoint of another run: its {', '.join(differ)} "
            f"{'differs' if len(differ) == 1 else 'differ'}. Name another file, or delete it."
        )

    def _read(self, archive: zipfile.ZipFile) -> Saved:
        if archive.testzip() is not None:
            raise ValueError("a sum is wrong")

        def array(number: int) -> Array:
            with archive.open(f"{number}.npy") as member:
                found: Array = np.lib.format.read_array(member, allow_pickle=False)
                return found

        decoder = Decoder(array, _RECORDS, self._domains, self._device)
        saved = decoder.decode(json.loads(archive.read("run.json")))
        if not isinstance(saved, Saved):
            raise TypeError("it is something else")
        return saved

    def _write(self, saved: Saved) -> None:
        arrays: list[Array] = []
        whole = Saved(refuted=saved.refuted, standing=saved.standing.compact())
        content = json.dumps(encode(whole, arrays)).encode()
        try:
            with self._partial.open("wb") as file:
                file.write(_MAGIC + json.dumps(self._about).encode() + b"\n")
                with zipfile.ZipFile(file, "w") as archive:
                    archive.writestr("run.json", content)
                    for number, part in enumerate(arrays):
                        with archive.open(f"{number}.npy", "w", force_zip64=True) as member:
                            np.lib.format.write_array(member, part, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            self._partial.replace(self._path)
        except OSError:
            self._partial.unlink(missing_ok=True)
            raise
