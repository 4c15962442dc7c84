"""How a certificate is written; nothing here is trusted, as the checker reads what was written."""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import numpy as np

from absolver.certificates.container import KINDS, MAGIC, decode, file_bytes, read_records

__all__ = ["CertificateWriter", "file_bytes", "read_records"]


class CertificateWriter:
    """Writes records one by one to `PATH.partial`, which a clean end renames to `PATH`.

    Guarantee: `PATH` is either untouched or a complete certificate; after an exception or a kill
    `PATH.partial` is a prefix that `read_records` calls `Incomplete`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Name the files; nothing is opened yet."""
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self._digest = hashlib.sha256()

    def __enter__(self) -> Self:
        """Start the partial file; what an earlier run left there is lost."""
        self._file = self.partial.open("wb")
        self._put(MAGIC)
        return self

    def write(self, record: Mapping[str, object]) -> None:
        """Append one record: JSON's values, but no floats, and numpy arrays anywhere in it."""
        blobs: list[bytes] = []
        text = json.dumps(record, default=lambda value: _describe(value, blobs)).encode()
        content = b"".join([len(text).to_bytes(4, "little"), text, *blobs])
        decode(content)  # raises an error: what readers refuse is not written
        packed = zlib.compress(content)
        self._put(len(packed).to_bytes(4, "little") + packed)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the file and rename it, or leave the partial one where there was an exception."""
        if kind is not None:
            with suppress(OSError):  # the exception on its way says what happened
                self._file.close()
            return
        with self._file:
            self._put(bytes(4))
            self._put(self._digest.digest())
            os.fsync(self._file.fileno())
        self.partial.replace(self.path)

    def _put(self, content: bytes) -> None:
        self._digest.update(content)
        self._file.write(content)
        self._file.flush()


def _describe(value: object, blobs: list[bytes]) -> dict[str, object]:
    """What stands in JSON for an array, whose data is appended to `blobs`."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a {type(value).__name__} cannot be written to a certificate: {value}")
    kind = "bit" if value.dtype == np.bool_ else value.dtype.str[1:]
    if kind not in KINDS:
        raise TypeError(f"an array of {value.dtype} cannot be written to a certificate")
    at = sum(map(len, blobs))
    data = np.packbits(value) if kind == "bit" else value.astype(KINDS[kind])
    blobs.append(data.tobytes())
    return {"array": kind, "shape": list(value.shape), "at": at}
