"""The checker's reader of ONNX files: its function is the file's, what it cannot read it names."""

import csv
import gzip
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from absolver.certificates import onnx_graph
from absolver.certificates.network import (
    Affine,
    Broken,
    Move,
    Network,
    Operator,
    Product,
    Scale,
    Unsupported,
)
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


IMAGE = (1, 4, 6, 5)
OPERATORS: dict[str, Callable[[], bytes]] = {
    "convolution": lambda: one("Conv", [IMAGE], weights(6, 4, 3, 2), weights(6)),
    "strides, dilations, pads": lambda: one(
        "Conv", [IMAGE], weights(2, 4, 2, 3), strides=[2, 1], dilations=[3, 1], pads=[1, 2, 0, 1]
    ),
    "groups and a batch": lambda: one(
        "Conv", [(3, 4, 6, 5)], weights(6, 2, 3, 3), weights(6), group=2
    ),
    "a kernel of one": lambda: one("Conv", [IMAGE], weights(3, 4, 1, 1), weights(3)),
    "one axis": lambda: one("Conv", [(1, 2, 7)], weights(3, 2, 3)),
    "three axes": lambda: one("Conv", [(1, 2, 4, 5, 3)], weights(3, 2, 2, 3, 2)),
    "SAME_UPPER": lambda: one(
        "Conv", [IMAGE], weights(2, 4, 3, 2), auto_pad="SAME_UPPER", strides=[2, 2]
    ),
    "SAME_LOWER": lambda: one("Conv", [IMAGE], weights(2, 4, 2, 2), auto_pad="SAME_LOWER"),
    "VALID": lambda: one("Conv", [IMAGE], weights(2, 4, 2, 2), auto_pad="VALID"),
    "transposed": lambda: one(
        "ConvTranspose",
        [(2, 4, 3, 4)],
        weights(4, 3, 3, 2),
        weights(6),
        group=2,
        strides=[2, 3],
        dilations=[1, 2],
        pads=[1, 0, 1, 2],
        output_padding=[1, 0],
    ),
    "transposed simply": lambda: one("ConvTranspose", [IMAGE], weights(4, 3, 4, 4)),
    "MaxPool": lambda: one(
        "MaxPool", [IMAGE], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 0]
    ),
    "MaxPool up": lambda: one(
        "MaxPool",
        [IMAGE],
        kernel_shape=[2, 2],
        strides=[3, 2],
        dilations=[2, 1],
        ceil_mode=1,
        pads=[0, 0, 1, 1],
    ),
    "AveragePool": lambda: one(
        "AveragePool", [IMAGE], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 0]
    ),
    "AveragePool with padding": lambda: one(
        "AveragePool", [IMAGE], kernel_shape=[3, 2], pads=[1, 1, 1, 0], count_include_pad=1
    ),
    "AveragePool up": lambda: one(
        "AveragePool", [IMAGE], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1
    ),
    "GlobalAveragePool": lambda: one("GlobalAveragePool", [IMAGE]),
    "GlobalMaxPool": lambda: one("GlobalMaxPool", [IMAGE]),
    "BatchNormalization": lambda: one(
        "BatchNormalization", [IMAGE], weights(4), weights(4), weights(4), abs(weights(4)) + 1
    ),
    "InstanceNormalization": lambda: one("InstanceNormalization", [IMAGE], weights(4), weights(4)),
    "LayerNormalization": lambda: one(
        "LayerNormalization", [(2, 3, 4)], weights(3, 4), weights(3, 4), axis=1
    ),
    "Gemm": lambda: one("Gemm", [(2, 3)], weights(4, 3), weights(4), transB=1),
    "Gemm times": lambda: one(
        "Gemm", [(3, 2)], weights(3, 4), weights(2, 1), transA=1, alpha=0.3, beta=0.7
    ),
    "Gemm of variables": lambda: one("Gemm", [(2, 3), (3, 4), (4,)], alpha=0.5),
    "MatMul": lambda: one("MatMul", [(2, 3, 4)], weights(4, 5)),
    "MatMul of stacks": lambda: one("MatMul", [(2, 1, 3, 4)], weights(5, 4, 2)),
    "vector times matrix": lambda: one("MatMul", [(3,)], weights(2, 3, 4)),
    "matrix times vector": lambda: one("MatMul", [(2, 3)], weights(3)),
    "vectors": lambda: one("MatMul", [(3,), (3,)]),
    "MatMul of variables": lambda: one("MatMul", [(2, 1, 3, 4), (5, 4, 2)]),
    "Softmax": lambda: one("Softmax", [(2, 3, 4)], axis=1),
    "Softmax of old": lambda: one("Softmax", [(2, 3, 2)], opset=9),
    "LogSoftmax": lambda: one("LogSoftmax", [(2, 3)]),
    "Add": lambda: one("Add", [(2, 1), (1, 3)]),
    "Sum": lambda: one("Sum", [(2, 1), (1, 3)], weights(2, 3), weights(3)),
    "Mean": lambda: one("Mean", [(2, 1), (1, 3)], weights(3)),
    "Sub": lambda: one("Sub", [(2, 1), (1, 3)]),
    "Mul": lambda: one("Mul", [(2, 1), (1, 3)]),
    "Mul by constants": lambda: one("Mul", [(2, 1)], weights(1, 3)),
    "Div": lambda: one("Div", [(2, 1), (1, 3)]),
    "Div by constants": lambda: one("Div", [(2, 1)], weights(1, 3)),
    "Neg": lambda: one("Neg", [(3,)]),
    "Pow": lambda: one("Pow", [(3,)], np.float32(3)),
    "square root": lambda: one("Pow", [(3,)], np.float32(0.5)),
    "Max": lambda: one("Max", [(2, 1), (1, 3)]),
    "Max with one number": lambda: one("Max", [(2, 3)], np.float32(0.3)),
    "Max with numbers": lambda: one("Max", [(2, 1)], weights(1, 3)),
    "Min with numbers": lambda: one("Min", [(2, 1)], weights(1, 3)),
    "Min with one number": lambda: one("Min", [(2, 3), (3,)], weights(1, 1, 1)),
    "Clip": lambda: one("Clip", [(5,)], np.float32(0.3), np.float32(0.5)),
    "Clip from below": lambda: one("Clip", [(5,)], np.float32(0.3)),
    "Clip from above": lambda: one("Clip", [(5,)], None, np.float32(0.3)),
    "crossing bounds": lambda: one("Clip", [(5,)], np.float32(0.5), np.float32(0.3)),
    "Clip of old": lambda: one("Clip", [(5,)], opset=9, min=0.3),
    "PRelu": lambda: one("PRelu", [(2, 3)], weights(3)),
    "LeakyRelu": lambda: one("LeakyRelu", [(4,)]),
    "Elu": lambda: one("Elu", [(4,)], alpha=0.5),
    "Gelu": lambda: one("Gelu", [(4,)], opset=20),
    "other Gelu": lambda: one("Gelu", [(4,)], opset=20, approximate="tanh"),
    "HardSigmoid": lambda: one("HardSigmoid", [(4,)]),
    "Slice": lambda: one("Slice", [(4, 6)], [3, -9], [-9, -1], [0, 1], [-2, 2]),
    "Slice of old": lambda: one("Slice", [(4, 6)], opset=9, starts=[1, 0], ends=[3, -1]),
    "Gather": lambda: one("Gather", [(4, 6)], [[-1, 0], [2, 2]], axis=1),
    "GatherElements": lambda: one("GatherElements", [(2, 3)], [[2, 0], [1, 1]], axis=1),
    "GatherND": lambda: one("GatherND", [(2, 3)], [[1, 0], [0, 2]]),
    "ScatterND": lambda: one("ScatterND", [(4, 3)], [[1], [3]], weights(2, 3)),
    "Reshape": lambda: one("Reshape", [(2, 3, 4)], [0, -1]),
    "Flatten": lambda: one("Flatten", [(2, 3, 4)], axis=-1),
    "Transpose": lambda: one("Transpose", [(2, 3, 4)], perm=[2, 0, 1]),
    "Squeeze": lambda: one("Squeeze", [(1, 3, 1)], [-1]),
    "Unsqueeze of old": lambda: one("Unsqueeze", [(3,)], opset=9, axes=[0, 2]),
    "Expand": lambda: one("Expand", [(3, 1)], [2, 1, 4]),
    "Tile": lambda: one("Tile", [(2, 3)], [2, 2]),
    "DepthToSpace": lambda: one("DepthToSpace", [(1, 8, 2, 3)], blocksize=2, mode="CRD"),
    "SpaceToDepth": lambda: one("SpaceToDepth", [(1, 2, 4, 6)], blocksize=2),
    "Pad": lambda: one("Pad", [(2, 3)], [1, 0, 2, 1], np.float32(0.7)),
    "Pad by reflection": lambda: one("Pad", [(3, 4)], [1, 0, 2, 1], mode="reflect"),
    "Concat": lambda: one("Concat", [(2, 1), (2, 3)], weights(2, 2), axis=-1),
    "Where with constants": lambda: written(
        [helper.make_node("Where", ["m", "x", "z"], ["y"])],
        {"x": (2, 1), "z": (3,)},
        {"m": [[True, False, True], [False, False, True]]},
    ),
    "Resize": lambda: one(
        "Resize", [(1, 1, 4, 5)], None, np.array([1, 1, 1.7, 0.6], np.float32), mode="nearest"
    ),
    "Resize to sizes": lambda: one(
        "Resize",
        [(1, 1, 4, 5)],
        None,
        None,
        [1, 1, 7, 3],
        coordinate_transformation_mode="align_corners",
        nearest_mode="floor",
    ),
    "Upsample": lambda: one("Upsample", [(1, 2, 2, 3)], np.array([1, 1, 2, 3], "f"), opset=9),
    "ArgMax": lambda: one("ArgMax", [(2, 4)], axis=1),
    "last ArgMin": lambda: one("ArgMin", [(2, 4)], axis=1, keepdims=0, select_last_index=1),
}
OPERATORS |= {
    f"{kind} over {axes}": lambda kind=kind, axes=axes: one(
        kind, [(2, 3, 4)], *([] if axes is None else [axes]), keepdims=len(axes or ()) % 2
    )
    for kind in ("ReduceSum",)
    for axes in (None, [1], [0, -1])
}
OPERATORS |= {
    f"{kind} over {axes}": lambda kind=kind, axes=axes: one(
        kind, [(2, 3, 4)], opset=12, axes=axes, keepdims=len(axes) % 2
    )
    for kind in "ReduceMean ReduceMax ReduceMin ReduceL2 ReduceSumSquare ReduceSum".split()
    for axes in ([1], [0, 2])
}
OPERATORS |= {
    kind: lambda kind=kind: one(kind, [(7,)])
    for kind in (
        "Abs Ceil Cos Erf Exp Floor HardSwish Log Mish Reciprocal Relu Round Sigmoid Sign Sin "
        "Softplus Sqrt Tan Tanh Atan Sinh Cosh Asinh Atanh Asin Acos"
    ).split()
}
POSITIVE = {"Log", "Sqrt", "Reciprocal", "Div", "square root", "Acosh"}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_is_read_as_onnxruntime_computes_it(name: str) -> None:
    data = OPERATORS[name]()
    if name in ("Acos", "Asin", "Atanh"):
        network = read_network(data)
        points = np.linspace(-0.9, 0.9, 7, dtype=np.float32)
        (expected,) = session(data).run(None, {"x0": points})
        assert abs(evaluate(network, points) - expected).max() < 1e-5
    else:
        agree(data, name in POSITIVE)


COMPARISONS = "Equal Greater Less GreaterOrEqual LessOrEqual".split()


@pytest.mark.parametrize("kind", COMPARISONS)
def test_truth_values_are_exact(kind: str) -> None:
    nodes = [
        helper.make_node(kind, ["x", "c"], ["a"]),
        helper.make_node("Less", ["z", "c"], ["b"]),
        helper.make_node("Or", ["a", "b"], ["o"]),
        helper.make_node("And", ["o", "b"], ["n"]),
        helper.make_node("Not", ["n"], ["p"]),
        helper.make_node("Where", ["p", "x", "z"], ["w"]),
        helper.make_node("Cast", ["x"], ["k"], to=TensorProto.INT64),
        helper.make_node("Cast", ["k"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["x"], ["t"], to=TensorProto.BOOL),
        helper.make_node("Cast", ["t"], ["u"], to=TensorProto.FLOAT),
        helper.make_node("Sum", ["w", "f", "u"], ["y"]),
    ]
    data = written(nodes, {"x": (40,), "z": (40,)}, {"c": np.float32(0.5)}, 16)
    runtime, network = session(data), read_network(data)
    points = np.random.default_rng(0).integers(-4, 5, (2, 40)).astype(np.float32) / 2
    (expected,) = runtime.run(None, {"x": points[0], "z": points[1]})
    assert (evaluate(network, points.astype(np.float64)) == expected).all()


def test_classes_are_read_one_hot() -> None:
    nodes = [
        helper.make_node("ArgMax", ["x"], ["a"], axis=1, keepdims=0),
        helper.make_node("OneHot", ["a", "n", "v"], ["y"], axis=1),
    ]
    agree(written(nodes, {"x": (3, 5, 2)}, {"n": 5, "v": np.array([0, 3], np.float32)}, 13))


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


@given(st.data())
def test_random_windows_are_read_as_onnxruntime_computes_them(draw: st.DataObject) -> None:
    small = st.integers(1, 3)
    kind = draw.draw(st.sampled_from(["Conv", "ConvTranspose", "MaxPool", "AveragePool"]))
    kernel = [draw.draw(small), draw.draw(small)]
    strides, dilations = [draw.draw(small), draw.draw(small)], [draw.draw(small), draw.draw(small)]
    groups, batch = draw.draw(st.integers(1, 2)), draw.draw(st.integers(1, 2))
    pads = [draw.draw(st.integers(0, (k + 1) // 2 - (k < 3))) for k in kernel * 2]
    shape = (batch, 2 * groups, 8, 7)
    common = {"strides": strides, "dilations": dilations, "pads": pads}
    if kind == "MaxPool":
        ceil = draw.draw(st.integers(0, 1))
        data = one(kind, [shape], kernel_shape=kernel, ceil_mode=ceil, **common)
    elif kind == "AveragePool":
        include = draw.draw(st.integers(0, 1))
        data = one(
            kind,
            [shape],
            kernel_shape=kernel,
            strides=strides,
            pads=pads,
            count_include_pad=include,
        )
    elif kind == "Conv":
        data = one(kind, [shape], weights(3 * groups, 2, *kernel), group=groups, **common)
    else:
        data = one(kind, [shape], weights(2 * groups, 3, *kernel), group=groups, **common)
    agree(data)


# The form of what is read


def nodes_of(network: Network) -> list[Affine | Operator]:
    return [node for node in network.nodes if node is not None]


def test_a_broadcast_is_pure_movement_before_an_operator() -> None:
    left, right, product = nodes_of(read_network(one("Mul", [(2, 1), (1, 3)])))[2:]
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
        [-1, 0, 1, 2, -1, -1, -1, 3, 4, 5, -1, -1],
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


# What is refused


def refused(nodes: Sequence[onnx.NodeProto], **constants: Any) -> bytes:
    return written(nodes, {"x": (2, 3)}, constants)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "an unknown operator": (
        lambda: refused([helper.make_node("LRN", ["x"], ["y"], "norm", size=3)]),
        "LRN 'norm': no rule for this operator",
    ),
    "another domain": (
        lambda: refused([helper.make_node("Relu", ["x"], ["y"], "r", domain="com.example")]),
        "no rule for operators of 'com.example'",
    ),
    "an unknown attribute": (
        lambda: refused([helper.make_node("Softsign", ["x"], ["y"])]),
        "Softsign 'y': no rule",
    ),
    "an attribute without meaning here": (
        lambda: refused([helper.make_node("Relu", ["x"], ["y"], "r", slope=1.0)]),
        "Relu 'r': no rule for the attributes slope",
    ),
    "an index that depends on the input": (
        lambda: refused([helper.make_node("Gather", ["c", "x"], ["y"], "g")], c=weights(3)),
        "Gather 'g': operand 1 depends on the input",
    ),
    "training": (
        lambda: refused([helper.make_node("Dropout", ["x", "", "t"], ["y"])], t=True),
        "no rule for training",
    ),
    "a division by 0": (
        lambda: refused([helper.make_node("Div", ["x", "c"], ["y"])], c=np.float32(0)),
        "divides by the constant 0",
    ),
    "a subgraph": (
        lambda: refused(
            [helper.make_node("If", ["x"], ["y"], then_branch=helper.make_graph([], "g", [], []))]
        ),
        "no rule for graphs",
    ),
    "a second output": (
        lambda: refused(
            [
                helper.make_node("Dropout", ["x"], ["a", "mask"]),
                helper.make_node("Not", ["mask"], ["y"]),
            ]
        ),
        "nothing computes ['mask']",
    ),
    "constants only": (
        lambda: refused([helper.make_node("Relu", ["c"], ["y"])], c=weights(3)),
        "do not depend on the inputs",
    ),
    "randomness": (
        lambda: refused(
            [
                helper.make_node("RandomNormal", [], ["r"], shape=[2, 3]),
                helper.make_node("Add", ["x", "r"], ["y"]),
            ]
        ),
        "no rule for this operator on constants",
    ),
    "an old operator set": (
        lambda: written([helper.make_node("Relu", ["x"], ["y"])], {"x": (2,)}, {}, opset=6),
        "operator sets {6}",
    ),
    "a large integer": (
        lambda: written(
            [helper.make_node("Add", ["x", "c"], ["y"])],
            {"x": (1,)},
            {"c": [2**53 + 1]},
            kind=TensorProto.INT64,
        ),
        "2^53",
    ),
    "a type without rule": (
        lambda: written(
            [helper.make_node("Relu", ["x"], ["y"])], {"x": (1,)}, {}, kind=TensorProto.FLOAT16
        ),
        "no rule for elements of float16",
    ),
}
HUGE = 2**40
REFUSED |= {
    f"a huge {kind}": (
        lambda kind=kind, constants=constants: one(kind, [(1, 1, 1, 1)], *constants),
        "more than",
    )
    for kind, constants in {
        "Expand": [[HUGE, 1, 1, 1]],
        "Tile": [[HUGE, 1, 1, 1]],
        "Pad": [[HUGE, 0, 0, 0] * 2],
        "Resize": [None, np.array([1, 1, 1e9, 1e9], np.float32)],
        "Gather": [np.zeros(2**14, int)],
    }.items()
    if kind != "Gather"
} | {
    "a huge constant": (
        lambda: refused(
            [
                helper.make_node("ConstantOfShape", ["n"], ["c"]),
                helper.make_node("Add", ["x", "c"], ["y"]),
            ],
            n=[HUGE, 1, 1],
        ),
        "more than",
    ),
    "a huge broadcast": (
        lambda: one("Add", [(2**15, 1), (1, 2**15)]),
        "more than",
    ),
    "a huge window": (
        lambda: one("MaxPool", [(1, 1, 9, 9)], kernel_shape=[HUGE, 1], pads=[HUGE, 0, HUGE, 0]),
        "more than",
    ),
}


@pytest.mark.soundness
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_by_name(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(Unsupported) as caught:
        read_network(build())
    assert message in str(caught.value)


def test_many_large_tensors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "LIMIT", 300)
    nodes = [helper.make_node("Relu", [a], [b]) for a, b in zip("xab", "aby", strict=True)]
    with pytest.raises(Unsupported, match="the network has more than 300 numbers at 'y#0'"):
        read_network(written(nodes, {"x": (100,)}, {}))


@pytest.mark.soundness
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["Add", "Mul", "Div", "MatMul", "Max", "PRelu"])
def test_constants_that_are_no_numbers_break_the_file(kind: str, number: float) -> None:
    with pytest.raises(Broken, match=f"{kind} 'y': a constant is infinite or no number"):
        read_network(one(kind, [(1, 1)], np.array([[number]], np.float32)))


@pytest.mark.soundness
def test_tensors_of_one_name_break_the_file() -> None:
    relu, neg = (helper.make_node(kind, ["x"], ["y"]) for kind in ("Relu", "Neg"))
    with pytest.raises(Broken, match="two tensors"):
        read_network(refused([relu, neg]))
    with pytest.raises(Broken, match="two tensors"):
        read_network(refused([relu], y=weights(2, 3)))


def test_an_input_that_is_stored_is_a_constant() -> None:
    data = written(
        [helper.make_node("Add", ["x", "c"], ["y"])],
        {"x": (2,), "c": (2,)},
        {"c": weights(2)},
    )
    assert [item.name for item in read_network(data).inputs] == ["x"]


def test_a_node_that_depends_on_itself_breaks_the_file() -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["y"]),
        helper.make_node("Neg", ["y"], ["b"]),
    ]
    with pytest.raises(Broken, match="depends on itself"):
        read_network(refused(nodes))


def test_tensors_stored_elsewhere_are_refused() -> None:
    model = onnx.load_model_from_string(one("Add", [(2,)], weights(2)))
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(Unsupported, match="another file"):
        read_network(model.SerializeToString())


@pytest.mark.soundness
@given(st.data())
def test_a_damaged_file_is_read_or_refused_but_never_crashes(draw: st.DataObject) -> None:
    names = ["convolution", "Gemm", "Slice", "Pad", "Softmax", "AveragePool", "Concat", "Resize"]
    data = bytearray(OPERATORS[draw.draw(st.sampled_from(names))]())
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.integers(0, len(data) - 1))
        data[place] = draw.draw(st.integers(0, 255))
    try:
        network = read_network(bytes(data))
    except (Broken, Unsupported):
        return
    assert all(
        linear.size > int(linear.index.max(initial=-1))
        for node in nodes_of(network)
        if isinstance(node, Affine)
        for _, linear in node.terms
        if isinstance(linear, Move)
    )


# Real networks

UNREADABLE = {
    # Slices and scatters at places that depend on the input.
    "cctsdb_yolo/onnx/patch-1.onnx": "Slice 'Slice_34': operand 1 depends on the input",
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
    wrong, read = {}, 0
    with np.errstate(over="ignore"):
        for name in sorted(names):
            data = (bench_folder / name).read_bytes()
            data = gzip.decompress(data) if name.endswith(".gz") else data
            if name in UNREADABLE:
                with pytest.raises(Unsupported) as caught:
                    read_network(data)
                assert str(caught.value) == UNREADABLE[name]
            elif name not in CANCELLING:
                read += 1
                distance = disagreement(data, read_network(data), positive=False)
                if not distance < 1e-4:
                    wrong[name] = distance
    assert not wrong and read > 100
