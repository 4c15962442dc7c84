"""The checker's reader of ONNX files: the form of what is read, and real networks."""

import csv
import gzip
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from absolver.certificates.network import (
    Affine,
    Move,
    Operator,
    Product,
    Scale,
    Unsupported,
)
from absolver.certificates.onnx_reader import read_network
from tests.certificates.onnx_files import (
    agree,
    disagreement,
    nodes_of,
    one,
    weights,
    written,
)

IMAGE = (1, 4, 6, 5)


def test_several_inputs_and_outputs_are_joined_in_order() -> None:
    nodes = [
        helper.make_node("Split", ["z", "s"], ["a", "b"], axis=0),
        helper.make_node("Add", ["x", "a"], ["c"]),
    ]
    model = onnx.load_model_from_string(written(nodes, {"x": (2,), "z": (5,)}, {"s": [2, 3]}))
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "cbx"
    )
    network = agree(model.SerializeToString())
    assert [item.name for item in network.outputs] == ["c", "b", "x"]


def test_a_broadcast_is_pure_movement_before_an_operator() -> None:
    left, right, product = nodes_of(read_network(one("Mul", [(2, 1), (1, 3)])))
    for node in (left, right):
        assert isinstance(node, Affine) and node.bias is None and node.roundings == 0
        assert [type(linear) for _, linear in node.terms] == [Move]
    assert isinstance(product, Operator) and (product.function, product.name) == ("mul", "y#0")


def test_a_layer_is_one_sum_of_products_with_its_bias() -> None:
    weight = weights(3, 5)
    weight[:2] = 0
    (layer,) = nodes_of(read_network(one("Gemm", [(1, 3)], weight, weights(5))))
    assert isinstance(layer, Affine) and layer.roundings == 2 and layer.bias is not None
    assert (layer.bias == weights(5)).all()
    ((operand, linear),) = layer.terms
    assert operand == 0 and isinstance(linear, Product) and (linear.weight[0] == weight).all()


def test_a_convolution_is_no_movement_of_data() -> None:
    patches, products, result = nodes_of(read_network(one("Conv", [IMAGE], weights(6, 4, 3, 2))))
    assert isinstance(products, Affine) and products.roundings == 24
    assert isinstance(patches, Affine) and patches.bias is None
    assert isinstance(result, Affine) and result.bias is not None and not result.bias.any()
    assert result.roundings == 0


def test_concatenation_is_one_node_of_a_movement_for_each_operand() -> None:
    network = read_network(one("Concat", [(2, 1), (2, 3)], weights(2, 2), axis=1))
    node = network.nodes[network.output]
    assert isinstance(node, Affine) and node.bias is not None and node.roundings == 0
    moves = [linear for _, linear in node.terms]
    assert all(isinstance(linear, Move) for linear in moves)
    assert [linear.index.tolist() for linear in moves if isinstance(linear, Move)] == [
        [0, -1, -1, -1, -1, -1, 1, -1, -1, -1, -1, -1],
        [-1, 2, 3, 4, -1, -1, -1, 5, 6, 7, -1, -1],
    ]


def test_data_that_stays_in_place_makes_no_node() -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["a"]),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("Dropout", ["b"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    network = read_network(written(nodes, {"x": (1, 2, 3)}, {}))
    (relu,) = nodes_of(network)
    assert isinstance(relu, Operator) and relu.operands == (0,) and relu.name == "y#0"


def test_operators_are_counted_within_their_node_and_unneeded_nodes_are_left_out() -> None:
    nodes = [
        helper.make_node("Loop", ["x"], ["unneeded"]),
        helper.make_node("Div", ["x", "z"], ["y"], "quotient"),
    ]
    network = read_network(written(nodes, {"x": (2,), "z": (2,)}, {}))
    operators = [node for node in nodes_of(network) if isinstance(node, Operator)]
    assert [(node.name, node.function, node.executed) for node in operators] == [
        ("y#0", "reciprocal", "exact"),
        ("y#1", "mul", "division"),
    ]


def test_products_of_variables_are_rounded_in_their_sum() -> None:
    network = read_network(one("MatMul", [(2, 3), (3, 4)]))
    total, products = network.nodes[network.output], network.nodes[-2]
    assert isinstance(total, Affine) and total.roundings == 3
    assert isinstance(products, Operator) and products.executed == "matmul"


@given(
    st.lists(
        st.tuples(*(st.floats(-1e3, 1e3, width=32) for _ in range(3)), st.floats(0, 1e3, width=32)),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([1e-5, 1e-3, 1.0]),
)
@pytest.mark.soundness
def test_batch_normalization_encloses_its_exact_map(
    channels: list[tuple[float, float, float, float]], epsilon: float
) -> None:
    arrays = [np.array(values, np.float32) for values in zip(*channels, strict=True)]
    data = one("BatchNormalization", [(1, len(channels))], *arrays, epsilon=epsilon)
    first, second = nodes_of(read_network(data))
    assert isinstance(first, Affine) and isinstance(second, Affine)
    assert first.bias is not None and first.bias_error is not None and second.bias is not None
    scaling = first.terms[0][1]
    assert isinstance(scaling, Scale)
    rounded = Fraction(float(np.float32(epsilon)))
    for i, (scale, bias, mean, variance) in enumerate(channels):
        # The square of the factor is exact, and a small interval around a root holds the factor.
        ratio = Fraction(scale) ** 2 / (Fraction(variance) + rounded)
        grid = 2**400
        root = math.isqrt(ratio.numerator * grid**2 // ratio.denominator)
        low, high = Fraction(root, grid), Fraction(root + 1, grid)
        if scale < 0:
            low, high = -high, -low
        centre = Fraction(scaling.numerator[i]) / Fraction(scaling.denominator[i])
        error = Fraction(scaling.error[i])
        assert centre - error <= low and high <= centre + error
        shift, allowed = Fraction(first.bias[i]), Fraction(first.bias_error[i])
        assert abs(shift + low * Fraction(mean)) <= allowed
        assert abs(shift + high * Fraction(mean)) <= allowed
        assert second.bias[i] == bias


@pytest.mark.soundness
def test_numbers_of_binary64_are_exact_and_outside_of_the_semantics_of_executions() -> None:
    weight = np.array([[1 / 3], [2 / 3]])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    data = written([node], {"x": (1, 2)}, {"w": weight}, kind=TensorProto.DOUBLE)
    network = read_network(data)
    (product,) = nodes_of(network)
    assert isinstance(product, Affine) and isinstance(product.terms[0][1], Product)
    assert (product.terms[0][1].weight == weight).all()
    assert not network.executions and network.inputs[0].dtype == "float64"


@pytest.mark.soundness
def test_constants_whose_value_depends_on_the_execution_are_outside_of_its_semantics() -> None:
    nodes = [
        helper.make_node("MatMul", ["a", "a"], ["b"]),
        helper.make_node("Mul", ["a", "a"], ["c"]),
        helper.make_node("Add", ["x", "b"], ["y"]),
        helper.make_node("Add", ["x", "c"], ["z"]),
    ]
    data = written(nodes, {"x": (3, 3)}, {"a": weights(3, 3)})
    assert not read_network(data).executions
    other = onnx.load_model_from_string(data)
    other.graph.output[0].name = "z"
    assert read_network(other.SerializeToString()).executions


# Real networks

UNREADABLE = {
    "carvana_unet_2022/onnx/unet_simp_small.onnx": "Cast 'Cast_29': no rule for a cast to int32",
    "cctsdb_yolo/onnx/patch-1.onnx": "Cast 'Cast_9': no rule for a cast to int64",
    "onnx_ops/layer-zoo__constant.onnx": "the outputs do not depend on the inputs",
    "onnx_ops/layer-zoo__dropout_training_mode_true.onnx": "Dropout 'y': no rule for training",
}
# An execution cancels all of its outputs: that is what the network is for.
CANCELLING = {"violations/absorb.onnx", "violations/hidden.onnx"}


def test_the_networks_of_the_benchmarks_are_read_as_onnxruntime_computes_them(
    bench_folder: Path,
) -> None:
    with (bench_folder / "instances.csv").open() as file:
        names = {row["onnx"] for row in csv.DictReader(file)}
    for folder in ("nets", "onnx_ops", "violations"):
        names |= {f"{folder}/{path.name}" for path in (bench_folder / folder).glob("*.onnx*")}
    wrong, refused, read = {}, {}, 0
    with np.errstate(over="ignore"):
        for name in sorted(names):
            data = (bench_folder / name).read_bytes()
            data = gzip.decompress(data) if name.endswith(".gz") else data
            try:
                network = read_network(data)
            except Unsupported as error:
                refused[name] = str(error)
                continue
            distance = disagreement(data, network, positive=False)
            read += 1
            if not distance < 1e-4 and name not in CANCELLING:
                wrong[name] = distance
    assert not wrong and refused == UNREADABLE and read > 100
