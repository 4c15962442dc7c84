"""Random small networks with random properties, as files and for the enumeration of their pieces.

Everything of an instance follows from its number. Numbers are dyadic, so that what the files say
is what is enumerated.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.enumeration import (
    Affine,
    Disjunct,
    Form,
    HalfSpace,
    Network,
    Operator,
    Question,
    Step,
    Sum,
    bent,
    extremes,
    largest,
    unsafe,
)

ZERO, ONE = Fraction(0), Fraction(1)
RELU = bent((ZERO, ZERO), (ONE, ZERO), kinks=[ZERO])
SHAPES = ("relu", "leaky_relu", "abs", "clip", "deep", "residual", "convolution", "max_pool")
QUESTIONS = ("single", "strict", "conjunction", "disjunction", "polytope", "unbounded", "point")
MARGINS = ("touching", "near", "near", "wide", "wide", "inside")
ACTIVATIONS = {
    "Relu": ({}, RELU),
    "LeakyRelu": ({"alpha": 0.25}, bent((Fraction(1, 4), ZERO), (ONE, ZERO), kinks=[ZERO])),
    "Abs": ({}, bent((-ONE, ZERO), (ONE, ZERO), kinks=[ZERO])),
    "Clip": (
        {},
        bent((ZERO, -ONE), (ONE, ZERO), (ZERO, Fraction(3, 2)), kinks=[-ONE, Fraction(3, 2)]),
    ),
}


@dataclass(frozen=True)
class Instance:
    """A network and a question, and how both are called."""

    number: int
    kind: str
    network: Network
    question: Question
    model: onnx.ModelProto
    text: str

    @cached_property
    def unsafe(self) -> bool:
        """Whether there is a counterexample, by enumeration."""
        return unsafe(self.network, self.question)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the network and the property."""
        network, query = folder / f"{self.number}.onnx", folder / f"{self.number}.vnnlib"
        network.write_bytes(self.model.SerializeToString())
        query.write_text(self.text)
        return network, query


def instance(number: int) -> Instance:
    """Return the instance of a number."""
    random = np.random.default_rng(number)
    shape = SHAPES[number % len(SHAPES)]
    builder = _Builder(random, inputs=2 if number % 3 else 3)
    builder.build(shape)
    network = Network(builder.inputs, tuple(builder.steps))
    asked = QUESTIONS[number // len(SHAPES) % len(QUESTIONS)]
    margin = str(random.choice(MARGINS))
    question = _question(random, network, asked, margin)
    text = _text(question, network.inputs, len(builder.outputs))
    kind = f"{shape} {asked} {margin}"
    return Instance(number, kind, network, question, builder.model(), text)


@dataclass
class _Builder:
    """Adds layers to a network and to its file."""

    random: np.random.Generator
    inputs: int
    steps: list[Step] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    tensors: list[str] = field(default_factory=lambda: ["x"])
    outputs: list[int] = field(default_factory=lambda: [0, 1])

    def build(self, shape: str) -> None:
        """Build a network of one of the shapes, with at most 30 neurons."""
        size = int(self.random.integers(3, 7))
        match shape:
            case "relu" | "leaky_relu" | "abs" | "clip":
                kind = {"relu": "Relu", "leaky_relu": "LeakyRelu", "abs": "Abs", "clip": "Clip"}
                last = self._layer(self._layer(0, self.inputs, size, kind[shape]), size, size - 1)
                size -= 1
            case "deep":
                last = self._layer(0, self.inputs, 10)
                last = self._layer(self._layer(last, 10, 10), 10, 10)
                size = 10
            case "residual":
                first = self._layer(0, self.inputs, size)
                second = self._layer(first, size, size)
                self.steps.append(Sum(first, second))
                last = self._node("Add", [self.tensors[first], self.tensors[second]])
            case "convolution" | "max_pool":
                last, size = self._convolution(pooled=shape == "max_pool")
        self._dense(last, size, len(self.outputs))

    def model(self) -> onnx.ModelProto:
        """Return the file."""
        inputs, outputs = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
            for name, size in (("x", self.inputs), (self.tensors[-1], len(self.outputs)))
        )
        graph = helper.make_graph(self.nodes, "random", [inputs], [outputs], self.weights)
        opset = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8)

    def _layer(self, of: int, inputs: int, outputs: int, kind: str = "Relu") -> int:
        return self._activation(self._dense(of, inputs, outputs), outputs, kind)

    def _dense(self, of: int, inputs: int, outputs: int) -> int:
        matrix, bias = self._numbers(outputs, inputs), self._numbers(outputs)
        self.steps.append(Affine(_exact(matrix), _exact(bias), of))
        operands = [self.tensors[of], self._weight(matrix), self._weight(bias)]
        return self._node("Gemm", operands, transB=1)

    def _activation(self, of: int, size: int, kind: str) -> int:
        attributes, pieces = ACTIVATIONS[kind]
        self.steps.append(Operator(pieces, [[i] for i in range(size)], of))
        operands = [self.tensors[of]]
        if kind == "Clip":
            ends = (np.array(-1.0), np.array(1.5))
            operands += [self._weight(end) for end in ends]
        return self._node(kind, operands, **attributes)

    def _convolution(self, *, pooled: bool) -> tuple[int, int]:
        """Add a dense layer, seen as an image of 3 x 3, and a convolution of it to 2 x 2."""
        image = self._layer(0, self.inputs, 9) if not pooled else self._dense(0, self.inputs, 9)
        shape = self._weight(np.array([1, 1, 3, 3], np.int64))
        self.nodes.append(
            helper.make_node("Reshape", [self.tensors[image], shape], ["image"], "reshape")
        )
        kernel, bias = self._numbers(2, 1, 2, 2), self._numbers(2)
        matrix = np.zeros((2, 2, 2, 3, 3))
        for row in range(2):
            for column in range(2):
                matrix[:, row, column, row : row + 2, column : column + 2] = kernel[:, 0]
        self.steps.append(Affine(_exact(matrix.reshape(8, 9)), _exact(bias.repeat(4)), image))
        operands = ["image", self._weight(kernel), self._weight(bias)]
        last = self._activation(self._node("Conv", operands), 8, "Relu")
        size = 8
        if pooled:
            groups = [[0, 1, 2, 3], [4, 5, 6, 7]]
            self.steps.append(Operator(largest, groups, last))
            last, size = self._node("MaxPool", [self.tensors[last]], kernel_shape=[2, 2]), 2
        flat = f"flat{last}"
        self.nodes.append(helper.make_node("Flatten", [self.tensors[last]], [flat], flat))
        self.tensors[last] = flat
        return last, size

    def _node(self, kind: str, operands: Sequence[str], **attributes: object) -> int:
        number = len(self.tensors)
        self.tensors.append(f"t{number}")
        self.nodes.append(
            helper.make_node(kind, operands, [f"t{number}"], f"node{number}", **attributes)
        )
        return number

    def _weight(self, values: NDArray[np.generic]) -> str:
        name = f"w{len(self.weights)}"
        kept = values if values.dtype == np.int64 else values.astype(np.float32)
        self.weights.append(numpy_helper.from_array(kept, name))
        return name

    def _numbers(self, *shape: int) -> NDArray[np.float64]:
        """Draw weights: quarters, some of them 0, so that values meet kinks exactly."""
        found: NDArray[np.float64] = self.random.integers(-6, 7, shape) / 4.0
        return found


def _exact(values: NDArray[np.float64]) -> list:  # type: ignore[type-arg]
    if values.ndim == 1:
        return [Fraction(value) for value in values.tolist()]
    return [[Fraction(value) for value in row] for row in values.tolist()]


def _question(random: np.random.Generator, network: Network, asked: str, margin: str) -> Question:
    """Ask something near the truth."""
    low = [Fraction(int(i), 2) for i in random.integers(-3, 2, network.inputs)]
    wide = [Fraction(int(i), 2) for i in random.integers(1, 5, network.inputs)]
    if asked == "point":
        fixed = random.integers(0, 2, network.inputs)
        wide = [w if keep else ZERO for w, keep in zip(wide, fixed.tolist(), strict=True)]
    box = tuple((a, a + w) for a, w in zip(low, wide, strict=True))
    first, second = (_unit(number) for number in random.permutation(2))
    if random.integers(3) == 0:
        first = (ONE, -ONE, ZERO)
    found = extremes(network, box, first)
    disjunct = _below(first, _threshold(random, found, margin), strict=asked == "strict")
    match asked:
        case "conjunction":
            middle = extremes(network, box, second)
            other = _below(second, _written((middle[0][0] + middle[-1][0]) / 2))
            return Question(box, (Disjunct((), (disjunct, other)),))
        case "disjunction":
            deep = _below(second, _written(extremes(network, box, second)[0][0] - 1))
            half = HalfSpace((ONE, *(ZERO for _ in low[1:]), -_written(low[0] + wide[0] / 2)))
            disjuncts = (Disjunct((half,), (disjunct,)), Disjunct((), (deep,)))
            return Question(box, disjuncts)
        case "polytope" | "unbounded":
            share = Fraction(int(random.integers(1, 4)), 4)
            reach = sum(low, ZERO) + share * sum(wide, ZERO)
            side = HalfSpace((*(ONE for _ in low), -reach))
            if asked == "unbounded":
                # The side bounds what the box leaves wide open.
                inside = tuple((a, a + max(reach - sum(low, ZERO), ZERO)) for a in low)
                found = extremes(network, inside, first)
                disjunct = _below(first, _threshold(random, found, margin))
                wide_box = tuple((a, 3 * b - 2 * a + 2) for a, b in inside)
                return Question(wide_box, (Disjunct((side,), (disjunct,)),))
            # No point is on both of these sides; every one would be unsafe.
            nowhere = (side, HalfSpace((*(-ONE for _ in low), reach + Fraction(1, 4))))
            anything = _below(second, _written(extremes(network, box, second)[-1][0] + 1))
            return Question(box, (Disjunct((side,), (disjunct,)), Disjunct(nowhere, (anything,))))
    return Question(box, (Disjunct((), (disjunct,)),))


def _threshold(
    random: np.random.Generator,
    found: Sequence[tuple[Fraction, tuple[Fraction, ...]]],
    margin: str,
) -> Fraction:
    """Return a threshold that is met only just, nearly, or clearly, or not."""
    least, most = found[0][0], found[-1][0]
    side = int(random.choice([-1, 1]))
    match margin:
        case "touching":
            exact = all(_is_short(x) for x in (*found[0][1], least))
            return least if exact else _written(least - Fraction(1, 10**4))
        case "near":
            return _written(least + side * Fraction(1, 10 ** int(random.integers(3, 6))))
        case "wide":
            return _written(least + side * max(most - least, ONE) / 20)
    return _written((least + most) / 2)


def _is_short(value: Fraction) -> bool:
    """Say whether a number is one of binary32 with few digits, which nothing rounds."""
    return value.denominator in {2**k for k in range(10)} and abs(value) < 1000


def _written(value: Fraction) -> Fraction:
    """Round to a decimal with few digits."""
    return Fraction(round(value * 10**7), 10**7)


def _unit(number: int) -> Form:
    return (ONE, ZERO, ZERO) if number == 0 else (ZERO, ONE, ZERO)


def _below(form: Form, threshold: Fraction, *, strict: bool = False) -> HalfSpace:
    return HalfSpace((*form[:-1], -threshold), strict)


def _text(question: Question, inputs: int, outputs: int) -> str:
    lines = [f"(declare-const X_{i} Real)" for i in range(inputs)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(outputs)]
    for i, (low, high) in enumerate(question.box):
        lines.append(f"(assert (>= X_{i} {_decimal(low)}))")
        lines.append(f"(assert (<= X_{i} {_decimal(high)}))")
    disjuncts = [
        _joined(
            "and",
            [_comparison("X", h) for h in disjunct.on_inputs]
            + [_comparison("Y", h) for h in disjunct.on_outputs],
        )
        for disjunct in question.disjuncts
    ]
    lines.append(f"(assert {_joined('or', disjuncts)})")
    return "\n".join(lines) + "\n"


def _joined(word: str, parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({word} {' '.join(parts)})"


def _comparison(letter: str, half_space: HalfSpace) -> str:
    terms = [
        f"{letter}_{i}" if c == 1 else f"(* {_decimal(c)} {letter}_{i})"
        for i, c in enumerate(half_space.form[:-1])
        if c
    ]
    relation = "<" if half_space.strict else "<="
    return f"({relation} {_joined('+', terms)} {_decimal(-half_space.form[-1])})"


def _decimal(value: Fraction) -> str:
    """Write a number whose denominator divides a power of ten."""
    written = Decimal(value.numerator) / Decimal(value.denominator)
    assert Fraction(written) == value
    return f"{written:f}"
