"""Files with a loop: verified for every number of iterations, or falsified, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from absolver.analyzer.certifier import Wishes
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.executions import answer
from absolver.analyzer.frontends.errors import UnsupportedFormError
from absolver.analyzer.frontends.onnx_loop import has_loop, load_loop
from absolver.analyzer.report import Report, Verdict
from absolver.analyzer.session import Session
from tests.certificates.onnx_files import session
from tests.checking import audit_here
from tests.recurrent import write_loop, write_runs

STATE, INPUT = [[0.5, 0.75], [-0.5, 0.25]], [[1.0, -0.5]]
HALF, UNIT = [("-0.5", "0.5")] * 2, [("-1", "1")]


def asked(network: Path, unsafe: str) -> Report:
    query = write_runs(network.with_name("runs.vnnlib"), HALF, UNIT, unsafe, outputs=2)
    wishes = Wishes(checker=audit_here)
    return answer(network, query, wishes=wishes, session=Session(Deadline.after(60)))


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_loop(tmp_path / "loop.onnx", STATE, INPUT)


def test_a_loop_is_verified_for_every_number_of_iterations(network: Path) -> None:
    report = asked(network, "(or (>= Y_0 1.99) (<= Y_1 -1.9))")
    assert report.verdict is Verdict.VERIFIED and report.checked
    assert report.about == "every step of every run, h_next=start"


def test_a_violation_is_one_of_the_loop_itself(network: Path) -> None:
    report = asked(network, "(>= Y_0 1.5)")
    assert report.verdict is Verdict.FALSIFIED
    witness = report.counterexample
    assert witness is not None
    # The last step only reads the state.
    given = {"start": witness.inputs["start"], "x": witness.inputs["x"][:-1, 0]}
    (y,) = session(network.read_bytes()).run(["y"], given)
    assert y[0, 0] >= 1.5 - 1e-5


def test_the_step_is_told_from_other_networks(network: Path, examples_folder: Path) -> None:
    assert has_loop(network) and load_loop(network).pairs == ("h_next=start",)
    assert not has_loop(examples_folder / "avoidance.onnx")
    assert not has_loop(network.with_name("missing.onnx"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"length": 5}, "whose first axis has no fixed length"),
        ({"outputs": ("start",)}, "an output is"),
        ({"changes": [helper.make_node("MatMul", ["start", "A"], ["from_state"])]}, "reads start"),
    ],
)
def test_loops_that_one_iteration_does_not_show_are_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = write_loop(tmp_path / "loop.onnx", STATE, INPUT, **changes)
    with pytest.raises(UnsupportedFormError, match=reason):
        load_loop(path)


@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.parametrize("name", ["A", "i", "both"])
def test_a_name_of_the_body_does_not_hide_an_input(network: Path, name: str) -> None:
    model = onnx.load(network)
    model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]))
    onnx.save(model, network)
    with pytest.raises(UnsupportedFormError, match=f"have {name} both"):
        load_loop(network)


@pytest.mark.soundness
@pytest.mark.regression
def test_a_number_of_rank_1_keeps_the_axis_of_the_element(network: Path) -> None:
    # x[[i]] is [1, 1, 2]: the second axis has one element, where that of x[i] has two.
    mean = [helper.make_node("ReduceMean", ["x_i", "axes"], ["from_input"], keepdims=0)]
    model = onnx.load(write_loop(network, STATE, np.eye(2), changes=mean))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
    number = model.graph.node[2].attribute[0].g.input[0].type.tensor_type
    number.shape.dim.add().dim_value = 1
    onnx.save(model, network)
    start, u = np.array([[0.25, -0.5]], np.float32), np.array([[[1.0, -1.0]]], np.float32)
    (expected,) = session(network.read_bytes()).run(["y"], {"start": start, "x": u})
    _, h = load_loop(network).runtime.tensors(np.concatenate([start, u], axis=None))
    assert np.allclose(2 * h, expected, atol=1e-6)
    number.ClearField("shape")
    onnx.save(model, network)
    with pytest.raises(UnsupportedFormError, match="declare the shape"):
        load_loop(network)


def test_the_step_computes_what_the_loop_does(network: Path) -> None:
    generator = np.random.default_rng(0)
    start = generator.uniform(-1, 1, (1, 2)).astype(np.float32)
    x = generator.uniform(-1, 1, (6, 1, 1)).astype(np.float32)
    (expected,) = session(network.read_bytes()).run(["y"], {"start": start, "x": x})
    step, h = load_loop(network).runtime, start
    for u in x:
        _, h = step.tensors(np.concatenate([h, u], axis=None))
    y, _ = step.tensors(np.concatenate([h, x[0]], axis=None))
    assert np.allclose(y, expected, atol=1e-6)
