"""The result file of VNN-COMP: a verdict and, for `sat`, the counterexample."""

import os
import tempfile
from collections.abc import Iterable, Mapping
from errno import EACCES, EISDIR
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from absolver.analyzer.errors import EXIT_CANNOT_CREATE, AbsolverError
from absolver.analyzer.report import Report, Verdict

VNNCOMP_WORD: Mapping[Verdict, str] = {
    Verdict.VERIFIED: "unsat",
    Verdict.FALSIFIED: "sat",
    Verdict.UNKNOWN: "unknown",
    Verdict.TIMEOUT: "timeout",
    Verdict.BOUNDS: "unknown",
}


class UnwritableError(AbsolverError):
    """A file cannot be written."""

    exit_code = EXIT_CANNOT_CREATE


def write_results(path: Path, report: Report) -> None:
    """Write a report as VNN-COMP wants it, all of it or nothing."""
    write_atomically(path, vnncomp_text(report))


def vnncomp_text(report: Report) -> str:
    """The verdict's word, then `((X_0 v) ... (Y_0 v))` where there is a counterexample.

    Every number is the shortest decimal that reads back as the same float of its own type.
    """
    lines = [VNNCOMP_WORD[report.verdict]]
    witness = report.counterexample
    if report.verdict is Verdict.FALSIFIED and witness is not None:
        pairs = [*_pairs("X", witness.flat_inputs), *_pairs("Y", witness.flat_outputs)]
        lines.append("(" + "\n ".join(pairs) + ")")
    return "\n".join(lines) + "\n"


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by one with this text; a reader sees the old file or the whole new one."""
    try:
        if path.exists() and not path.is_file():  # /dev/stdout and pipes cannot be replaced
            path.write_text(text, encoding="utf-8")
            return
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise unwritable(path, error) from error


def check_writable(path: Path) -> None:
    """Raise unless a file can be written there; what lies there stays as it is."""
    try:
        if path.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(EACCES, os.strerror(EACCES))
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> UnwritableError:
    """Say that a file cannot be written, why, and what to do."""
    return UnwritableError(
        f"{path}: cannot be written: {error.strerror or error}. Name a place in a folder that "
        "exists and may be written, on a disk with room."
    )


def write_tensors(folder: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write each array as `NAME.pb`, an ONNX TensorProto, as the VNN-LIB standard asks."""
    from onnx import numpy_helper

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            content = numpy_helper.from_array(array, name).SerializeToString()
            (folder / f"{name}.pb").write_bytes(content)
    except OSError as error:
        raise unwritable(Path(error.filename or folder), error) from error


def _pairs(letter: str, values: Iterable[object]) -> list[str]:
    return [f"({letter}_{index} {value!s})" for index, value in enumerate(values)]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
