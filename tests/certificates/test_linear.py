"""Linear maps against their matrices, alone and in graphs whose nodes are used more than once."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.certificates.arithmetic import arithmetic
from absolver.certificates.boxes import Lines
from absolver.certificates.groups import RowRequest
from absolver.certificates.kernel import Proposals
from absolver.certificates.linear import Linear
from absolver.certificates.network import Affine, Move, Operator, Product, Scale, Total
from tests.certificates.kernels import (
    TIERS,
    all_rows,
    exactly,
    kernel_and_facts,
    network_of,
    output_bounds,
)

tiers = st.sampled_from(TIERS)
seeds = st.integers(0, 2**32 - 1)


def random_map(rng, inputs):
    kind = rng.integers(5)
    if kind == 0:
        return Move(rng.integers(-1, inputs, 5), inputs), 5
    if kind == 1:
        index = rng.integers(0, 3, inputs)
        return Total(index, 3), 3
    if kind == 2:
        numerator, denominator = rng.integers(-9, 9, inputs), rng.integers(1, 9, inputs)
        error = rng.choice([0.0, 1e-3], inputs)
        return Scale(numerator.astype(float), denominator.astype(float), error), inputs
    if kind == 3:
        # So few entries that they are applied one by one; most outputs have none.
        weight = np.zeros((1, inputs, 49))
        weight[0, rng.integers(inputs, size=inputs), rng.integers(3, size=inputs)] = -1.75
        return Product(weight, 1), 49
    groups, outer = (2, 1) if inputs % 2 == 0 else (1, inputs)
    return Product(rng.integers(-4, 5, (groups, inputs // groups // outer, 2)) / 4, outer), (
        groups * outer * 2
    )


def matrix_of(linear, inputs):
    """The exact matrix, a column for each element of x, and the bound of its error."""
    eye = [[Fraction(int(i == j)) for j in range(inputs)] for i in range(inputs)]
    match linear:
        case Move(index=index):
            rows = [eye[i] if i >= 0 else [Fraction(0)] * inputs for i in index]
        case Total(index=index, size=size):
            rows = [[Fraction(int(index[i] == j)) for i in range(inputs)] for j in range(size)]
        case Scale(numerator=p, denominator=q):
            rows = [
                [Fraction(a) / Fraction(b) * x for x in row]
                for row, a, b in zip(eye, p, q, strict=True)
            ]
        case Product(weight=weight, outer=outer):
            groups, k, n = weight.shape
            rows = [[Fraction(0)] * inputs for _ in range(groups * outer * n)]
            for g, o, i, j in np.ndindex(groups, outer, k, n):
                rows[(g * outer + o) * n + j][(g * outer + o) * k + i] = Fraction(weight[g, i, j])
    return np.array(rows, object).reshape(-1, inputs)


@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.parametrize("tier", TIERS)
def test_groups_of_a_product_that_is_nearly_all_zero_are_all_applied(tier):
    weight = np.zeros((2, 2, 2))
    found, _ = Linear(Product(weight, 1), arithmetic(tier)).forward(np.ones((1, 4)))
    assert found.shape == (1, 4)
    sparse = np.zeros((2, 98, 1))
    sparse[0, 3, 0], sparse[1, 5, 0] = 2.0, -3.0
    found, _ = Linear(Product(sparse, 1), arithmetic(tier)).forward(np.ones((1, 196)))
    assert found.astype(float).tolist() == [[2.0, -3.0]]


@given(seeds, tiers)
def test_maps_are_their_matrices_and_backwards_their_transposes(seed, tier):
    rng = np.random.default_rng(seed)
    inputs = int(rng.integers(1, 7))
    linear, outputs = random_map(rng, inputs)
    ready, matrix = Linear(linear, arithmetic(tier)), matrix_of(linear, inputs)
    x, rows = rng.integers(-9, 10, (2, inputs)), rng.integers(-9, 10, (3, outputs))
    numbers = arithmetic(tier).numbers
    forward, _ = ready.forward(x.astype(float))
    sizes, _ = ready.forward(abs(x).astype(float), absolute=True)
    backward, _ = ready.backward(numbers(rows.astype(float)))
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(forward, (x @ matrix.T).astype(float), **close)
    np.testing.assert_allclose(sizes, (abs(x) @ abs(matrix).T).astype(float), **close)
    np.testing.assert_allclose(backward.astype(float), (rows @ matrix).astype(float), **close)
    marked = rng.random(inputs) < 0.3
    reached = (matrix[:, marked] != 0).any(axis=1)
    assert (ready.reaches(marked[None])[0] >= reached).all()


@given(seeds, tiers, st.booleans())
def test_results_do_not_depend_on_how_matrices_lie_in_memory(seed, tier, backward):
    rng = np.random.default_rng(seed)
    inputs = int(rng.integers(1, 7))
    linear, outputs = random_map(rng, inputs)
    ready = Linear(linear, arithmetic(tier))
    x = rng.integers(-9, 10, (4, outputs if backward else inputs)).astype(float)
    apply = ready.backward if backward else ready.forward
    x = arithmetic(tier).numbers(x) if backward else x
    apart = np.concatenate([apply(row[None])[0] for row in x])
    for order in ("C", "F"):
        together, _ = apply(np.asarray(x, order=order))
        np.testing.assert_allclose(together.astype(float), apart.astype(float), rtol=1e-12)


@pytest.mark.soundness
@settings(max_examples=60)
@given(seeds, tiers)
def test_graphs_with_shared_nodes_are_bounded(seed, tier):
    """Two maps of one node, a relu of their sum, a product of two nodes, and their sum."""
    rng = np.random.default_rng(seed)
    inputs = int(rng.integers(1, 5))
    first, n = random_map(rng, inputs)
    index = rng.integers(-1, inputs, n)
    bias, doubt = rng.integers(-3, 4, n) / 4, rng.choice([0.0, 1e-2], n)
    total = Affine(((0, first), (0, Move(index, inputs))), bias, 5, "sum", n, doubt)
    relu = Operator("relu", (1,), {}, "relu", "h#0", n)
    square = Operator("mul", (2, 1), {}, "mul", "m#0", n)
    ones = Product(np.ones((1, n, 1)), 1)
    out = Affine(((3, ones), (2, ones), (1, ones)), None, 3 * n, "out", 1)
    network = network_of(total, relu, square, out, inputs=inputs)
    lower = [Fraction(int(v), 3) for v in rng.integers(-5, 5, inputs)]
    upper = [
        v + Fraction(int(w), 3) for v, w in zip(lower, rng.integers(0, 5, inputs), strict=True)
    ]
    lines = {3: Lines([rng.standard_normal(n), rng.standard_normal(n)], [np.zeros(n)] * 2)}
    everything = np.ones(n)
    rows = {1: [RowRequest(all_rows(n), {2: Lines([everything], ["chord"])})]}
    kernel, facts = kernel_and_facts(network, (lower, upper), tier, Proposals(lines, rows))
    (least,), (most,) = output_bounds(kernel, facts)
    matrix = matrix_of(first, inputs) + matrix_of(Move(index, inputs), inputs)
    for _ in range(8):
        x = np.array([rng.choice(ends) for ends in zip(lower, upper, strict=True)], object)
        error = np.zeros(n, object)
        if isinstance(first, Scale):
            factor_error = rng.choice([-1, 1], inputs) * first.error
            error = error + exactly(factor_error) * x
        error = error + exactly(doubt * rng.choice([-1, 1], n))
        z = matrix @ x + exactly(bias) + error
        h = np.maximum(z, 0)
        y = (h * z + h + z).sum()
        assert least <= y <= most
