"""Coefficients that float32 cannot hold are not rounded to it: bounds are about the file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from absolver.analyzer.report import Verdict
from absolver.analyzer.verify import verify

ONE = {"s": 1.0, "b": 0.0, "m": 0.0, "v": 3.0}
CASES = {
    "a constant base": ([helper.make_node("Pow", ["c", "x"], ["y"])], {"c": [[3.0]]}),
    "a constant in double": (
        [
            helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE),
            helper.make_node("Add", ["wide", "c"], ["y"]),
        ],
        {"c": np.array([[0.7]])},
    ),
    "batch normalisation": (
        [helper.make_node("BatchNormalization", ["x", *ONE], ["y"], epsilon=0.0)],
        {name: [value] for name, value in ONE.items()},
    ),
    "a scaled bias": (
        [helper.make_node("Gemm", ["x", "w", "c"], ["y"], beta=0.1)],
        {"w": [[1.0]], "c": [[0.3]]},
    ),
}


def write(path: Path, nodes: Sequence[NodeProto], constants: dict[str, Any]) -> Path:
    tensors = [
        numpy_helper.from_array(
            value if isinstance(value, np.ndarray) else np.array(value, np.float32), name
        )
        for name, value in constants.items()
    ]
    element = TensorProto.DOUBLE if nodes[0].op_type == "Cast" else TensorProto.FLOAT
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])
    y = helper.make_tensor_value_info("y", element, [1, 1])
    graph = helper.make_graph(nodes, "exact", [x], [y], tensors)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


# Each condition holds of the real function at the point, and misses it in float32 coefficients.
@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.parametrize(
    ("case", "point", "unsafe"),
    [
        ("a constant base", "20", "(<= Y_0 3486784402)"),  # 3^20 = 3486784401
        ("a constant in double", "1", "(>= Y_0 1.69999999)"),
        ("batch normalisation", "3", "(>= Y_0 1.73205080756)"),  # sqrt(3) = 1.732050807568877…
        ("a scaled bias", "0", "(>= Y_0 0.030000001639127)"),
    ],
)
def test_no_constant_is_rounded_to_float32(
    case: str, point: str, unsafe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = write(tmp_path / "exact.onnx", *CASES[case])
    query = tmp_path / "exact.vnnlib"
    query.write_text(
        "(declare-const X_0 Real)(declare-const Y_0 Real)"
        f"(assert (>= X_0 {point}))(assert (<= X_0 {point}))(assert {unsafe})"
    )
    monkeypatch.setattr("absolver.analyzer.verify.search", lambda *_, **__: None)
    assert verify(network, query).verdict is not Verdict.VERIFIED
