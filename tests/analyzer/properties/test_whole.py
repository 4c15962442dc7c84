"""Inputs of integer types: nothing between whole numbers is a run of the network."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from absolver.analyzer.regions.errors import EmptyBoxError
from absolver.analyzer.report import Verdict
from absolver.analyzer.verify import verify


def question(folder: Path, element: int, low: str, high: str, unsafe: str) -> tuple[Path, Path]:
    """Write the network that casts a number to float, and a query about it."""
    x = helper.make_tensor_value_info("x", element, [1, 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    graph = helper.make_graph([node], "cast", [x], [y])
    network, query = folder / "cast.onnx", folder / "cast.vnnlib"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(network))
    query.write_text(
        "(declare-const X_0 Real)(declare-const Y_0 Real)"
        f"(assert (>= X_0 {low}))(assert (<= X_0 {high}))(assert {unsafe})"
    )
    return network, query


@pytest.mark.regression
@pytest.mark.parametrize("element", [TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL])
def test_networks_of_whole_numbers_are_answered(element: int, tmp_path: Path) -> None:
    falsified = question(tmp_path, element, "-0.5", "1.5", "(>= Y_0 1)")
    assert verify(*falsified).verdict is Verdict.FALSIFIED
    verified = question(tmp_path, element, "-0.5", "1.5", "(>= Y_0 1.1)")
    assert verify(*verified).verdict is Verdict.VERIFIED


@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.parametrize("element", [TensorProto.INT64, TensorProto.BOOL])
@pytest.mark.parametrize(("low", "high"), [("0.3", "0.7"), ("0.5", "0.5")])
def test_no_counterexample_lies_between_whole_numbers(
    element: int, low: str, high: str, tmp_path: Path
) -> None:
    with pytest.raises(EmptyBoxError, match="X_0 is of type"):
        verify(*question(tmp_path, element, low, high, "(<= Y_0 0.9)"))
