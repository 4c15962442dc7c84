"""ONNX files for the tests of the checker's reader, and what onnxruntime says of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from absolver.certificates.network import Affine, Network, Operator
from absolver.certificates.onnx_reader import read_network
from tests.certificates.evaluation import evaluate


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def written(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    constants: dict[str, Any],
    opset: int = 18,
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """The bytes of a network whose output is the tensor `y`."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    versions = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=versions, ir_version=8).SerializeToString()


def one(
    kind: str,
    shapes: Sequence[tuple[int, ...]],
    *constants: Any,
    opset: int = 18,
    **attributes: Any,
) -> bytes:
    """One node of variables x0, x1, ... and then constants; None is an operand left out."""
    variables = {f"x{i}": shape for i, shape in enumerate(shapes)}
    stored = {f"c{i}": value for i, value in enumerate(constants) if value is not None}
    names = [f"c{i}" if value is not None else "" for i, value in enumerate(constants)]
    node = helper.make_node(kind, [*variables, *names], ["y"], **attributes)
    return written([node], variables, stored, opset)


def session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def disagreement(data: bytes, network: Network, positive: bool) -> float:
    """How far float64 and onnxruntime are apart at some points, relative to the outputs' size."""
    runtime, worst = session(data), 0.0
    for i in range(3):
        points = {}
        for item in network.inputs:
            low = 0.1 if positive or i == 0 else -2.0
            point = np.random.default_rng(i).uniform(low, 1.5, item.shape)
            points[item.name] = point.astype(item.dtype)
        results = runtime.run(None, points)
        assert [result.shape for result in results] == [item.shape for item in network.outputs]
        assert [result.dtype.name for result in results] == [item.dtype for item in network.outputs]
        expected = np.concatenate([np.float64(result).ravel() for result in results])
        found = evaluate(network, np.concatenate([np.float64(p).ravel() for p in points.values()]))
        size = max(float(abs(expected).max(initial=0)), 1e-2)
        worst = max(worst, float(abs(found - expected).max(initial=0)) / size)
    return worst


def agree(data: bytes, positive: bool = False) -> Network:
    network = read_network(data)
    assert disagreement(data, network, positive) < 1e-4
    return network


def nodes_of(network: Network) -> list[Affine | Operator]:
    return [node for node in network.nodes if node is not None]
