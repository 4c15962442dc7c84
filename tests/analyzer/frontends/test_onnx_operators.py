"""Each ONNX operator, in the forms of its opsets, computes what onnxruntime computes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from absolver.analyzer.cli.supports import NEWEST_OPSET, OLDEST_OPSET
from absolver.analyzer.frontends.agreement import check_against_onnxruntime
from absolver.analyzer.frontends.onnx import LoadedNetwork
from absolver.analyzer.frontends.onnx_graph import graph_of_model

# They bracket the changes of form: 9 (Upsample), 10 (Slice), 11 (Clip, Pad), 13 (Softmax, axes
# as operands), 18 (reductions, Split), and go up to the newest one that onnxruntime 1.26 knows.
OPSETS = tuple(range(OLDEST_OPSET, NEWEST_OPSET + 1))
_RANDOM = np.random.default_rng(3)


@dataclass(frozen=True)
class Case:
    """One node: operator, shape of each variable operand, constants, attributes, opsets."""

    operator: str
    shapes: Sequence[tuple[int, ...]]
    constants: Sequence[NDArray[Any] | None] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opsets: Sequence[int] = OPSETS
    low: float = -2.0
    high: float = 2.0
    constants_first: bool = False
    outputs: int = 1

    def __str__(self) -> str:
        shapes = "+".join("x".join(map(str, shape)) for shape in self.shapes)
        extras = [f"{k}={v}" for k, v in self.attributes.items()]
        extras += [str(list(c.shape)) for c in self.constants if c is not None]
        return " ".join([self.operator, shapes, *extras])


def model_of(case: Case, opset: int) -> onnx.ModelProto:
    """Build the model that has this node alone."""
    variables = [f"x{i}" for i in range(len(case.shapes))]
    constants = ["" if c is None else f"c{i}" for i, c in enumerate(case.constants)]
    names = [*constants, *variables] if case.constants_first else [*variables, *constants]
    results = [f"y{i}" for i in range(case.outputs)]
    node = helper.make_node(case.operator, names, results, name="node", **case.attributes)
    graph = helper.make_graph(
        [node],
        "graph",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in zip(variables, case.shapes, strict=True)
        ],
        [onnx.ValueInfoProto(name=name) for name in results],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in zip(constants, case.constants, strict=True)
            if value is not None
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def network_of(model: onnx.ModelProto) -> LoadedNetwork:
    return LoadedNetwork(Path("test.onnx"), graph_of_model(model), model.SerializeToString())


def check(case: Case, opset: int) -> None:
    network = network_of(model_of(case, opset))
    points = _RANDOM.uniform(case.low, case.high, (3, network.runtime.input_size))
    check_against_onnxruntime(network, points)


def floats(*shape: int) -> NDArray[np.float32]:
    return _RANDOM.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    return np.asarray(values, dtype=np.int64)


FROM_10, FROM_11, FROM_13 = OPSETS[3:], OPSETS[4:], OPSETS[6:]
BEFORE_10, BEFORE_11, BEFORE_13 = OPSETS[:3], OPSETS[:4], OPSETS[:6]
LATE = OPSETS[11:]
IMAGE = (1, 2, 5, 6)
NOWHERE = np.zeros(0, np.float32)  # Resize's region of interest, which opset 11 asks for

ELEMENTWISE = [
    *(Case(name, [(2, 3)]) for name in ("Relu", "Abs", "Neg", "Sigmoid", "Tanh", "Exp")),
    *(Case(name, [(2, 3)]) for name in ("Floor", "Ceil", "Identity", "Elu", "Selu", "Softplus")),
    *(Case(name, [(2, 3)]) for name in ("Softsign", "HardSigmoid", "LeakyRelu", "Sin", "Cos")),
    *(Case(name, [(2, 3)], low=-1.2, high=1.2) for name in ("Tan",)),
    *(Case(name, [(2, 3)], low=0.3) for name in ("Sqrt", "Log", "Reciprocal")),
    Case("Sign", [(2, 3)], opsets=OPSETS[2:]),
    Case("Erf", [(2, 3)], opsets=OPSETS[2:]),
    Case("Round", [(2, 3)], opsets=FROM_11),
    Case("Atan", [(2, 3)]),
    Case("Celu", [(2, 3)], attributes={"alpha": 1.5}, opsets=(12, 13)),
    Case("Gelu", [(2, 3)], opsets=(20, 21)),
    Case("Gelu", [(2, 3)], attributes={"approximate": "tanh"}, opsets=(20, 21)),
    Case("HardSwish", [(2, 3)], opsets=(14, 17)),
    Case("Mish", [(2, 3)], opsets=(18, 19)),
    Case("Elu", [(2, 3)], attributes={"alpha": 0.7}),
    Case("LeakyRelu", [(2, 3)], attributes={"alpha": 0.3}),
    Case("HardSigmoid", [(2, 3)], attributes={"alpha": 0.4, "beta": 0.3}),
    Case("PRelu", [(2, 3)], [floats(3)]),
    Case("PRelu", [(1, 2, 3)], [floats(2, 1)]),
    Case("PRelu", [(2, 3)], [np.asarray([0.2], np.float32)]),
    Case("Clip", [(2, 3)], attributes={"min": -1.0, "max": 0.5}, opsets=BEFORE_11),
    Case("Clip", [(2, 3)], attributes={"max": 0.5}, opsets=BEFORE_11),
    Case("Clip", [(2, 3)], [np.float32(-1), np.float32(0.5)], opsets=FROM_11),
    Case("Clip", [(2, 3)], [None, np.float32(0.5)], opsets=FROM_11),
    Case("Clip", [(2, 3)], [np.float32(1), np.float32(-0.5)], opsets=FROM_11),
    Case("Clip", [(2, 3), ()], [np.float32(1.5)], opsets=FROM_11),
    Case("Max", [(2, 3), (3,), (2, 1)], opsets=OPSETS[1:]),
    Case("Min", [(2, 3), (3,)], opsets=OPSETS[1:]),
    Case("Max", [(2, 3)], [np.float32(0.2), floats(3)], opsets=OPSETS[1:]),
    Case("Min", [(2, 3)], [np.float32(0.2), floats(2, 1)], opsets=OPSETS[1:]),
    *(Case("Pow", [(2, 3)], [np.float32(n)], low=0.3) for n in (1, 2, 3, 0.5, -1, -2, 2.5)),
    Case("Pow", [(2, 3)], [np.float32(3)]),
    Case("Pow", [(2, 3)], [np.float32(4)]),
    Case("Pow", [(2, 3)], [np.float32([[2], [3]])]),
    Case("Pow", [(3,)], [np.float32([[1, 2, 3], [3, 2, 0.5]])], low=0.3),
    Case("Pow", [(2, 3)], [np.float32(2)], constants_first=True),
]

ALGEBRA = [
    *(Case(name, [(2, 3), (3,)]) for name in ("Add", "Sub", "Mul")),
    *(Case(name, [(2, 1), (1, 3)]) for name in ("Add", "Sub", "Mul")),
    *(Case(name, [(2, 3)], [floats(3)]) for name in ("Add", "Sub", "Mul", "Div")),
    *(Case(name, [(3,)], [floats(2, 1)]) for name in ("Add", "Sub", "Mul", "Div")),
    *(
        Case(name, [(3,)], [floats(2, 1)], constants_first=True, low=0.5)
        for name in ("Add", "Sub", "Mul", "Div")
    ),
    Case("Div", [(2, 3), (3,)], low=0.5),
    Case("Div", [(2, 3)], [np.float32(1)], constants_first=True, low=0.5),
    Case("Sum", [(2, 3), (3,), (2, 1)], [floats(3)], opsets=OPSETS[1:]),
    Case("Mean", [(2, 3), (3,)], opsets=OPSETS[1:]),
    Case("MatMul", [(2, 3)], [floats(3, 4)]),
    Case("MatMul", [(3,)], [floats(3, 4)]),
    Case("MatMul", [(2, 3)], [floats(3)]),
    Case("MatMul", [(3,)], [floats(3)]),
    Case("MatMul", [(5, 2, 3)], [floats(3, 4)]),
    Case("MatMul", [(2, 3)], [floats(5, 3, 4)]),
    Case("MatMul", [(5, 1, 2, 3)], [floats(2, 3, 4)]),
    Case("MatMul", [(3, 4)], [floats(2, 3)], constants_first=True),
    Case("MatMul", [(5, 3, 4)], [floats(2, 3)], constants_first=True),
    Case("MatMul", [(3,)], [floats(2, 3)], constants_first=True),
    Case("MatMul", [(3, 4)], [floats(3)], constants_first=True),
    Case("MatMul", [(3, 4)], [floats(5, 2, 3)], constants_first=True),
    Case("MatMul", [(2, 3), (3, 4)]),
    Case("MatMul", [(5, 2, 3), (3, 4)]),
    Case("MatMul", [(1, 2, 3), (5, 3, 2)]),
    Case("MatMul", [(3,), (3, 4)]),
    Case("MatMul", [(2, 3), (3,)]),
    Case("MatMul", [(3,), (3,)]),
    Case("Gemm", [(2, 3)], [floats(3, 4), floats(4)]),
    Case("Gemm", [(2, 3)], [floats(4, 3), floats(2, 1)], {"transB": 1}),
    Case("Gemm", [(3, 2)], [floats(4, 3), floats(4)], {"transA": 1, "transB": 1}),
    Case("Gemm", [(2, 3)], [floats(3, 4), floats(4)], {"alpha": 0.5, "beta": 2.0}),
    Case("Gemm", [(2, 3)], [floats(3, 4)], opsets=FROM_11),
    Case("Gemm", [(2, 3), (3, 4), (4,)], attributes={"beta": 0.5}),
    Case("Gemm", [(3, 4)], [floats(2, 3)], constants_first=True, opsets=FROM_11),
    *(
        Case(
            f"Reduce{name}",
            [(2, 3, 4)],
            attributes={"axes": [1, -1], "keepdims": keep},
            opsets=(11, 12),
        )
        for name in ("Sum", "Mean", "Max", "Min", "SumSquare", "L2")
        for keep in (0, 1)
    ),
    *(
        Case(f"Reduce{name}", [(2, 3)], attributes={"keepdims": 0})
        for name in ("Sum", "Mean", "Max", "Min")
    ),
    Case("ReduceSum", [(2, 3)], [ints(1)], opsets=FROM_13),
    Case("ReduceSum", [(2, 3)], [ints()], {"noop_with_empty_axes": 1}, opsets=FROM_13),
    *(Case(f"Reduce{name}", [(2, 3)], [ints(0)], opsets=LATE) for name in ("Mean", "Max", "Min")),
]

MOVEMENT = [
    Case("Reshape", [(2, 6)], [ints(3, -1)]),
    Case("Reshape", [(2, 6)], [ints(0, 3, 2)]),
    *(Case("Flatten", [(2, 3, 4)], attributes={"axis": axis}) for axis in (0, 1, 2, 3)),
    Case("Flatten", [(2, 3, 4)], attributes={"axis": -1}, opsets=FROM_11),
    Case("Squeeze", [(1, 3, 1)]),
    Case("Squeeze", [(1, 3, 1)], attributes={"axes": [2]}, opsets=BEFORE_13),
    Case("Squeeze", [(1, 3, 1)], [ints(-1)], opsets=FROM_13),
    Case("Unsqueeze", [(2, 3)], attributes={"axes": [0, 3]}, opsets=BEFORE_13),
    Case("Unsqueeze", [(2, 3)], [ints(0, -1)], opsets=FROM_13),
    Case("Transpose", [(2, 3, 4)]),
    Case("Transpose", [(2, 3, 4)], attributes={"perm": [1, 2, 0]}),
    Case("Slice", [(4, 5)], attributes={"starts": [1, -3], "ends": [3, 100]}, opsets=BEFORE_10),
    Case("Slice", [(4, 5)], attributes={"starts": [1], "ends": [-1], "axes": [1]}, opsets=(7, 9)),
    Case("Slice", [(4, 5)], [ints(1, 0), ints(4, 5), ints(0, 1), ints(2, 3)], opsets=FROM_10),
    Case("Slice", [(4, 5)], [ints(-1), ints(-(2**63)), ints(1), ints(-2)], opsets=FROM_10),
    Case("Slice", [(4, 5)], [ints(3), ints(0), ints(-2), ints(-1)], opsets=FROM_10),
    Case("Split", [(2, 6)], attributes={"axis": 1}, outputs=3, opsets=(7, 11, 13, 15)),
    Case("Split", [(2, 6)], attributes={"axis": 1, "split": [2, 4]}, outputs=2, opsets=BEFORE_13),
    Case("Split", [(2, 6)], [ints(1, 5)], {"axis": -1}, outputs=2, opsets=FROM_13),
    Case("Split", [(2, 7)], attributes={"axis": 1, "num_outputs": 3}, outputs=3, opsets=LATE),
    Case("Concat", [(2, 3), (2, 1)], [floats(2, 2)], {"axis": 1}),
    Case("Concat", [(2, 3)], [floats(1, 3)], {"axis": 0}, constants_first=True),
    Case("Gather", [(4, 5)], [ints(2, 0, 2)], {"axis": 1}),
    Case("Gather", [(4, 5)], [np.asarray(1)], {"axis": 0}),
    Case("Gather", [(4, 5)], [ints(1, 3)], {"axis": 0}),
    Case("Gather", [(4, 5)], [ints(-1, 0).reshape(2, 1)], {"axis": 1}, opsets=FROM_11),
    Case("GatherElements", [(3, 3)], [ints(1, 2, 0, 2, 0, 0).reshape(2, 3)], opsets=FROM_11),
    Case("GatherND", [(3, 4)], [ints(1, 2, 0, 3).reshape(2, 2)], opsets=FROM_11),
    Case("GatherND", [(3, 4)], [ints(1, 0).reshape(2, 1)], opsets=FROM_11),
    Case("ScatterND", [(4, 3)], [ints(2, 0).reshape(2, 1), floats(2, 3)], opsets=FROM_11),
    Case("Expand", [(3, 1)], [ints(2, 1, 4)], opsets=OPSETS[1:]),
    Case("Tile", [(2, 3)], [ints(2, 3)]),
    Case("Pad", [(2, 3)], attributes={"pads": [1, 0, 2, 3], "value": 0.5}, opsets=BEFORE_11),
    Case("Pad", [(2, 3)], [ints(1, 0, 2, 3), np.float32(0.5)], opsets=FROM_11),
    Case("Pad", [(3, 4)], [ints(-1, 1, 0, -2)], opsets=FROM_11),
    Case("Pad", [(3, 4)], [ints(1, 2, 2, 1)], {"mode": "reflect"}, opsets=FROM_11),
    Case("Pad", [(3, 4)], [ints(1, 2, 2, 1)], {"mode": "edge"}, opsets=FROM_11),
    Case("Pad", [(3, 4)], [ints(1, 2), np.float32(0), ints(1)], opsets=LATE),
    Case("Dropout", [(2, 3)], opsets=OPSETS),
    Case("DepthToSpace", [(1, 8, 2, 3)], attributes={"blocksize": 2}),
    Case(
        "DepthToSpace", [(1, 8, 2, 3)], attributes={"blocksize": 2, "mode": "CRD"}, opsets=FROM_11
    ),
    Case("SpaceToDepth", [(1, 2, 4, 6)], attributes={"blocksize": 2}),
]

WINDOWS = [
    Case("Conv", [IMAGE], [floats(3, 2, 3, 3)]),
    Case(
        "Conv", [IMAGE], [floats(3, 2, 3, 2), floats(3)], {"pads": [1, 0, 2, 1], "strides": [2, 1]}
    ),
    Case("Conv", [IMAGE], [floats(4, 1, 2, 2), floats(4)], {"group": 2, "dilations": [2, 3]}),
    Case(
        "Conv", [(2, 2, 5, 5)], [floats(3, 2, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}
    ),
    Case("Conv", [(1, 2, 5, 5)], [floats(3, 2, 2, 2)], {"auto_pad": "SAME_LOWER"}),
    Case("Conv", [(1, 2, 5, 5)], [floats(3, 2, 2, 2)], {"auto_pad": "VALID"}),
    Case("Conv", [(1, 2, 7)], [floats(3, 2, 3), floats(3)], {"pads": [1, 2], "strides": [2]}),
    Case("Conv", [(1, 1, 3, 4, 3)], [floats(2, 1, 2, 2, 2)]),
    Case("ConvTranspose", [(1, 2, 3, 4)], [floats(2, 3, 3, 2), floats(3)]),
    Case(
        "ConvTranspose",
        [(1, 4, 3, 4)],
        [floats(4, 2, 3, 3), floats(4)],
        {"group": 2, "strides": [2, 3], "pads": [1, 0, 0, 2], "output_padding": [1, 2]},
    ),
    Case("ConvTranspose", [(1, 1, 3, 3)], [floats(1, 1, 3, 3)], {"dilations": [2, 2]}),
    Case(
        "ConvTranspose",
        [(1, 2, 3, 3)],
        [floats(2, 1, 3, 3)],
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        opsets=FROM_11,
    ),
    Case("ConvTranspose", [(1, 2, 5)], [floats(2, 3, 3)], {"strides": [2]}),
    Case("MaxPool", [IMAGE], attributes={"kernel_shape": [2, 2]}),
    Case("MaxPool", [IMAGE], attributes={"kernel_shape": [3, 3], "strides": [2, 2]}),
    Case(
        "MaxPool",
        [IMAGE],
        attributes={"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 1, 1, 0]},
    ),
    Case("MaxPool", [(1, 2, 7)], attributes={"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    Case(
        "MaxPool",
        [IMAGE],
        attributes={"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        opsets=FROM_10,
    ),
    Case(
        "MaxPool",
        [(1, 1, 7, 8)],
        attributes={"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 2, 1, 2]},
        opsets=FROM_10,
    ),
    *(
        Case(
            "AveragePool",
            [IMAGE],
            attributes={
                "kernel_shape": [3, 2],
                "strides": [2, 2],
                "pads": [1, 1, 1, 0],
                "count_include_pad": count,
            },
        )
        for count in (0, 1)
    ),
    *(
        Case(
            "AveragePool",
            [(1, 1, 6, 7)],
            attributes={
                "kernel_shape": [3, 3],
                "strides": [2, 2],
                "pads": [1, 0, 0, 1],
                "ceil_mode": 1,
                "count_include_pad": count,
            },
            opsets=(19, 21),
        )
        for count in (0, 1)
    ),
    Case("GlobalAveragePool", [IMAGE]),
    Case("GlobalMaxPool", [(1, 2, 2, 3)]),
    Case("Upsample", [(1, 2, 2, 3)], attributes={"scales": [1.0, 1.0, 2.0, 3.0]}, opsets=(7, 8)),
    Case("Upsample", [(1, 2, 2, 3)], [np.asarray([1, 1, 2, 2], np.float32)], opsets=(9,)),
    Case("Resize", [(1, 2, 2, 3)], [np.asarray([1, 1, 2, 2], np.float32)], opsets=(10,)),
    *(
        Case(
            "Resize",
            [(1, 1, 4, 5)],
            [NOWHERE, np.asarray([1, 1, height, width], np.float32)],
            {"coordinate_transformation_mode": transform, "nearest_mode": rounding},
            opsets=(11, 13, 19),
        )
        for transform in ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel")
        for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
        for height, width in ((2, 3), (0.5, 1.6))
    ),
    Case("Resize", [(1, 1, 4, 4)], [None, None, ints(1, 1, 7, 3)], opsets=(13, 18)),
]

NORMALISATION = [
    *(Case("Softmax", [(2, 3, 4)], attributes={"axis": axis}) for axis in (0, 1, 2)),
    Case("Softmax", [(2, 3)]),
    Case("Softmax", [(2, 1)]),
    Case("Softmax", [(2, 3)], low=-100, high=100),
    Case("LogSoftmax", [(2, 3)]),
    Case("LayerNormalization", [(2, 3, 4)], [floats(4), floats(4)], opsets=(17, 18)),
    Case("LayerNormalization", [(2, 3, 4)], [floats(3, 4)], {"axis": 1}, opsets=(17,)),
    Case("BatchNormalization", [IMAGE], [*(floats(2) for _ in range(3)), floats(2) ** 2]),
    Case("BatchNormalization", [(3, 2)], [*(floats(2) for _ in range(3)), floats(2) ** 2]),
    Case("InstanceNormalization", [IMAGE], [floats(2), floats(2)]),
]

LOGIC = [
    *(
        Case("Cast", [(2, 3)], attributes={"to": to}, opsets=OPSETS[2:])
        for to in (TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL)
    ),
    *(Case(name, [(2, 3), (3,)], opsets=OPSETS[2:]) for name in ("Greater", "Less")),
    *(Case(name, [(2, 3), (3,)], opsets=(12, 16)) for name in ("GreaterOrEqual", "LessOrEqual")),
    Case("Equal", [(2, 3)], [floats(3)], opsets=FROM_11),
    Case(
        "Where",
        [(3,), (2, 1)],
        [np.asarray([True, False, True])],
        constants_first=True,
        opsets=OPSETS[2:],
    ),
    *(
        Case(name, [(2, 4)], attributes={"axis": axis, "keepdims": keep})
        for name in ("ArgMax", "ArgMin")
        for axis in (0, 1)
        for keep in (0, 1)
    ),
]

CASES = [*ELEMENTWISE, *ALGEBRA, *MOVEMENT, *WINDOWS, *NORMALISATION, *LOGIC]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operator_agrees_with_onnxruntime(case: Case) -> None:
    for opset in case.opsets:
        check(case, opset)
