"""Single ONNX nodes with attributes at their corners, for the reader to misread.

Each family draws (kind, operands, attributes, opset): an operand is the shape of a variable or a
constant array, and None is an operand that is left out.
"""

from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper


class Node(NamedTuple):
    """A model of one node, before it is written."""

    kind: str
    operands: tuple[tuple[int, ...] | np.ndarray | None, ...]
    attributes: dict[str, object]
    opset: int = 17
    outputs: int = 1


def model(node: Node) -> bytes:
    """The ONNX bytes; variables are inputs x0, x1, ... of floats."""
    inputs, weights, names = [], [], []
    for k, operand in enumerate(node.operands):
        if operand is None:
            names.append("")
        elif isinstance(operand, tuple):
            names.append(f"x{k}")
            inputs.append(helper.make_tensor_value_info(f"x{k}", TensorProto.FLOAT, operand))
        else:
            names.append(f"c{k}")
            weights.append(numpy_helper.from_array(operand, f"c{k}"))
    outputs = [f"y{k}" for k in range(node.outputs)]
    proto = helper.make_node(node.kind, names, outputs, **node.attributes)
    infos = [helper.make_tensor_value_info(y, TensorProto.FLOAT, None) for y in outputs]
    graph = helper.make_graph([proto], "node", inputs, infos, weights)
    opset = [helper.make_opsetid("", node.opset)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def _floats(random: Random, *shape: int) -> np.ndarray:
    values = [random.randint(-3, 3) for _ in range(int(np.prod(shape)))]
    return np.array(values, np.float32).reshape(shape)


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _windows(random: Random, axes: int, *, dilated: bool = True) -> dict[str, object]:
    """Strides, dilations and pads (asymmetric, or automatic), some of them left out."""
    attributes: dict[str, object] = {}
    if random.random() < 0.7:
        attributes["strides"] = [random.randint(1, 3) for _ in range(axes)]
    if dilated and random.random() < 0.4:
        attributes["dilations"] = [random.randint(1, 2) for _ in range(axes)]
    choice = random.random()
    if choice < 0.5:
        attributes["pads"] = [random.randint(0, 1) for _ in range(2 * axes)]
    elif choice < 0.8 and "dilations" not in attributes:
        attributes["auto_pad"] = random.choice(("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"))
    return attributes


def _conv(random: Random) -> Node:
    axes, groups = random.choice((1, 2, 2, 3)), random.choice((1, 1, 2))
    size = tuple(random.randint(4, 6) for _ in range(axes))
    kernel = tuple(random.randint(1, 3) for _ in range(axes))
    weight = _floats(random, 2 * groups, 2, *kernel)
    bias = _floats(random, 2 * groups) if random.random() < 0.5 else None
    attributes = _windows(random, axes)
    if groups > 1:
        attributes["group"] = groups
    if random.random() < 0.5:
        attributes["kernel_shape"] = list(kernel)
    return Node("Conv", ((1, 2 * groups, *size), weight, bias), attributes)


def _conv_transpose(random: Random) -> Node:
    axes, groups = random.choice((1, 2)), random.choice((1, 2))
    size = tuple(random.randint(2, 4) for _ in range(axes))
    kernel = tuple(random.randint(1, 3) for _ in range(axes))
    weight = _floats(random, 2 * groups, 2, *kernel)
    attributes = _windows(random, axes)
    attributes["group"] = groups
    strides = attributes.get("strides", [1] * axes)
    if random.random() < 0.3:
        attributes["output_padding"] = [random.randint(0, s - 1) for s in strides]
    if random.random() < 0.2:
        attributes["output_shape"] = [n * s for n, s in zip(size, strides, strict=True)]
    bias = _floats(random, 2 * groups) if random.random() < 0.5 else None
    return Node("ConvTranspose", ((1, 2 * groups, *size), weight, bias), attributes)


def _pool(random: Random) -> Node:
    axes = random.choice((1, 2))
    size = tuple(random.randint(3, 6) for _ in range(axes))
    kind = random.choice(("MaxPool", "AveragePool"))
    opset = random.choice((11, 17, 19))
    attributes = _windows(random, axes, dilated=kind == "MaxPool" or opset == 19)
    attributes["kernel_shape"] = [random.randint(2, 3) for _ in range(axes)]
    if random.random() < 0.5:
        attributes["ceil_mode"] = random.randint(0, 1)
    if kind == "AveragePool" and random.random() < 0.5:
        attributes["count_include_pad"] = random.randint(0, 1)
    return Node(kind, ((1, 2, *size),), attributes, opset)


def _gemm(random: Random) -> Node:
    m, k, n = 2, 3, 4
    attributes: dict[str, object] = {}
    left, right = (m, k), (k, n)
    if random.random() < 0.5:
        attributes["transA"], left = 1, (k, m)
    if random.random() < 0.5:
        attributes["transB"], right = 1, (n, k)
    if random.random() < 0.4:
        attributes["alpha"] = random.choice((0.0, 2.0, -0.1))
    if random.random() < 0.4:
        attributes["beta"] = random.choice((0.0, 0.5, 0.1))
    shape = random.choice(((), (1,), (n,), (1, n), (m, 1), (m, n), None))
    third = None if shape is None else random.choice((shape, _floats(random, *shape)))
    operands = random.choice(
        ((left, _floats(random, *right)), (_floats(random, *left), right), (left, right))
    )
    return Node("Gemm", (*operands, third), attributes, random.choice((11, 13)))


def _matmul(random: Random) -> Node:
    pairs = (
        ((2, 3), (3, 4)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((3,), (3,)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((2, 1, 2, 3), (5, 3, 1)),
        ((1, 2, 3), (4, 3, 2)),
    )
    left, right = random.choice(pairs)
    first, second = random.choice(
        ((left, right), (left, _floats(random, *right)), (_floats(random, *left), right))
    )
    return Node("MatMul", (first, second), {})


def _elementwise(random: Random) -> Node:
    kind = random.choice(("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "PRelu", "Pow"))
    left, right = random.choice((((2, 3), (3,)), ((1,), (2, 3)), ((2, 1), (1, 3)), ((2, 3), ())))
    constant = _floats(random, *right)
    if kind == "Div":
        constant = np.where(constant == 0, 3, constant).astype(np.float32)
    if kind == "Pow":
        constant = np.array(random.choice((1, 2, 3)), np.float32)
    second = constant if kind in ("PRelu", "Pow") else random.choice((right, constant))
    operands = (left, second)
    if kind in ("Add", "Sub", "Mul", "Max", "Min") and random.random() < 0.3:
        operands = (constant, left)
    if kind in ("Max", "Min", "Sum", "Mean") and random.random() < 0.4:
        operands = (left, right, _floats(random, 3))
    return Node(kind, operands, {})


def _curve(random: Random) -> Node:
    attributes: dict[str, dict[str, object]] = {
        "LeakyRelu": {"alpha": random.choice((0.1, -0.5, 2.0))},
        "HardSigmoid": {"alpha": 0.3, "beta": 0.4} if random.random() < 0.5 else {},
        "Elu": {"alpha": 0.5},
    }
    names = ("Relu", "Abs", "Neg", "Sign", "Floor", "Ceil", "Sigmoid", "Tanh", "Exp", "Identity")
    more = ("Sin", "Cos", "Softsign", "Softplus", "Selu", "Celu", "Erf")
    kind = random.choice((*names, *more, *attributes))
    return Node(kind, ((2, 3),), attributes.get(kind, {}))


def _clip(random: Random) -> Node:
    if random.random() < 0.3:
        limits: dict[str, object] = {"min": -0.5, "max": random.choice((0.75, -2.0))}
        return Node("Clip", ((2, 3),), random.choice((limits, {"min": 0.25}, {"max": 0.5})), 6)
    low = random.choice((None, np.array(-0.5, np.float32), np.array(0.9, np.float32)))
    high = random.choice((None, np.array(0.75, np.float32), ()))
    return Node("Clip", ((2, 3), low, high), {}, random.choice((11, 13)))


def _slice(random: Random) -> Node:
    if random.random() < 0.2:
        return Node("Slice", ((4, 5),), {"starts": [-3], "ends": [2**31], "axes": [1]}, 9)
    starts = [random.randint(-6, 6) for _ in range(2)]
    ends = [random.choice((*range(-7, 7), 2**31, -(2**31), 2**63 - 1)) for _ in range(2)]
    steps = [random.choice((1, 2, -1, -2)) for _ in range(2)]
    axes = random.choice(((0, 1), (1, 0), (-1, -2)))
    extra = random.choice(((), (_ints(*axes),), (_ints(*axes), _ints(*steps))))
    return Node("Slice", ((4, 5), _ints(*starts), _ints(*ends), *extra), {})


def _movement(random: Random) -> Node:
    modes = {"mode": random.choice(("DCR", "CRD"))}
    pads = _ints(*(random.randint(-1, 2) for _ in range(4)))
    nodes = (
        Node(
            "Reshape", ((2, 3, 4), _ints(*random.choice(((0, -1), (4, 0, -1), (-1,), (2, 12))))), {}
        ),
        Node("Flatten", ((2, 3, 4),), {"axis": random.choice((0, 1, 2, 3, -1, -2))}),
        Node("Transpose", ((2, 3, 4),), random.choice(({}, {"perm": [1, 2, 0]}))),
        Node("Squeeze", ((1, 3, 1),), {"axes": random.choice(([0], [-1], [0, 2]))}, 11),
        Node("Squeeze", ((1, 3, 1), *random.choice(((), (_ints(-1),)))), {}),
        Node("Unsqueeze", ((2, 3),), {"axes": [0, -1]}, 11),
        Node("Unsqueeze", ((2, 3), _ints(*random.choice(((0, 3), (-1,), (3, 0))))), {}),
        Node("Gather", ((3, 4), _ints(-1, 0, 2)), {"axis": random.choice((0, 1, -1))}),
        Node("Gather", ((3, 4), np.array([[0, 1], [-2, -1]])), {"axis": 1}),
        Node("Gather", ((3, 4), np.array(-1)), {"axis": random.choice((0, 1))}),
        Node("GatherElements", ((3, 4), np.array([[0, -1, 2, 1]])), {"axis": 0}),
        Node("GatherND", ((3, 4), np.array([[0, -1], [2, 1]])), {}),
        Node("GatherND", ((2, 3, 4), np.array([[1], [-1]])), {"batch_dims": 1}),
        Node("Expand", ((3, 1), _ints(*random.choice(((2, 1, 4), (3, 4), (1,), (1, 1))))), {}),
        Node("Tile", ((2, 3), _ints(2, 3)), {}),
        Node("DepthToSpace", ((1, 8, 2, 3),), {"blocksize": 2, **modes}),
        Node("SpaceToDepth", ((1, 2, 4, 6),), {"blocksize": 2}),
        Node("Pad", ((3, 4), pads), {}),
        Node("Pad", ((3, 4), pads, np.array(2.5, np.float32)), {"mode": "constant"}),
        Node("Pad", ((3, 4), abs(pads)), {"mode": random.choice(("reflect", "edge"))}),
        Node("Pad", ((3, 4),), {"pads": [1, 0, 0, 2], "value": 1.5}, 10),
        Node("Pad", ((3, 4), _ints(1, 2), None, _ints(-1)), {}, 18),
        Node("Split", ((2, 7), _ints(1, 4, 2)), {"axis": -1}, outputs=3),
        Node("Split", ((2, 6),), {"axis": 1}, outputs=3),
        Node("Split", ((2, 7),), {"axis": 1, "num_outputs": 3}, 18, 3),
        Node("Split", ((2, 6),), {"axis": 1, "split": [1, 5]}, 11, 2),
        Node("Concat", ((2, 3), (2, 1), _floats(random, 2, 2)), {"axis": random.choice((1, -1))}),
        Node("ScatterND", ((4,), np.array([[1], [-1], [1]]), (3,)), {}),
        Node("Where", (np.array([[True], [False]]), (2, 3), random.choice(((3,), (1,)))), {}),
        Node("Dropout", ((2, 3),), {}),
    )
    return random.choice(nodes)


def _reduce(random: Random) -> Node:
    kind = random.choice(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2"))
    kind = random.choice((kind, "ReduceSumSquare"))
    axes = random.choice(([0], [-1], [0, 2], [1, -1], [2, 0]))
    attributes: dict[str, object] = {}
    if random.random() < 0.5:
        attributes["keepdims"] = random.randint(0, 1)
    if kind == "ReduceSum" or random.random() < 0.3:
        opset = 13 if kind == "ReduceSum" else 18
        if random.random() < 0.3:
            attributes["noop_with_empty_axes"] = random.randint(0, 1)
        operand = random.choice((None, _ints(*axes), _ints()))
        return Node(kind, ((2, 3, 4), operand), attributes, opset)
    if random.random() < 0.8:
        attributes["axes"] = axes
    return Node(kind, ((2, 3, 4),), attributes, 12)


def _normal(random: Random) -> Node:
    axis = random.choice((0, 1, -1))
    scale = _floats(random, 3)
    nodes = (
        Node("Softmax", ((2, 3, 2),), random.choice(({}, {"axis": axis})), random.choice((11, 13))),
        Node("LogSoftmax", ((2, 3),), {"axis": axis}, random.choice((11, 13))),
        Node("GlobalAveragePool", ((1, 2, 3, 3),), {}),
        Node("GlobalMaxPool", ((1, 2, 3, 3),), {}),
        Node(
            "BatchNormalization",
            ((1, 3, 2), scale, _floats(random, 3), _floats(random, 3), abs(scale) + 1),
            random.choice(({}, {"epsilon": 0.5})),
        ),
        Node("LayerNormalization", ((2, 3), scale, scale), random.choice(({}, {"axis": -1}))),
        Node("LayerNormalization", ((2, 3), _floats(random, 2, 3)), {"axis": 0, "epsilon": 0.5}),
        Node("InstanceNormalization", ((1, 3, 4), scale, scale), {"epsilon": 0.1}),
        Node("ArgMax", ((2, 3),), {"axis": axis}),
        Node("LRN", ((1, 3, 2, 2),), {"size": 3}),
        Node(
            "Resize",
            ((1, 1, 3, 3), None, np.array([1, 1, 2, 1.5], np.float32)),
            {"mode": random.choice(("nearest", "linear"))},
        ),
        Node(
            "Resize",
            ((1, 1, 3, 4), None, None, _ints(1, 1, 5, 2)),
            {
                "mode": "nearest",
                "nearest_mode": random.choice(
                    ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
                ),
                "coordinate_transformation_mode": random.choice(
                    ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel")
                ),
            },
        ),
        Node("Upsample", ((1, 1, 2, 3), np.array([1, 1, 2, 3], np.float32)), {}, 9),
    )
    return random.choice(nodes)


NODES: Mapping[str, Callable[[Random], Node]] = MappingProxyType(
    {
        "convolution": _conv,
        "transposed convolution": _conv_transpose,
        "pooling": _pool,
        "gemm": _gemm,
        "matmul": _matmul,
        "elementwise": _elementwise,
        "curve": _curve,
        "clip": _clip,
        "slice": _slice,
        "movement": _movement,
        "reduction": _reduce,
        "normalisation": _normal,
    }
)
