"""The reader of ONNX files."""

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import external_data_helper

from absolver.analyzer.frontends.errors import (
    ExternalDataError,
    MissingNetworkError,
    MissingTensorError,
    UnreadableNetworkError,
)
from absolver.analyzer.frontends.onnx_graph import graph_of_model
from absolver.analyzer.frontends.runtime import AbstractRuntime, Runtime
from absolver.analyzer.graph.graph import Graph


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network as a graph, with the file's own bytes for the runtime.

    Where hidden tensors were asked for, graph and bytes have them as outputs after the file's own.
    """

    path: Path
    graph: Graph
    model: bytes
    exposed: int = field(default=0, kw_only=True)
    """How many of the outputs are hidden tensors of the file."""

    @property
    def file(self) -> bytes:
        """The bytes of the file, which certificates name."""
        return self.model

    @cached_property
    def runtime(self) -> AbstractRuntime:
        """The original network in onnxruntime."""
        return Runtime(self.model)


def load_onnx(path: Path | str, hidden: Sequence[str] = ()) -> LoadedNetwork:
    """Read an ONNX file, gzipped or not, into a graph; `hidden` names tensors to have as outputs.

    Guarantee: on every input, the graph is the function of the file in real arithmetic, up to one
    rounding in float64 of factors that are computed (docs/lowering.md).
    `check_against_onnxruntime` tests it by points.
    """
    path = Path(path)
    content, model = load_model(path)
    exposed = _expose(path, model, hidden)
    if exposed:
        content = model.SerializeToString()
    return LoadedNetwork(path, graph_of_model(model), content, exposed=exposed)


def load_model(path: Path) -> tuple[bytes, onnx.ModelProto]:
    """Read a file and the weights that it names; the bytes are the file's own if it has all."""
    content = _read(path)
    model = _parse(path, content)
    if _load_external_data(path, model):
        content = model.SerializeToString()
    return content, model


def _expose(path: Path, model: onnx.ModelProto, hidden: Sequence[str]) -> int:
    """Make hidden tensors outputs, each once; return how many were none before."""
    computed = {name for node in model.graph.node for name in node.output if name}
    shown = {item.name for item in model.graph.output}
    new = [name for name in dict.fromkeys(hidden) if name not in shown]
    for name in new:
        if name not in computed:
            raise MissingTensorError(
                f"{path}: no node computes the hidden tensor '{name}' that the query declares"
            )
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    return len(new)


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except FileNotFoundError:
        raise MissingNetworkError(f"{path}: there is no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableNetworkError(
            f"{path}: the gzip data is damaged ({error}); fetch the file again"
        ) from None
    except OSError as error:
        raise UnreadableNetworkError(f"{path}: cannot be read: {error.strerror}") from None


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_from_string(content)
    except DecodeError:
        model = onnx.ModelProto()
    if not model.graph.node and not model.graph.output:
        raise UnreadableNetworkError(f"{path}: this is no ONNX model, or a damaged one")
    return model


def _load_external_data(path: Path, model: onnx.ModelProto) -> bool:
    """Bring weights that lie in files of their own into the model; say whether there were any."""
    external = [
        tensor
        for tensor in model.graph.initializer
        if external_data_helper.uses_external_data(tensor)
    ]
    for tensor in external:
        try:
            external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise ExternalDataError(
                f"{path}: the weights '{tensor.name}' are kept in another file that cannot be "
                f"read ({str(error).splitlines()[0]}); put it beside the network"
            ) from None
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return bool(external)
