"""Queries that leave out what most have."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from absolver.analyzer.report import Verdict
from absolver.analyzer.verify import verify

Write = Callable[..., Path]


@pytest.mark.regression
def test_a_property_about_inputs_alone_is_answered(
    write_network: Write, write_property: Write
) -> None:
    network = write_network(([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
    query = write_property([("0", "2")], "(>= X_0 1)")
    assert verify(network, query).verdict is Verdict.FALSIFIED


@pytest.mark.regression
def test_coefficients_need_to_be_numbers_of_the_analysis_only(
    write_network: Write, write_property: Write
) -> None:
    # Their common multiple, 1234567891 and 3000000000, is exact in float64 and not in float32.
    network = write_network(([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]))
    query = write_property([("0", "1")], "(>= (+ (* 0.1234567891 Y_0) (* 0.3 Y_1)) 0.5)", 2)
    assert verify(network, query).verdict is Verdict.VERIFIED


@pytest.mark.regression
def test_tensors_without_axes_are_bounded(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Relu", ["sum"], ["relu"]),
        helper.make_node("Add", ["relu", "sum"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "scalar", [x], [y])
    path = tmp_path / "scalar.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    report = verify(path)
    assert report.verdict is Verdict.BOUNDS
    assert [(round(b.lower, 6), round(b.upper, 6)) for b in report.bounds] == [(0.0, 4.0)]
