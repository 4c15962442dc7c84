"""What is smoothed: a function from an input to a label, run on many inputs at a time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from absolver.analyzer.frontends.errors import UnreadableNetworkError
from absolver.analyzer.frontends.runtime import plain_session
from absolver.analyzer.smoothing.errors import MissingInputError

NOTHING = -1
"""The label of an output with a tie or a NaN, which counts for no class."""
Floats = NDArray[np.float32]
_TYPES: Mapping[str, type[np.generic]] = {"tensor(float)": np.float32, "tensor(double)": np.float64}


@runtime_checkable
class Classifier(Protocol):
    """Scores of classes for inputs that are stacked on the first axis."""

    shape: tuple[int, ...] | None
    """The shape of one input, None if anything may do."""

    def scores(self, inputs: Floats) -> NDArray[np.floating]:
        """Return scores `[inputs, classes]`."""


class OnnxClassifier:
    """An ONNX network on onnxruntime's CPU, one thread and no optimisation.

    A network whose file fixes the number of inputs gets as many at a time, and zeros in the place
    of those that are missing.
    """

    def __init__(self, path: Path) -> None:
        """Start a session; raises `UnreadableNetworkError` for a file without a classifier."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise MissingInputError(f"{path}: cannot be read: {error.strerror}") from None
        self._session = plain_session(content)
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _TYPES:
            raise UnreadableNetworkError(f"{path}: a classifier has one input of floats")
        (entry,) = inputs
        self._name, self._type = entry.name, _TYPES[entry.type]
        first, *rest = entry.shape
        self._size = first if isinstance(first, int) and first > 0 else None
        known = all(isinstance(n, int) for n in rest)
        self.shape: tuple[int, ...] | None = tuple(rest) if known else None

    def scores(self, inputs: Floats) -> NDArray[np.floating]:
        """Return scores `[inputs, classes]`."""
        size = self._size or len(inputs)
        parts = []
        for start in range(0, len(inputs), size):
            part = inputs[start : start + size].astype(self._type)
            missing = size - len(part)
            if missing:
                part = np.concatenate([part, np.zeros((missing, *part.shape[1:]), self._type)])
            (found,) = self._session.run(None, {self._name: part})[:1]
            parts.append(np.asarray(found).reshape(size, -1)[: size - missing])
        return np.concatenate(parts)


class TorchClassifier:
    """A torch module in its mode for evaluation, on the device where its parameters are."""

    shape: tuple[int, ...] | None = None

    def __init__(self, module: nn.Module) -> None:
        """Switch dropout and the like off: a classifier is a function."""
        self._module = module.eval()
        found = next(module.parameters(), None)
        self._like = torch.zeros(0) if found is None else found

    @torch.no_grad()
    def scores(self, inputs: Floats) -> NDArray[np.floating]:
        """Return scores `[inputs, classes]`."""
        batch = torch.from_numpy(inputs).to(self._like)
        return np.asarray(self._module(batch).flatten(1).cpu().double().numpy())


def labels(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """The class with the highest score, `NOTHING` where it is not alone or there is a NaN."""
    best = scores.max(axis=1, keepdims=True)
    clear = ((scores == best).sum(axis=1) == 1) & ~np.isnan(scores).any(axis=1)
    return np.where(clear, scores.argmax(axis=1), NOTHING).astype(np.int64)
