"""Labelled images from one `.npz` file; the project ships no data."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.errors import EXIT_NO_INPUT
from absolver.analyzer.training.errors import TrainingError

_SPLIT_SEED = 20260103


class MissingDataError(TrainingError):
    """The file of the data is not there."""

    exit_code = EXIT_NO_INPUT


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images `[count, channels, height, width]`, or vectors, with numbers in [0, 1]; labels."""

    x: Float[Tensor, "count *shape"]
    y: Int[Tensor, " count"]

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.y)

    def part(self, index: Tensor | slice) -> "Labelled":
        """Return some of the points."""
        return Labelled(self.x[index], self.y[index])

    def to(self, device: str) -> "Labelled":
        """Return the points on a device."""
        return Labelled(self.x.to(device), self.y.to(device))

    @property
    def classes(self) -> int:
        """How many classes there are, labels being counted from 0."""
        return int(self.y.max()) + 1


@dataclass(frozen=True, eq=False)
class Data:
    """What a model is trained on, what it is chosen by, and what it is judged by."""

    train: Labelled
    validation: Labelled
    test: Labelled
    label: str
    """What to call the data beside a number."""


def load_data(path: Path, validation: int) -> Data:
    """Read `x_train`, `y_train`, `x_test`, `y_test`, and split off some for validation.

    Bytes are divided by 255. Images may be JPEGs, one after the other in `jpeg_train` from
    `offset_train` on; that they have lost something is part of the label. The split is the same in
    every run; the test set is never part of it.
    """
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file. Give the data with --data FILE.npz.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            parts = [_labelled(arrays, part) for part in ("train", "test")]
            lossy = "jpeg_train" in arrays
    except (ValueError, OSError, BadZipFile) as error:
        raise TrainingError(f"{path}: not an .npz file of arrays ({error})") from error
    except KeyError as error:
        raise TrainingError(
            f"{path}: {error.args[0]}. There must be x_train, y_train, x_test and y_test."
        ) from error
    whole, test = parts
    if not 0 < validation < len(whole):
        raise TrainingError(
            f"{validation} of {len(whole)} training points cannot be held back for validation"
        )
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    label = path.stem + (" (JPEG)" if lossy else "")
    return Data(whole.part(order[validation:]), whole.part(order[:validation]), test, label)


def _labelled(arrays: Mapping[str, NDArray[np.generic]], part: str) -> Labelled:
    if f"jpeg_{part}" in arrays:
        x = _decoded(arrays[f"jpeg_{part}"], arrays[f"offset_{part}"])
    else:
        x = np.asarray(arrays[f"x_{part}"])
    images = torch.from_numpy(x)
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    if images.dim() == 3:
        images = images.unsqueeze(1)
    elif images.dim() == 4 and images.shape[3] in (1, 3) and images.shape[1] > 3:
        images = images.permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(np.asarray(arrays[f"y_{part}"]).astype(np.int64)).flatten()
    if len(labels) != len(images):
        raise TrainingError(f"{len(images)} {part} images have {len(labels)} labels")
    return Labelled(images, labels)


def _decoded(data: NDArray[np.generic], offsets: NDArray[np.generic]) -> NDArray[np.generic]:
    try:
        from PIL import Image
    except ImportError:
        raise TrainingError(
            "images that are JPEGs need Pillow: pip install 'absolver[plot]'"
        ) from None
    ends = offsets.tolist()
    raw = data.tobytes()
    images = [
        np.asarray(Image.open(io.BytesIO(raw[start:stop])))
        for start, stop in zip(ends[:-1], ends[1:], strict=True)
    ]
    return np.stack(images).transpose(0, 3, 1, 2).copy()
