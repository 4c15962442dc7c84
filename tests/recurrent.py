"""Small recurrent networks: a step `h_next = f(h A + x B + c)`, and properties of its runs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

Ends = Sequence[tuple[object, object]]
PAIR = "h_next=h"


def write_step(
    path: Path,
    state: ArrayLike,
    inputs: ArrayLike,
    *,
    bias: ArrayLike = 0.0,
    function: str = "Identity",
    readout: ArrayLike | None = None,
) -> Path:
    """Write the step; with a readout C, the first output is `y = h_next C`."""
    matrices = [np.asarray(matrix, np.float32) for matrix in (state, inputs)]
    n, m = len(matrices[0]), len(matrices[1])
    stored = {"A": matrices[0], "B": matrices[1], "c": np.asarray(bias, np.float32).reshape(1, -1)}
    nodes = [
        helper.make_node("MatMul", ["h", "A"], ["from_state"]),
        helper.make_node("MatMul", ["x", "B"], ["from_input"]),
        helper.make_node("Add", ["from_state", "from_input"], ["both"]),
        helper.make_node("Add", ["both", "c"], ["before"]),
        helper.make_node(function, ["before"], ["h_next"]),
    ]
    outputs = {"h_next": n}
    if readout is not None:
        stored["C"] = np.asarray(readout, np.float32)
        nodes.append(helper.make_node("MatMul", ["h_next", "C"], ["y"]))
        outputs = {"y": stored["C"].shape[1], **outputs}
    graph = helper.make_graph(
        nodes,
        "step",
        [_tensor("h", n), _tensor("x", m)],
        [_tensor(name, size) for name, size in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    versions = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=8), path)
    return path


def write_runs(path: Path, states: Ends, inputs: Ends, unsafe: str, *, outputs: int) -> Path:
    """Write the property: bounds of the first states and of the other inputs, unsafe outputs."""
    bounds = [*states, *inputs]
    lines = [f"(declare-const X_{i} Real)" for i in range(len(bounds))]
    lines += [f"(declare-const Y_{i} Real)" for i in range(outputs)]
    for i, (low, high) in enumerate(bounds):
        lines += [f"(assert (>= X_{i} {low}))", f"(assert (<= X_{i} {high}))"]
    path.write_text("\n".join([*lines, f"(assert {unsafe})", ""]))
    return path


def _tensor(name: str, size: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])


def write_loop(
    path: Path,
    state: ArrayLike,
    inputs: ArrayLike,
    *,
    changes: Sequence[onnx.NodeProto] = (),
    length: int | str = "steps",
    outputs: Sequence[str] = ("y",),
) -> Path:
    """Write `y = 2 h` after a loop `h = tanh(h A + x[i] B)` over all of x `[steps, 1, m]`.

    `changes` are nodes of the body that take the place of those with the same first output.
    """
    matrices = {"A": np.asarray(state, np.float32), "B": np.asarray(inputs, np.float32)}
    n, m = len(matrices["A"]), len(matrices["B"])
    nodes = {
        "x_i": helper.make_node("Gather", ["x", "i"], ["x_i"], axis=0),
        "from_state": helper.make_node("MatMul", ["h", "A"], ["from_state"]),
        "from_input": helper.make_node("MatMul", ["x_i", "B"], ["from_input"]),
        "both": helper.make_node("Add", ["from_state", "from_input"], ["both"]),
        "h_next": helper.make_node("Tanh", ["both"], ["h_next"]),
        "go_on": helper.make_node("Identity", ["go"], ["go_on"]),
    }
    nodes |= {node.output[0]: node for node in changes}
    body = helper.make_graph(
        list(nodes.values()),
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            _tensor("h", n),
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), _tensor("h_next", n)],
        [numpy_helper.from_array(array, name) for name, array in matrices.items()],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "first"], ["count"]),
            helper.make_node("Loop", ["count", "", "start"], ["last"], body=body),
            helper.make_node("Add", ["last", "last"], ["y"]),
        ],
        "recurrent",
        [
            _tensor("start", n),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [length, 1, m]),
        ],
        [_tensor(name, n) for name in outputs],
        [numpy_helper.from_array(np.array(0), "first")],
    )
    versions = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=8), path)
    return path
