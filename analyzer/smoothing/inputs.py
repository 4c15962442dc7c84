"""The inputs of a run: an array of a file of numpy, with labels where it has some."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from absolver.analyzer.smoothing.errors import MissingInputError, SmoothingInputError


@dataclass(frozen=True)
class Inputs:
    """Inputs along the first axis, as they are stored: bytes are divided by 255, floats by 1."""

    path: Path
    digest: str
    array: str
    """Its name in an archive, empty in a file of one array."""
    stored: NDArray[Any]
    labels: NDArray[np.int64] | None = None

    @property
    def divisor(self) -> int:
        """What turns a stored number into one that the network sees."""
        return 255 if self.stored.dtype == np.uint8 else 1

    @property
    def dimension(self) -> int:
        """How many elements an input has."""
        return int(np.prod(self.stored.shape[1:], dtype=int))


def read_inputs(path: Path, array: str | None = None, labels: str | None = None) -> Inputs:
    """Read a `.npy` file, or an array of a `.npz` file; `x_test` and `y_test` if not named."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingInputError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # numpy and zipfile have no common class for a file that is none
        raise SmoothingInputError(f"{path}: no file of numpy: {error}") from None
    name = _named(path, arrays, array, "x_test", "--array")
    stored = arrays[name]
    if stored.ndim < 2 or not stored.size:
        raise SmoothingInputError(
            f"{path}: an array of shape {stored.shape} has no axis of inputs before their own; "
            "save x[None] for a single input"
        )
    if stored.dtype not in (np.uint8, np.float32, np.float64) or not np.isfinite(stored).all():
        raise SmoothingInputError(f"{path}: inputs are bytes or finite floats, not {stored.dtype}")
    known = labels or ("y_test" if "y_test" in arrays and name == "x_test" else None)
    truth = None
    if known is not None:
        truth = arrays[_named(path, arrays, known, known, "--labels")]
        if truth.shape != (len(stored),) or not np.issubdtype(truth.dtype, np.integer):
            raise SmoothingInputError(f"{path}: `{known}` has not one whole number for each input")
        truth = truth.astype(np.int64)
    return Inputs(path, hashlib.sha256(content).hexdigest(), name, stored, truth)


def _named(
    path: Path, arrays: dict[str, NDArray[Any]], asked: str | None, usual: str, option: str
) -> str:
    if asked is None and len(arrays) == 1:
        return next(iter(arrays))
    name = asked or usual
    if name not in arrays:
        have = ", ".join(sorted(arrays)) or "one array without a name"
        raise SmoothingInputError(f"{path} has no array `{name}` but {have}; name it by {option}")
    return name
