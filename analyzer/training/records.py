"""What a training leaves in its folder: checkpoints, the chosen model, logs."""

import csv
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from absolver.analyzer.training.config import Config
from absolver.analyzer.training.datasets import Data
from absolver.analyzer.training.errors import TrainingError

CHECKPOINT, MODEL = "checkpoint.pt", "model.pt"


class Records:
    """The files of one run; each is replaced in one step, so that none is ever half written."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made when something is written."""
        self.folder = folder
        self.history: list[dict[str, float]] = []

    def add(self, row: dict[str, float], *, chosen: bool) -> None:
        """Log an epoch."""
        self.history.append({**row, "chosen": float(chosen)})
        names = list(dict.fromkeys(name for each in self.history for name in each))
        table = io.StringIO()
        writer = csv.DictWriter(table, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        self._write_text("log.csv", table.getvalue())
        self._write_text("log.jsonl", "".join(json.dumps(each) + "\n" for each in self.history))

    def best(self) -> Mapping[str, float]:
        """Return the row of the epoch that was chosen last, or nothing."""
        return next((row for row in reversed(self.history) if row["chosen"]), {})

    def save(self, state: Mapping[str, object]) -> None:
        """Write the checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / CHECKPOINT, lambda file: torch.save(state, file))

    def load(self) -> Any:  # noqa: ANN401 - whatever `save` was given
        """Read the checkpoint, or return None where there is none."""
        path = self.folder / CHECKPOINT
        return _load(path) if path.exists() else None

    def save_model(self, model: nn.Module, config: Config, data: Data) -> None:
        """Write the model that was chosen, and all that it takes to build it again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "state": {name: tensor.cpu() for name, tensor in model.state_dict().items()},
            "architecture": config.model,
            "shape": tuple(data.train.x.shape[1:]),
            "classes": data.train.classes,
            "config": config.text,
        }
        write_atomically(self.folder / MODEL, lambda file: torch.save(state, file))

    def _write_text(self, name: str, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / name, lambda file: file.write(text.encode()))


def load_model_record(folder: Path) -> Any:  # noqa: ANN401 - whatever `save_model` wrote
    """Read what `save_model` has written."""
    path = folder / MODEL
    if not path.exists():
        raise TrainingError(f"{path}: no model has been chosen there; run `absolver train` first")
    return _load(path)


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file beside its place, and put it there when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _load(path: Path) -> Any:  # noqa: ANN401 - tensors in records
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # What torch raises of a damaged file is of many kinds.
        raise TrainingError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
