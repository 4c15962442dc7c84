"""Networks with a loop: the step that the checker sees in them, and what it must not see."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from absolver.certificates.loops import feedback
from absolver.certificates.network import Broken, Unsupported
from absolver.certificates.onnx_reader import read_network
from tests.certificates.evaluation import evaluate
from tests.certificates.onnx_files import session
from tests.recurrent import write_loop

STATE, INPUT = [[0.5, 0.75], [-0.5, 0.25]], [[1.0, -0.5]]


@pytest.mark.soundness
@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_a_run_of_n_steps_ends_where_n_iterations_do(tmp_path: Path, steps: int) -> None:
    data = write_loop(tmp_path / "loop.onnx", STATE, INPUT).read_bytes()
    network = read_network(data)
    assert network.states == ("h_next=start",)
    assert [tensor.name for tensor in network.outputs] == ["y", "h_next"]
    states = feedback(network, network.states)
    assert states == {0: 5, 1: 6}
    generator = np.random.default_rng(steps)
    start, x = generator.normal(size=(1, 2)), generator.normal(size=(steps, 1, 1))
    given = {"start": start.astype(np.float32), "x": x.astype(np.float32)}
    (expected,) = session(data).run(["y"], given)
    h = given["start"].ravel().astype(np.float64)
    for i in range(steps + 1):  # the last step only reads the state
        u = given["x"][i].ravel() if i < steps else np.zeros(1)
        outputs = np.asarray(evaluate(network, np.concatenate([h, u])), np.float64)
        h = outputs[2:]
    assert np.allclose(outputs[:2], expected.ravel(), atol=1e-5)


def changed(kind: str, *operands: str, output: str, **attributes: int) -> dict[str, Any]:
    return {"changes": [helper.make_node(kind, [*operands], [output], **attributes)]}


@pytest.mark.soundness
@pytest.mark.parametrize(
    "changes",
    [
        {"length": 5},  # every step would read the first element
        changed("Gather", "x", "i", output="x_i", axis=1),
        changed("Gather", "B", "i", output="from_input", axis=0),
        changed("MatMul", "start", "A", output="from_state"),
        changed("ReduceSum", "x", output="x_i", keepdims=0),
        changed("Add", "both", "x", output="h_next"),
        {"outputs": ("y", "start")},
        {"outputs": ("y", "x")},
    ],
)
def test_what_one_iteration_does_not_show_is_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    data = write_loop(tmp_path / "loop.onnx", STATE, INPUT, **changes).read_bytes()
    with pytest.raises((Unsupported, Broken)):
        read_network(data)


@pytest.mark.soundness
@pytest.mark.regression
def test_an_input_with_a_default_has_other_elements_in_later_iterations(tmp_path: Path) -> None:
    path = write_loop(tmp_path / "loop.onnx", STATE, INPUT)
    model = onnx.load(path)
    defaults = np.array([[[0.0]], [[100.0]]], np.float32)
    model.graph.initializer.append(numpy_helper.from_array(defaults, "x"))
    with pytest.raises(Unsupported, match="loop"):
        read_network(model.SerializeToString())


@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.parametrize("name", ["A", "i", "go"])
def test_a_name_of_the_body_does_not_hide_an_input(tmp_path: Path, name: str) -> None:
    path = write_loop(tmp_path / "loop.onnx", STATE, INPUT)
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]))
    model.graph.node[-1].CopyFrom(helper.make_node("Add", ["last", "A"], ["y"]))
    with pytest.raises(Unsupported, match="loop"):
        read_network(model.SerializeToString())


@pytest.mark.soundness
@pytest.mark.regression
def test_a_number_of_rank_1_keeps_the_axis_of_the_element(tmp_path: Path) -> None:
    # x[[i]] is [1, 1, 2]: the second axis has one element, where that of x[i] has two.
    mean = [helper.make_node("ReduceMean", ["x_i", "axes"], ["from_input"], keepdims=0)]
    model = onnx.load(write_loop(tmp_path / "loop.onnx", STATE, np.eye(2), changes=mean))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
    number = model.graph.node[2].attribute[0].g.input[0].type.tensor_type
    number.shape.dim.add().dim_value = 1
    data = model.SerializeToString()
    start, u = np.array([[0.25, -0.5]], np.float32), np.array([[[1.0, -1.0]]], np.float32)
    (expected,) = session(data).run(["y"], {"start": start, "x": u})
    network = read_network(data)
    outputs = np.asarray(evaluate(network, np.concatenate([start.ravel(), u.ravel()])), np.float64)
    assert np.allclose(2 * outputs[2:], expected.ravel(), atol=1e-6)
    number.ClearField("shape")
    with pytest.raises(Unsupported, match="loop"):
        read_network(model.SerializeToString())


@pytest.mark.soundness
def test_the_number_of_an_iteration_is_no_operand(tmp_path: Path) -> None:
    count = [
        helper.make_node("Cast", ["i"], ["i_float"], to=1),
        helper.make_node("Add", ["from_state", "i_float"], ["both"]),
    ]
    data = write_loop(tmp_path / "loop.onnx", STATE, INPUT, changes=count).read_bytes()
    with pytest.raises(Unsupported, match="loop"):
        read_network(data)
