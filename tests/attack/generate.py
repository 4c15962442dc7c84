"""Small random networks, their ONNX bytes, and what they compute, exactly and in binary32.

Nothing here shares code with the reader, the kernel or the analyzer: a network is a list of steps,
each an explicit sum of products or a function of single elements.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random

import mpmath
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.attack.binary32 import random_dot, round32

Values = dict[str, list[Fraction]]

TRANSCENDENTAL = ("Sigmoid", "Sin", "Cos")
"""Functions whose values are no rationals."""


@dataclass(frozen=True)
class Sums:
    """An affine step: for each output its products (weight, tensor, element), and a bias."""

    products: tuple[tuple[tuple[Fraction, str, int], ...], ...]
    bias: tuple[Fraction | None, ...]


@dataclass(frozen=True)
class Curve:
    """A step that applies a function to each entry of its operands (tensor, elements)."""

    function: str
    operands: tuple[tuple[str, tuple[int, ...]], ...]
    attributes: tuple[Fraction, ...] = ()


@dataclass(frozen=True)
class Bounded:
    """An operator as certificates name it, with the tensor and size that each operand bounds."""

    name: str
    function: str
    size: int
    operands: tuple[tuple[str, int], ...]


@dataclass
class Network:
    """A network under construction; every method adds one ONNX node and returns its output."""

    shape: tuple[int, ...]
    steps: dict[str, Sums | Curve] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    nodes: list[object] = field(default_factory=list)
    weights: list[object] = field(default_factory=list)
    operators: list[Bounded] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    output: str = "x"

    def __post_init__(self) -> None:
        self.shapes["x"] = self.shape

    def size(self, tensor: str) -> int:
        return int(np.prod(self.shapes[tensor]))

    def dense(self, source: str, weight: Sequence[Sequence[float]], bias: Sequence[float]) -> str:
        rows = [
            tuple((Fraction(w), source, j) for j, w in enumerate(row) if w != 0) for row in weight
        ]
        name = self.constants(np.array(weight), np.array(bias))
        shape = (1, len(bias))
        step = Sums(tuple(rows), tuple(Fraction(b) for b in bias))
        return self._add("Gemm", [source, *name], shape, step, transB=1)

    def conv(self, source: str, weight: np.ndarray, bias: Sequence[float], stride: int) -> str:
        """A convolution of one image with padding 1 before and 0 after each axis."""
        channels, height, width = self.shapes[source][1:]
        outputs, _, k, _ = weight.shape
        rows, biases = [], []
        high, wide = (height + 1 - k) // stride + 1, (width + 1 - k) // stride + 1
        for o in range(outputs):
            for r in range(high):
                for c in range(wide):
                    terms = []
                    for i, p, q in np.ndindex(channels, k, k):
                        y, x = r * stride - 1 + p, c * stride - 1 + q
                        if 0 <= y < height and 0 <= x < width and weight[o, i, p, q] != 0:
                            index = (i * height + y) * width + x
                            terms.append((Fraction(float(weight[o, i, p, q])), source, index))
                    rows.append(tuple(terms))
                    biases.append(Fraction(bias[o]))
        name = self.constants(weight, np.array(bias))
        step = Sums(tuple(rows), tuple(biases))
        shape = (1, outputs, high, wide)
        attributes = {"strides": [stride, stride], "pads": [1, 1, 0, 0]}
        return self._add("Conv", [source, *name], shape, step, **attributes)

    def add(self, first: str, second: str) -> str:
        one = Fraction(1)
        rows = tuple(((one, first, i), (one, second, i)) for i in range(self.size(first)))
        step = Sums(rows, (None,) * len(rows))
        return self._add("Add", [first, second], self.shapes[first], step)

    def flatten(self, source: str) -> str:
        size = self.size(source)
        step = Sums(tuple(((Fraction(1), source, i),) for i in range(size)), (None,) * size)
        name = self._add("Flatten", [source], (1, size), step)
        self.sources[name] = self.sources.get(source, source)
        return name

    def curve(self, function: str, *sources: str, **attributes: float) -> str:
        """Apply Relu, Abs, Sin, Mul, Max, ... to entries at the same place."""
        every = tuple(range(self.size(sources[0])))
        operands = tuple((source, every) for source in sources)
        values = tuple(Fraction(float(np.float32(v))) for v in attributes.values())
        step = Curve(function, operands, values)
        name = self._add(function, list(sources), self.shapes[sources[0]], step, **attributes)
        self._operator(name, function, len(every), [source for source, _ in operands])
        return name

    def max_pool(self, source: str, pad: int) -> str:
        """Windows of 2 by 2 with stride 2, `pad` cells before each axis."""
        channels, height, width = self.shapes[source][1:]
        high, wide = (height + pad - 2) // 2 + 1, (width + pad - 2) // 2 + 1
        cells: list[list[int]] = [[], [], [], []]
        for i, r, c in np.ndindex(channels, high, wide):
            for k, (p, q) in enumerate(np.ndindex(2, 2)):
                y, x = max(r * 2 - pad + p, 0), max(c * 2 - pad + q, 0)
                cells[k].append((i * height + y) * width + x)
        step = Curve("Max", tuple((source, tuple(cell)) for cell in cells))
        shape = (1, channels, high, wide)
        attributes = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [pad, pad, 0, 0]}
        name = self._add("MaxPool", [source], shape, step, **attributes)
        self._operator(name, "Max", len(cells[0]), [source] * 4)
        return name

    def constants(self, *arrays: np.ndarray) -> list[str]:
        names = []
        for array in arrays:
            names.append(f"c{len(self.weights)}")
            self.weights.append(numpy_helper.from_array(array.astype(np.float32), names[-1]))
        return names

    def model(self) -> bytes:
        inputs, outputs = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, self.shapes[name])
            for name in ("x", self.output)
        )
        graph = helper.make_graph(self.nodes, "attack", [inputs], [outputs], self.weights)
        opset = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()

    def exact(self, point: Sequence[Fraction]) -> Values:
        """Every tensor's value over the reals; of smooth functions to 60 digits."""
        return self._run(point, _exact_sum, lambda value: value)

    def execution(self, point: Sequence[Fraction], random: Random) -> Values:
        """One execution in binary32: random orders, blockings and fused operations."""

        def total(terms: list[tuple[Fraction, Fraction]], bias: Fraction | None) -> Fraction:
            return random_dot(terms, bias, random)

        return self._run(point, total, round32)

    def _run(
        self,
        point: Sequence[Fraction],
        total: Callable[[list[tuple[Fraction, Fraction]], Fraction | None], Fraction],
        rounded: Callable[[Fraction], Fraction],
    ) -> Values:
        values: Values = {"x": list(point)}
        for name, step in self.steps.items():
            if isinstance(step, Sums):
                values[name] = [
                    total([(w, values[t][i]) for w, t, i in products], bias)
                    for products, bias in zip(step.products, step.bias, strict=True)
                ]
                continue
            columns = [[values[tensor][i] for i in every] for tensor, every in step.operands]
            values[name] = [
                rounded(_curve(step, entries)) for entries in zip(*columns, strict=True)
            ]
        return values

    def _add(
        self,
        kind: str,
        sources: list[str],
        shape: tuple[int, ...],
        step: Sums | Curve,
        **attributes: object,
    ) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, sources, [name], **attributes))
        self.steps[name], self.shapes[name], self.output = step, shape, name
        return name

    def _operator(self, name: str, function: str, size: int, sources: list[str]) -> None:
        tensors = [self.sources.get(source, source) for source in sources]
        operands = tuple((tensor, self.size(tensor)) for tensor in tensors)
        self.operators.append(Bounded(f"{name}#0", function, size, operands))


def _exact_sum(terms: list[tuple[Fraction, Fraction]], bias: Fraction | None) -> Fraction:
    return sum((w * x for w, x in terms), bias or Fraction(0))


def _curve(step: Curve, entries: Sequence[Fraction]) -> Fraction:
    x, zero = entries[0], Fraction(0)
    match step.function:
        case "Relu":
            return max(x, zero)
        case "LeakyRelu":
            return x if x > 0 else step.attributes[0] * x
        case "Abs":
            return abs(x)
        case "Max":
            return max(entries)
        case "Mul":
            return x * entries[1]
        case "Sigmoid" | "Sin" | "Cos":
            with mpmath.workdps(60):
                function = getattr(mpmath, step.function.lower())
                value = function(mpmath.mpf(x.numerator) / x.denominator)
                return Fraction(str(mpmath.nstr(value, 50)))
    raise ValueError(step.function)
