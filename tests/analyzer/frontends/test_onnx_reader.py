"""What the reader of ONNX keeps of a file, and what it refuses."""

import gzip
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from absolver.analyzer.errors import EXIT_DATA, EXIT_NO_INPUT
from absolver.analyzer.frontends.agreement import check_against_onnxruntime
from absolver.analyzer.frontends.errors import (
    DisagreementError,
    ElementTypeError,
    ExternalDataError,
    MissingNetworkError,
    NonFiniteWeightError,
    UnknownOperatorError,
    UnreadableNetworkError,
    UnsupportedFormError,
)
from absolver.analyzer.frontends.onnx import LoadedNetwork, load_onnx
from absolver.analyzer.graph.graph import Affine, Nonlinear
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.graph.linear.scaling import Scaling
from tests.analyzer.frontends.models import loaded, model

node = helper.make_node
WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def dense_model(weight: np.ndarray = WEIGHT) -> onnx.ModelProto:
    return model(
        [node("MatMul", ["x", "w"], ["h"], name="first"), node("Relu", ["h"], ["y"])],
        {"x": (1, 2)},
        ["y"],
        {"w": weight},
    )


def test_nodes_keep_the_names_of_the_files_tensors() -> None:
    graph = loaded(dense_model()).graph
    assert [n.name for n in graph.nodes] == ["x", "h", "y"]
    assert [n.origin for n in graph.nodes] == ["input 'x'", "MatMul 'first'", "Relu 'y'"]


def test_batch_normalisation_stays_a_node_of_its_own() -> None:
    parameters = {name: np.ones(2, np.float32) for name in "sbmv"}
    proto = model(
        [
            node("Conv", ["x", "w"], ["c"]),
            node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"]),
        ],
        {"x": (1, 1, 3, 3)},
        ["y"],
        {"w": np.ones((2, 1, 2, 2), np.float32), **parameters},
    )
    last = loaded(proto).graph.output
    assert isinstance(last, Affine)
    assert isinstance(last.maps[0], Scaling)


def test_several_inputs_and_outputs_are_joined_flat_in_the_files_order() -> None:
    proto = model(
        [node("Add", ["a", "b"], ["s"]), node("Transpose", ["a"], ["t"])],
        {"a": (2, 3), "b": (3,)},
        ["t", "s"],
    )
    network = loaded(proto)
    assert network.graph.input.shape == (9,)
    assert network.graph.output.shape == (12,)
    assert [spec.name for spec in network.graph.outputs] == ["t", "s"]
    a, b = torch.randn(2, 3), torch.randn(3)
    expected = torch.cat([a.T.flatten(), (a + b).flatten()])
    torch.testing.assert_close(network.graph(torch.cat([a.flatten(), b])[None])[0], expected)
    check_against_onnxruntime(network)


def test_one_output_read_twice_is_joined_too() -> None:
    network = loaded(model([node("Relu", ["x"], ["y"])], {"x": (2,)}, ["y", "y"]))
    assert network.graph(torch.tensor([[1.0, -1.0]])).tolist() == [[1, 0, 1, 0]]


def test_what_the_output_does_not_depend_on_is_dropped() -> None:
    proto = model([node("Exp", ["x"], ["unused"]), node("Relu", ["x"], ["y"])], {"x": (2,)}, ["y"])
    assert [n.name for n in loaded(proto).graph.nodes] == ["x", "y"]


def test_an_output_that_is_the_input_is_an_identity() -> None:
    network = loaded(model([node("Identity", ["x"], ["y"])], {"x": (2,)}, ["y"]))
    assert [n.name for n in network.graph.nodes] == ["x", "y"]
    check_against_onnxruntime(network)


def test_a_constant_output_does_not_depend_on_the_input() -> None:
    proto = model([node("Relu", ["w"], ["y"])], {"x": (2,)}, ["y"], {"w": WEIGHT})
    network = loaded(proto)
    assert network.graph.output.shape == (2, 3)
    check_against_onnxruntime(network)


def test_a_tensor_with_two_names_has_two_nodes() -> None:
    proto = model([node("Relu", ["x"], ["a"]), node("Dropout", ["a"], ["b"])], {"x": (2,)}, ["b"])
    assert [n.name for n in loaded(proto).graph.nodes] == ["x", "a", "b"]


def test_dynamic_axes_have_size_1() -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": ("batch", 3)}, ["y"])
    assert loaded(proto).graph.input.shape == (1, 3)


def test_shape_arithmetic_is_folded() -> None:
    proto = model(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["n"]),
            node("Concat", ["n", "rest"], ["t"], axis=0),
            node("Reshape", ["x", "t"], ["y"]),
        ],
        {"x": (2, 3, 4)},
        ["y"],
        {"zero": np.asarray([0]), "rest": np.asarray([-1])},
    )
    graph = loaded(proto).graph
    assert [n.name for n in graph.nodes] == ["x", "y"]
    assert graph.output.shape == (2, 12)


def test_initializers_listed_as_inputs_are_weights() -> None:
    proto = dense_model()
    proto.ir_version = 3
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, (2, 3)))
    network = loaded(proto)
    assert [spec.name for spec in network.graph.inputs] == ["x"]
    check_against_onnxruntime(network)


def test_nodes_out_of_order_are_read_in_order() -> None:
    proto = dense_model()
    first, second = proto.graph.node
    swapped = model([second, first], {"x": (1, 2)}, ["y"], {"w": WEIGHT})
    check_against_onnxruntime(
        LoadedNetwork(Path("t"), loaded(swapped).graph, proto.SerializeToString())
    )


def test_a_double_network_keeps_its_precision() -> None:
    proto = model(
        [node("MatMul", ["x", "w"], ["y"])],
        {"x": (1, 2)},
        ["y"],
        {"w": WEIGHT.astype(np.float64) / 3},
        element=TensorProto.DOUBLE,
    )
    network = loaded(proto)
    (linear,) = network.graph.output.maps
    assert isinstance(linear, Dense)
    assert linear.weight.dtype == torch.float64
    check_against_onnxruntime(network)


def test_a_weight_used_twice_is_stored_once() -> None:
    proto = model(
        [node("MatMul", ["x", "w"], ["h"]), node("MatMul", ["h", "w"], ["y"])],
        {"x": (1, 2)},
        ["y"],
        {"w": np.eye(2, dtype=np.float32)},
    )
    first, second = (n for n in loaded(proto).graph.nodes if isinstance(n, Affine))
    assert first.maps[0].weight.data_ptr() == second.maps[0].weight.data_ptr()


def test_gzipped_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx.gz"
    path.write_bytes(gzip.compress(dense_model().SerializeToString()))
    check_against_onnxruntime(load_onnx(path))


def test_external_weights_are_read(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(dense_model(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    check_against_onnxruntime(load_onnx(path))
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ExternalDataError, match="the weights 'w' are kept in another file"):
        load_onnx(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingNetworkError, match=r"absent\.onnx: there is no such file") as error:
        load_onnx(tmp_path / "absent.onnx")
    assert error.value.exit_code == EXIT_NO_INPUT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no ONNX model"),
        (b"hello", "no ONNX model"),
        (gzip.compress(bytes(range(256)), mtime=0)[:100], "gzip data is damaged"),
        (gzip.compress(b"hello", mtime=0), "no ONNX model"),
    ],
)
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(UnreadableNetworkError, match=message) as error:
        load_onnx(path)
    assert error.value.exit_code == EXIT_DATA


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(dense_model().SerializeToString()[:-20])
    with pytest.raises(UnreadableNetworkError, match=r"net\.onnx"):
        load_onnx(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableNetworkError, match="cannot be read: Is a directory"):
        load_onnx(tmp_path)


def test_an_unknown_operator_is_named_with_what_is_supported() -> None:
    proto = model([node("Det", ["x"], ["y"], name="d1")], {"x": (2, 2)}, ["y"])
    with pytest.raises(UnknownOperatorError, match=r"Det 'd1': .*Det is not supported; .*Conv, "):
        loaded(proto)


def test_an_operator_of_another_domain_is_unknown() -> None:
    proto = model([node("Relu", ["x"], ["y"], domain="com.acme")], {"x": (2, 2)}, ["y"])
    with pytest.raises(UnknownOperatorError, match=r"operator com\.acme\.Relu is not supported"):
        loaded(proto)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_counted(wrong: float) -> None:
    weight = WEIGHT.copy()
    weight[0, 1:] = wrong
    with pytest.raises(NonFiniteWeightError, match="MatMul 'first': 2 of the 6 numbers of 'w'"):
        loaded(dense_model(weight))


def test_an_element_type_that_is_not_covered_is_named() -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": (2,)}, ["y"], element=TensorProto.FLOAT16)
    with pytest.raises(ElementTypeError, match="input 'x' has element type float16"):
        loaded(proto)


def test_a_form_that_is_not_covered_names_its_node_and_operands() -> None:
    proto = model(
        [node("Conv", ["x", "k"], ["y"], name="c")], {"x": (1, 1, 3, 3), "k": (1, 1, 2, 2)}, ["y"]
    )
    message = r"Conv 'c': operand 1 depends on the input; .*'k' variable \[1, 1, 2, 2\]"
    with pytest.raises(UnsupportedFormError, match=message):
        loaded(proto)


def test_a_node_that_nothing_feeds_is_named() -> None:
    proto = model([node("Add", ["x", "gone"], ["y"])], {"x": (2,)}, ["y"])
    with pytest.raises(
        UnreadableNetworkError, match="Add 'y': nothing computes its operand 'gone'"
    ):
        loaded(proto)


def test_a_disagreement_names_the_first_node_that_differs() -> None:
    right = dense_model()
    other = loaded(dense_model(WEIGHT + 1)).graph
    network = LoadedNetwork(Path("net.onnx"), other, right.SerializeToString())
    with pytest.raises(
        DisagreementError, match="first tensor that differs is 'h' of MatMul 'first'"
    ):
        check_against_onnxruntime(network)


@pytest.mark.regression
def test_rounding_across_a_jump_is_no_disagreement_where_other_points_agree() -> None:
    def network(offset: float) -> onnx.ModelProto:
        constants = {"c": np.asarray(offset, np.float32)}
        nodes = [node("Sub", ["x", "c"], ["d"]), node("Sign", ["d"], ["y"])]
        return model(nodes, {"x": (1,)}, ["y"], constants)

    graph = loaded(network(0.5 + 2**-24)).graph
    other = LoadedNetwork(Path("t"), graph, network(0.5).SerializeToString())
    on_the_jump, beside = [[0.5]], [[0.25]]
    check_against_onnxruntime(other, np.asarray(on_the_jump + beside))
    with pytest.raises(DisagreementError):
        check_against_onnxruntime(other, np.asarray(on_the_jump))


def test_trailing_operators_of_a_lowering_are_nonlinear_nodes_with_its_origin() -> None:
    graph = loaded(model([node("Softmax", ["x"], ["y"], name="s")], {"x": (2, 3)}, ["y"])).graph
    assert {n.origin for n in graph.nodes[1:]} == {"Softmax 's'"}
    names = [n.operator.name for n in graph.nodes if isinstance(n, Nonlinear)]
    assert names == ["exp", "reciprocal"]


def test_the_runtime_takes_flat_points_of_several_inputs() -> None:
    proto = model([node("Sub", ["a", "b"], ["y"])], {"a": (2,), "b": (2,)}, ["y"])
    points = np.asarray([[1, 2, 3, 5], [0, 0, 1, 1]], dtype=np.float32)
    assert loaded(proto).runtime.run(points).tolist() == [[-2, -3], [-1, -1]]


def test_a_model_that_the_runtime_refuses_is_an_error_of_the_file() -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": (2,)}, ["y"])
    proto.graph.node[0].op_type = "Nothing"
    network = LoadedNetwork(Path("t"), loaded(dense_model()).graph, proto.SerializeToString())
    with pytest.raises(UnreadableNetworkError, match="onnxruntime refuses the network"):
        _ = network.runtime


def test_initializers_are_exact() -> None:
    weight = np.asarray([[2.0**-149, 1 / 3]], dtype=np.float32)
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": (1, 1)}, ["y"], {"w": weight})
    (linear,) = loaded(proto).graph.output.maps
    assert (linear.weight.numpy().T == weight).all()
    assert numpy_helper.to_array(proto.graph.initializer[0]).dtype == np.float32
