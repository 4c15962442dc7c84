"""Networks evaluated without rounding, and in float32 in any order: what proved bounds face."""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Nonlinear
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.propagate.engine import Propagation
from absolver.analyzer.regions.box import Box
from tests.networks import NetworkBuilder, instance


class Exact(NamedTuple):
    """Dyadic rationals `numbers / 2 ** scale`, flat."""

    numbers: np.ndarray
    """Python's integers."""
    scale: int

    def at(self, scale: int) -> np.ndarray:
        return self.numbers << (scale - self.scale)

    def fractions(self) -> list[Fraction]:
        return [Fraction(int(n), 1 << self.scale) for n in self.numbers]


def exact(x: Tensor) -> Exact:
    """The exact values of a tensor of floats."""
    ratios = [float(v).as_integer_ratio() for v in x.flatten()]
    scale = max((d.bit_length() - 1 for _, d in ratios), default=0)
    numbers = [n << (scale + 1 - d.bit_length()) for n, d in ratios]
    return Exact(np.array(numbers, dtype=object), scale)


def together(*parts: Exact) -> tuple[list[np.ndarray], int]:
    """Bring numbers to one scale."""
    scale = max(part.scale for part in parts)
    return [part.at(scale) for part in parts], scale


def pick(function: Callable[..., np.ndarray]) -> Callable[..., Exact]:
    def operator(*operands: Exact) -> Exact:
        numbers, scale = together(*operands)
        return Exact(function(*numbers), scale)

    return operator


def _leaky(x: Exact) -> Exact:
    alpha = exact(torch.tensor([0.1], dtype=torch.float64))
    below = Exact(x.numbers * alpha.numbers[0], x.scale + alpha.scale)
    (scaled, whole), scale = together(below, x)
    return Exact(np.where(x.numbers < 0, scaled, whole), scale)


def _clip(x: Exact) -> Exact:
    ends = exact(torch.tensor([-0.4, 0.9], dtype=torch.float64))
    (x_, (low, high)), scale = together(x, ends)
    return Exact(np.minimum(np.maximum(x_, low), high), scale)


_OPERATORS: Mapping[str, Callable[..., Exact]] = {
    "relu": pick(lambda x: np.maximum(x, 0)),
    "abs": pick(np.abs),
    "leaky_relu": _leaky,
    "clip": _clip,
    "max": pick(np.maximum),
    "min": pick(np.minimum),
    "mul": lambda x, y: Exact(x.numbers * y.numbers, x.scale + y.scale),
    "square": lambda x: Exact(x.numbers * x.numbers, 2 * x.scale),
    "sign": lambda x: Exact(np.array([(n > 0) - (n < 0) for n in x.numbers], dtype=object), 0),
}
EXACT_OPERATORS = tuple(_OPERATORS)

Matrix = tuple[list[list[tuple[int, int]]], int]
"""For each row of a map its non-zero coefficients as integers, and their common scale."""


def matrix(linear: LinearMap) -> Matrix:
    count = int(np.prod(linear.output_shape))
    rows = linear.rows(torch.arange(count)).double().flatten(1)
    numbers, scale = exact(rows)
    numbers = numbers.reshape(rows.shape)
    return [[(int(i), int(row[i])) for i in np.flatnonzero(row)] for row in numbers], scale


class Oracle:
    """One network of float32 numbers: its exact values, and runs of it in float32."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.matrices = {
            node.name: [matrix(linear) for linear in node.maps]
            for node in graph.nodes
            if isinstance(node, Affine)
        }

    def trace(self, x: Exact) -> dict[str, Exact]:
        """Every node's values at a point, over the rationals."""
        values = {self.graph.input.name: x}
        for node in self.graph.nodes[1:]:
            match node:
                case Affine():
                    values[node.name] = self._affine(node, values)
                case Nonlinear():
                    operands = (values[name] for name in node.inputs)
                    values[node.name] = _OPERATORS[node.operator.name](*operands)
        return values

    def _affine(self, node: Affine, values: Mapping[str, Exact]) -> Exact:
        parts = []
        for (rows, scale), name in zip(self.matrices[node.name], node.inputs, strict=True):
            operand = values[name]
            sums = [sum(c * operand.numbers[i] for i, c in row) for row in rows]
            parts.append(Exact(np.array(sums, dtype=object), scale + operand.scale))
        if node.bias is not None:
            parts.append(exact(node.bias.expand(node.shape)))
        numbers, scale = together(*parts)
        return Exact(sum(numbers[1:], start=numbers[0]), scale)

    def run(self, x: Tensor, random: np.random.Generator) -> dict[str, Tensor]:
        """Every node's values in float32, each sum in an order of its own, fused or not."""
        values: dict[str, Tensor] = {self.graph.input.name: x.float()}
        for node in self.graph.nodes[1:]:
            match node:
                case Affine():
                    values[node.name] = self._run_affine(node, values, random)
                case Nonlinear():
                    values[node.name] = node.operator(*(values[i] for i in node.inputs))
        return values

    def _run_affine(
        self, node: Affine, values: Mapping[str, Tensor], random: np.random.Generator
    ) -> Tensor:
        bias = None if node.bias is None else node.bias.expand(node.shape).flatten().float().numpy()
        result = []
        operands = [values[name].flatten().numpy() for name in node.inputs]
        matrices = self.matrices[node.name]
        for o in range(len(matrices[0][0])):
            terms = [
                (np.float32(c / 2**scale), operand[i])
                for (rows, scale), operand in zip(matrices, operands, strict=True)
                for i, c in rows[o]
            ]
            if bias is not None:
                terms.append((np.float32(1), bias[o]))
            random.shuffle(terms)
            result.append(_summed(terms, random))
        return torch.tensor(np.array(result, np.float32)).view(1, *node.shape)

    def corners(self, box: Box, element: int, random: np.random.Generator) -> Iterator[Tensor]:
        """Points where bounds are met: corners, those that a row wants, and near kinks."""
        lower, upper = box.lower[element : element + 1], box.upper[element : element + 1]
        point = ((lower + upper) / 2).clone().requires_grad_()
        outputs = self.graph(point).flatten(1)
        wanted = [torch.rand(lower.shape) < 0.5 for _ in range(2)]
        for i in range(min(outputs.shape[1], 3)):
            (slope,) = torch.autograd.grad(outputs[0, i], point, retain_graph=True)
            wanted += [slope > 0, slope <= 0]
        ends = [torch.where(w, upper, lower) for w in wanted]
        yield from ends
        first = next(node for node in self.graph.nodes if isinstance(node, Nonlinear))
        for start, end in zip(ends, ends[1:], strict=False):
            # Where a neuron of the first layer is almost 0, on the way between two corners.
            low, high = (self.graph.trace(x)[first.inputs[0]].flatten() for x in (start, end))
            for i in torch.nonzero(low * high < 0).flatten()[:2]:
                share = float(low[i] / (low[i] - high[i]))
                yield (start + (end - start) * share).clamp(lower, upper).detach()


def _summed(terms: list[tuple[np.float32, np.float32]], random: np.random.Generator) -> np.float32:
    if len(terms) > 2 and random.random() < 0.5:
        cut = int(random.integers(1, len(terms)))
        return np.float32(_summed(terms[:cut], random) + _summed(terms[cut:], random))
    total = np.float32(0)
    fused = random.random() < 0.5
    for c, x in terms:
        if fused:
            # A product of two float32 is exact in float64.
            total = np.float32(np.float64(c) * np.float64(x) + np.float64(total))
        else:
            total = np.float32(total + np.float32(c * x))
    return total


def escapes(
    graph: Graph, found: Propagation, element: int, values: Mapping[str, Exact], rows: Tensor
) -> Iterator[str]:
    """The bounds that a network's values at a point are outside of."""
    output = values[graph.output.name].fractions()
    for r, bound in enumerate(found.rows[element].tolist()):
        form = sum((c * y for c, y in zip(exact(rows[r]).fractions(), output, strict=True)), 0)
        if not (bound == -torch.inf or Fraction(bound) <= form):
            yield f"row {r}: {float(form)!r} < {bound!r}"
    for name, (lower, upper) in found.hidden.items():
        ends = zip(
            lower[element].flatten().tolist(), upper[element].flatten().tolist(), strict=True
        )
        for (low, high), value in zip(ends, values[name].fractions(), strict=True):
            if not (low == -torch.inf or Fraction(low) <= value):
                yield f"{name}: {float(value)!r} < {low!r}"
            if not (high == torch.inf or value <= Fraction(high)):
                yield f"{name}: {float(value)!r} > {high!r}"


class Hard(NamedTuple):
    """A small network of float32 numbers in float64, boxes around it, and a seed."""

    graph: Graph
    box: Box
    seed: int


KINDS = ("integers", "scales", "cancellation", "decimals")


def hard_case(kind: str, seed: int, operator: str = "relu") -> Hard:
    """Make a network that rounding hurts.

    Small integers leave no rounding to hide a mistake behind; scales from 2^-14 to 2^14 and sums
    that cancel show what rounding does; decimals are what people write.
    """
    random = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        normal = torch.randn(*shape, generator=random, dtype=torch.float64)
        match kind:
            case "integers":
                return (2.5 * normal).round()
            case "scales":
                power = torch.randint(-14, 15, shape, generator=random).double()
                return (normal * 2.0**power).float().double()
            case "cancellation":
                large = torch.randint(0, 2, shape, generator=random).double()
                return (normal.round() + large * 2.0**24).float().double()
        return ((100 * normal).round() / 100).float().double()

    widths = torch.randint(1, 5, (3,), generator=random).tolist()
    builder = NetworkBuilder((1, widths[0]), random)
    builder.random = numbers  # type: ignore[method-assign]
    source = "x"
    function = instance(operator)
    arity = {"each": 2, "x": len(type(function).operands)}[type(function).operands[0]]
    for width in (*widths[1:], 2):
        operands = [_dense(builder, source, width) for _ in range(arity)]
        source = builder.operator(function, *operands)
    _dense(builder, source, 2)
    center = numbers(2, 1, widths[0]).clamp(-100, 100)
    radius = numbers(2, 1, widths[0]).abs().clamp(max=4) * torch.tensor([1.0, 0.01]).view(2, 1, 1)
    radius = torch.where(torch.rand(radius.shape, generator=random) < 0.2, 0, radius)
    lower, upper = (center - radius).float().double(), (center + radius).float().double()
    return Hard(builder.graph(), Box(lower, upper), seed)


def hard_cases(operator: str = "relu") -> st.SearchStrategy[Hard]:
    """Hard networks of every kind."""
    return st.builds(hard_case, st.sampled_from(KINDS), st.integers(0, 2**31), st.just(operator))


def _dense(builder: NetworkBuilder, source: str, width: int) -> str:
    shape = builder.shape(source)
    weight, bias = builder.random(width, shape[-1]), builder.random(width)
    return builder.affine({source: Dense(weight, shape)}, bias)
