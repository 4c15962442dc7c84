"""Small networks for the tests of the kernel, run exactly and in float32."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from absolver.certificates.arithmetic import arithmetic
from absolver.certificates.boxes import Lines
from absolver.certificates.groups import RowRequest
from absolver.certificates.kernel import Facts, Kernel, Proposals
from absolver.certificates.network import Affine, Network, Operator, Product, Tensor
from absolver.certificates.semantics import profile
from absolver.certificates.terms import Form, Terms

TIERS = ("fast", "exact", "rational")
Layer = tuple[np.ndarray, np.ndarray]


def dense(*layers: Layer) -> Network:
    """Affine nodes `W x + b` with ReLU between them; W has a row for each output."""
    inputs = layers[0][0].shape[1]
    nodes: list[Affine | Operator | None] = [None]
    for i, (weight, bias) in enumerate(layers):
        factor = Product(np.array(weight.T[None], np.float64), 1)
        terms = ((len(nodes) - 1, factor),)
        bias = np.array(bias, np.float64)
        nodes.append(Affine(terms, bias, weight.shape[1] + 1, f"z{i}", len(bias)))
        if i < len(layers) - 1:
            nodes.append(Operator("relu", (len(nodes) - 1,), {}, "relu", f"h{i}#0", len(bias)))
    sizes = (inputs, *(node.size for node in nodes if node is not None))
    tensors = [(Tensor(name, (n,), "float32"),) for name, n in (("x", inputs), ("y", sizes[-1]))]
    return Network(tuple(nodes), *tensors, len(nodes) - 1, sizes)


def network_of(*nodes, inputs):
    sizes = (inputs, *(node.size for node in nodes))
    tensors = (Tensor("x", (inputs,), "float32"),), (Tensor("y", (sizes[-1],), "float32"),)
    return Network((None, *nodes), *tensors, len(nodes), sizes)


def run_exactly(layers: Sequence[Layer], x: Sequence[Fraction]) -> list[Fraction]:
    values = list(x)
    for i, (weight, bias) in enumerate(layers):
        values = [
            sum(
                (Fraction(float(w)) * v for w, v in zip(row, values, strict=True)),
                Fraction(float(b)),
            )
            for row, b in zip(weight, bias, strict=True)
        ]
        if i < len(layers) - 1:
            values = [max(v, Fraction(0)) for v in values]
    return values


def run_float32(layers: Sequence[Layer], x: np.ndarray, rng: np.random.Generator) -> list[float]:
    """One execution: each sum in a random binary tree, some products fused into it."""
    values = [np.float32(v) for v in x]
    for i, (weight, bias) in enumerate(layers):
        values = [
            _float32_sum(row, values, np.float32(b), rng)
            for row, b in zip(weight, bias, strict=True)
        ]
        if i < len(layers) - 1:
            values = [max(v, np.float32(0)) for v in values]
    return [float(v) for v in values]


def _float32_sum(row, values, bias, rng) -> np.float32:
    # A term is a number, or a product that is not rounded yet; sums of both are fused.
    terms = [(bias, None), *zip(map(np.float32, row), values, strict=True)]
    while len(terms) > 1:
        i, j = sorted(rng.choice(len(terms), 2, replace=False))
        right, left = terms.pop(j), terms.pop(i)
        if rng.random() < 0.5 and left[1] is not None:
            exact = Fraction(float(left[0])) * Fraction(float(left[1]))
            terms.append((_round32(exact + Fraction(float(_settle(right)))), None))
        else:
            terms.append((_settle(left) + _settle(right), None))
    return _settle(terms[0])


def _settle(term) -> np.float32:
    return term[0] if term[1] is None else term[0] * term[1]


def _round32(q: Fraction) -> np.float32:
    """Round to the nearest float32, ties to even."""
    near = np.float32(float(q))
    candidates = [np.nextafter(near, np.float32(s * np.inf)) for s in (-1, 1)] + [near]
    best = min(abs(Fraction(float(c)) - q) for c in candidates)
    ties = [c for c in candidates if abs(Fraction(float(c)) - q) == best]
    return min(ties, key=lambda c: int(c.view(np.uint32)) & 1)


def exactly(numbers) -> np.ndarray:
    return np.vectorize(Fraction, otypes=[object])(numbers)


@st.composite
def boxes_and_layers(draw, kinds=("integers", "mixed", "cancellation", "decimals")):
    """A small network of one kind, and a box of its input as fractions."""
    kind = draw(st.sampled_from(kinds))
    sizes = [draw(st.integers(1, 4)) for _ in range(draw(st.integers(2, 4)))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        weight = rng.integers(-4, 5, (fan_out, fan_in)).astype(np.float64)
        bias = rng.integers(-4, 5, fan_out).astype(np.float64)
        if kind == "mixed":
            weight = rng.standard_normal(weight.shape) * 2.0 ** rng.integers(-14, 15, weight.shape)
            bias = rng.standard_normal(bias.shape) * 2.0 ** rng.integers(-14, 15, bias.shape)
        if kind == "cancellation":
            weight = weight + rng.choice([0, 2.0**24, -(2.0**24)], weight.shape)
        if kind == "decimals":
            weight, bias = weight / 10, bias / 10
        layers.append((weight.astype(np.float32), bias.astype(np.float32)))
    scale = draw(st.sampled_from([1, 3, 10, 255]))
    lower = [Fraction(int(n), scale) for n in rng.integers(-5, 6, sizes[0])]
    upper = [
        x + Fraction(int(n), scale)
        for x, n in zip(lower, rng.integers(0, 7, sizes[0]), strict=True)
    ]
    return layers, lower, upper, rng


def adversarial_points(layers, lower, upper, rng, count=12):
    """Vertices, kinks of the first layer on edges between them, and the centre."""
    corners = [[rng.choice(ends) for ends in zip(lower, upper, strict=True)] for _ in range(count)]
    yield from corners
    yield [(low + up) / 2 for low, up in zip(lower, upper, strict=True)]
    weight, bias = layers[0]
    for a, b in pairwise(corners):
        for row, c in zip(weight, bias, strict=True):
            at_a, at_b = (
                sum(Fraction(float(w)) * x for w, x in zip(row, p, strict=True))
                + Fraction(float(c))
                for p in (a, b)
            )
            if at_a * at_b < 0:
                t = at_a / (at_a - at_b)
                yield [x + t * (y - x) for x, y in zip(a, b, strict=True)]


def all_rows(size: int) -> tuple[np.ndarray, ...]:
    """Both sides of each element of a single branch."""
    return np.nonzero(np.ones((2, 1, size)))


def proposals(network: Network, rng: np.random.Generator | None = None) -> Proposals:
    """Rows for all operands; CROWN's lines, or random slopes of any size."""
    lines, rows = {}, {}
    for v, node in enumerate(network.nodes):
        if isinstance(node, Operator):
            slopes: list = [
                rng.standard_normal(node.size) * 2 if rng else "chord" for _ in range(2)
            ]
            lower = slopes[0] if rng else np.full(node.size, 0.5)
            lines[v] = Lines([lower], [slopes[1]])
            rows[node.operands[0]] = [RowRequest(all_rows(node.size), {})]
    return Proposals(lines, rows)


def kernel_and_facts(network, box, tier, given=None, semantics="real", ball=None):
    """A kernel, and what holds over a box of the input with all rows or the given proposals."""
    kernel = Kernel(network, arithmetic(tier), profile(semantics), ball)
    facts = kernel.enter(kernel.root(*box), given or proposals(network))
    assert facts.alive.all()
    return kernel, facts


def output_bounds(kernel: Kernel, facts: Facts) -> tuple[list, list]:
    """Exact lower and upper bounds of each output.

    A row that its boxes show to be positive is not substituted, so that here each one is bounded
    again with a smaller constant.
    """
    network = kernel.network
    places = [(network.output, i) for i in range(network.sizes[network.output])]
    ends = []
    for sign in (Fraction(1), Fraction(-1)):
        known = [Fraction(0)] * len(places)
        for _ in range(2):
            constants = [-k if k > -np.inf else Fraction(0) for k in known]
            forms = [Form(c, {place: sign}) for c, place in zip(constants, places, strict=True)]
            values, _ = kernel.bound(facts, Terms.of(forms, kernel.arithmetic), {})
            known = [
                Fraction(v) - c if v > -np.inf else v
                for c, v in zip(constants, values, strict=True)
            ]
        ends.append([float(sign) * k if k == -np.inf else sign * k for k in known])
    return ends[0], ends[1]
