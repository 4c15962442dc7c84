"""Lowerings of truth values, integers and choices agree with onnxruntime when they are chained."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from absolver.analyzer.frontends.agreement import check_against_onnxruntime
from tests.analyzer.frontends.models import loaded, model

node = helper.make_node
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL

ONE_HOT = [
    node("ArgMax", ["x"], ["i"], axis=1, keepdims=0),
    node("OneHot", ["i", "depth", "values"], ["h"], axis=1),
    node("ReduceSum", ["h"], ["y"], keepdims=0),
    node("Add", ["h", "y"], ["z"]),
]
CHOICE = [
    node("Greater", ["x", "c"], ["p"]),
    node("Less", ["x", "d"], ["q"]),
    node("And", ["p", "q"], ["both"]),
    node("Or", ["p", "q"], ["either"]),
    node("Not", ["both"], ["not"]),
    node("And", ["not", "either"], ["one"]),
    node("Where", ["one", "x", "c"], ["z"]),
]
INTEGERS = [
    node("Mul", ["x", "three"], ["m"]),
    node("Cast", ["m"], ["i"], to=INT64),
    node("Cast", ["c"], ["j"], to=INT64),
    node("Equal", ["i", "j"], ["e"]),
    node("Cast", ["e"], ["f"], to=FLOAT),
    node("Cast", ["i"], ["g"], to=FLOAT),
    node("Sub", ["f", "g"], ["z"]),
]
SCATTER = [
    node("Shape", ["x"], ["s"]),
    node("ConstantOfShape", ["s"], ["zeros"]),
    node("ScatterND", ["zeros", "places", "x"], ["z"]),
]
ATTENTION = [
    node("Transpose", ["x"], ["t"], perm=[1, 0]),
    node("MatMul", ["x", "t"], ["scores"]),
    node("Softmax", ["scores"], ["weights"], axis=-1),
    node("MatMul", ["weights", "x"], ["z"]),
]


@pytest.mark.parametrize(
    "nodes", [ONE_HOT, CHOICE, INTEGERS, SCATTER, ATTENTION], ids=lambda n: n[-1].op_type
)
def test_a_chain_agrees_with_onnxruntime(nodes: Sequence[onnx.NodeProto]) -> None:
    constants = {
        "c": np.asarray([[0.3, -0.5, 0.1, 1.4]], np.float32),
        "d": np.asarray([[0.6], [-0.2], [0.0]], np.float32),
        "three": np.asarray(3, np.float32),
        "depth": np.asarray([4]),
        "values": np.asarray([-1, 2], np.float32),
        "places": np.asarray([[2], [0], [1]]),
    }
    network = loaded(model(nodes, {"x": (3, 4)}, ["z"], constants))
    points = np.random.default_rng(5).uniform(-1, 1, (8, 12))
    check_against_onnxruntime(network, points)
