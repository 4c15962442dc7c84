"""The course of a training as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

_ACCURACIES: Mapping[str, str] = {
    "natural": "training, natural",
    "certified": "training, certified",
    "validation_natural": "validation, natural",
    "validation_certified": "validation, certified",
}


def draw(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw loss and accuracies over the epochs."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    left.plot(epochs, [row["loss"] for row in history])
    left.set_ylabel("loss")
    for key, label in _ACCURACIES.items():
        if key in history[-1]:
            right.plot(epochs, [row.get(key, float("nan")) for row in history], label=label)
    right.set_ylim(0, 1)
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("epoch")
    figure.savefig(path)
