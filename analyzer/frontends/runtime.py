"""The original network in onnxruntime: what the analysis is about, and what replays a witness."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from absolver.analyzer.frontends.errors import UnreadableNetworkError

_ELEMENTS: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


class AbstractRuntime(ABC):
    """What runs a function of flat points as it is executed."""

    output_names: tuple[str, ...]
    """The names of the output tensors, each once."""

    @property
    @abstractmethod
    def input_size(self) -> int:
        """How many numbers one point has."""

    @abstractmethod
    def tensors(self, point: NDArray[np.floating]) -> list[NDArray[np.generic]]:
        """Map one flat point to the output tensors."""

    def run(self, flat: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map points `[batch, inputs]` to outputs `[batch, outputs]`, flat and joined.

        The result is float64, in which every output of type float32 or int32 is exact.
        """
        rows = [
            np.concatenate([v.astype(np.float64).ravel() for v in self.tensors(point)])
            for point in flat
        ]
        return np.stack(rows)


def plain_session(model: bytes) -> onnxruntime.InferenceSession:
    """Start a session on the CPU, one thread and no optimisation, which rounds as it is written.

    Raises `UnreadableNetworkError` where onnxruntime refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # warnings about the model are no news to its user
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime raises classes of its extension module that have no common base.
        reason = str(error).splitlines()[0]
        raise UnreadableNetworkError(f"onnxruntime refuses the network: {reason}") from error


class Runtime(AbstractRuntime):
    """An ONNX model on onnxruntime's CPU, one thread, no optimisation; tensors are flat.

    Several inputs (outputs) are joined flat in the file's order, dynamic axes have size 1. Points
    are evaluated one by one: a batch could choose other kernels, whose rounding differs.
    """

    def __init__(self, model: bytes) -> None:
        """Start a session for a serialised model."""
        self._session = plain_session(model)
        self._inputs = [
            (item.name, _static(item.shape), _ELEMENTS.get(item.type, np.float32))
            for item in self._session.get_inputs()
        ]
        self.output_names = tuple(item.name for item in self._session.get_outputs())

    @property
    def input_size(self) -> int:
        """How many numbers one point has."""
        return sum(prod(shape) for _, shape, _ in self._inputs)

    def tensors(
        self, point: NDArray[np.floating], names: Sequence[str] | None = None
    ) -> list[NDArray[np.generic]]:
        """Map one flat point to output tensors, all of them or those named."""
        feed: dict[str, NDArray[np.generic]] = {}
        start = 0
        for name, shape, element in self._inputs:
            stop = start + prod(shape)
            feed[name] = point[start:stop].reshape(shape).astype(element)
            start = stop
        wanted = list(self.output_names if names is None else names)
        return [np.asarray(value) for value in self._session.run(wanted, feed)]


class JoinedRuntime(AbstractRuntime):
    """Several runtimes side by side: a point is one of each, joined, and so are the results."""

    def __init__(self, parts: Sequence[tuple[str, AbstractRuntime]]) -> None:
        """Join runtimes, each with what is put before the names of its outputs."""
        self._parts = [runtime for _, runtime in parts]
        self.output_names = tuple(
            prefix + name for prefix, runtime in parts for name in runtime.output_names
        )

    @property
    def input_size(self) -> int:
        """How many numbers one point has."""
        return sum(part.input_size for part in self._parts)

    def tensors(self, point: NDArray[np.floating]) -> list[NDArray[np.generic]]:
        """Map one flat point to the output tensors of all parts."""
        results: list[NDArray[np.generic]] = []
        start = 0
        for part in self._parts:
            stop = start + part.input_size
            results += part.tensors(point[start:stop])
            start = stop
        return results


def _static(shape: Sequence[int | str | None]) -> tuple[int, ...]:
    return tuple(n if isinstance(n, int) and n > 0 else 1 for n in shape)
