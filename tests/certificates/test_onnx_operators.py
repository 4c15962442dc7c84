"""The checker reads every operator as onnxruntime computes it."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from absolver.certificates.network import Affine, Broken, Move, Unsupported
from absolver.certificates.onnx_reader import read_network
from tests.certificates.onnx_files import agree, nodes_of, one, weights, written

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
    "Add": lambda: one("Add", [(2, 1), (1, 3)]),
    "Sum": lambda: one("Sum", [(2, 1), (1, 3)], weights(2, 3), weights(3)),
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
    "LeakyRelu": lambda: one("LeakyRelu", [(4,)]),
    "Slice": lambda: one("Slice", [(4, 6)], [3, -9], [-9, -1], [0, 1], [-2, 2]),
    "Slice of old": lambda: one("Slice", [(4, 6)], opset=9, starts=[1, 0], ends=[3, -1]),
    "Gather": lambda: one("Gather", [(4, 6)], [[-1, 0], [2, 2]], axis=1),
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
        "Resize",
        [(1, 1, 4, 5)],
        None,
        np.array([1, 1, 1.7, 0.6], np.float32),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "Upsample": lambda: one("Upsample", [(1, 2, 2, 3)], np.array([1, 1, 2, 3], "f"), opset=9),
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
    for kind in "ReduceMean ReduceMax ReduceMin ReduceSum".split()
    for axes in ([1], [0, 2])
}
OPERATORS |= {
    kind: lambda kind=kind: one(kind, [(7,)])
    for kind in "Abs Ceil Cos Exp Floor Log Reciprocal Relu Sigmoid Sign Sin Sqrt Tanh".split()
}
POSITIVE = {"Log", "Sqrt", "Reciprocal", "Div", "square root"}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_is_read_as_onnxruntime_computes_it(name: str) -> None:
    agree(OPERATORS[name](), name in POSITIVE)


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
