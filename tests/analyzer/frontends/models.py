"""Tiny ONNX models for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from absolver.analyzer.frontends.onnx import LoadedNetwork
from absolver.analyzer.frontends.onnx_graph import graph_of_model


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
    constants: Mapping[str, NDArray[np.generic]] | None = None,
    opset: int = 17,
    element: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Build a model; outputs get their types by inference."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(n, element, shape) for n, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def loaded(proto: onnx.ModelProto) -> LoadedNetwork:
    """Load a model from memory."""
    return LoadedNetwork(Path("test.onnx"), graph_of_model(proto), proto.SerializeToString())
