"""Rows with lines of their own: each one passes the operators with its own slopes."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.certificates.kernel import Proposals
from absolver.certificates.network import Affine, Broken, Operator, Product
from absolver.certificates.proposals import ProposalReader
from tests.certificates.kernels import (
    TIERS,
    adversarial_points,
    boxes_and_layers,
    dense,
    kernel_and_facts,
    network_of,
    output_bounds,
    proposals,
    run_exactly,
)
from tests.certificates.test_proof import case, check, leaf, refute, unsafe


def affine(name, size, *terms):
    maps = tuple((p, Product(np.array([weight], np.float64), 1)) for p, weight in terms)
    return Affine(maps, np.zeros(size), 8, name, size)


# With h = relu(x): v = (h + x, x), k = (x - h, h), y = relu(k_0) + relu(k_1) - k_1. Over [-1, 1] y
# is 0, as k_0 <= 0 (by the lower slope 1 of h) and k_1 >= 0 (by its lower slope 0).
OPPOSED = network_of(
    Operator("relu", (0,), {}, "relu", "h#0", 1),
    affine("v", 2, (1, [[1, 0]]), (0, [[1, 1]])),
    affine("k", 2, (2, [[-1, 1], [2, -1]])),
    Operator("relu", (3,), {}, "relu", "r#0", 2),
    affine("y", 1, (4, [[1], [1]]), (3, [[0], [-1]])),
    inputs=1,
)
SAFE = unsafe(["1/4"], [-1], [1])


def opposed(slopes, *, upper="chord", lower_rows=(False, True), upper_rows=(True, False)) -> dict:
    """A leaf whose rows bound k_1 from below and k_0 from above, with lower slopes of h."""
    lines = [{"operator": "h#0", "lower": [slopes], "upper": [upper]}]
    masks = {"lower": np.array(lower_rows), "upper": np.array(upper_rows)}
    rows = [{"operand": ["r#0", 0], **masks, "lines": lines}]
    everywhere = [{"operator": name, "lower": [0], "upper": ["chord"]} for name in ("h#0", "r#0")]
    return leaf(refute(0), facts={"lines": everywhere, "rows": rows})


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("semantics", ["real", "float32"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.bool_])
def test_slopes_of_each_row_prove_what_shared_ones_cannot(tier, semantics, kind):
    own = opposed(np.array([[0], [1]], kind))
    assert check(OPPOSED, SAFE, case((0, 1)), own, tier=tier, semantics=semantics).leaves == 1
    for shared in np.linspace(0, 1, 9):
        for slopes in (np.array([shared]), np.full((2, 1), shared)):
            with pytest.raises(Broken, match="not positive"):
                check(OPPOSED, SAFE, case((0, 1)), opposed(slopes), tier=tier, semantics=semantics)


def test_rows_are_those_of_lower_and_then_those_of_upper():
    with pytest.raises(Broken, match="not positive"):
        check(OPPOSED, SAFE, case((0, 1)), opposed(np.array([[1.0], [0.0]])))
    every = dict(lower_rows=(True, True), upper_rows=(True, True))
    # Lower bounds of k_0 and k_1, upper bounds of k_0 and k_1.
    slopes = np.array([[5.0], [0.0], [1.0], [5.0]])
    assert check(OPPOSED, SAFE, case((0, 1)), opposed(slopes, **every)).leaves == 1


@pytest.mark.parametrize(
    ("slopes", "message"),
    [
        (np.zeros((1, 1)), r"shape \(1, 1\), not \(2, 1\)"),
        (np.zeros((3, 1)), r"shape \(3, 1\), not \(2, 1\)"),
        (np.zeros((2, 2)), r"shape \(2, 2\), not \(2, 1\)"),
        (np.zeros((1, 2, 1)), r"shape \(1, 2, 1\), not \(1,\)"),
        (np.array([[0.0], [np.nan]]), "not finite"),
        (np.array([[0.0], [np.inf]]), "not finite"),
        (np.array([[0], [1]], np.int32), "not an array of the right type"),
    ],
)
def test_slopes_of_rows_that_make_no_sense_are_refused(slopes, message):
    with pytest.raises(Broken, match=message):
        check(OPPOSED, SAFE, case((0, 1)), opposed(slopes))


def test_an_entry_without_rows_has_no_slopes_of_rows():
    nothing = dict(lower_rows=(False, False), upper_rows=(False, False))
    with pytest.raises(Broken, match="shape"):
        check(OPPOSED, SAFE, case((0, 1)), opposed(np.zeros((0, 1)), **nothing))


@pytest.mark.parametrize(
    "slopes", [np.array([[0.0], [1e300]]), np.array([[0.0], [np.float64(5e-324)]])]
)
@pytest.mark.soundness
def test_slopes_of_rows_of_any_size_prove_nothing_that_is_false(slopes):
    with pytest.raises(Broken, match="not positive"):
        check(OPPOSED, unsafe(["-1/1000"], [-1], [1]), case((0, 1)), opposed(slopes))


def entries(network, rng, *, apart):
    """Rows for some sides of all operands, with random slopes of each row."""
    found = []
    operators = [node for node in network.nodes if isinstance(node, Operator)]
    for i, node in enumerate(operators):
        masks = rng.random((2, node.size)) < 0.7
        count = int(masks.sum())
        sides = [
            (before.name, *(rng.standard_normal((2, count, before.size)).round(2)))
            for before in operators[:i]
        ]

        def lines(r, sides=sides):
            return [{"operator": n, "lower": [a[r]], "upper": [b[r]]} for n, a, b in sides]

        if not apart:
            found.append(([node.name, 0], masks, lines(slice(None)) if count else []))
        for r, place in enumerate(np.argwhere(masks)):
            single = np.zeros_like(masks)
            single[tuple(place)] = True
            if apart:
                found.append(([node.name, 0], single, lines(r)))
    rows = [
        {"operand": operand, "lower": m[0], "upper": m[1], "lines": own}
        for operand, m, own in found
    ]
    return ProposalReader(network).proposals({"rows": rows}).rows


@settings(max_examples=40, deadline=None)
@given(boxes_and_layers(), st.integers(0, 2**32 - 1), st.sampled_from(["fast", "rational"]))
def test_rows_at_once_find_what_each_row_finds_by_itself(problem, seed, tier):
    layers, *box, _ = problem
    network, found = dense(*layers), []
    for apart in (False, True):
        rows = entries(network, np.random.default_rng(seed), apart=apart)
        given_ = Proposals(proposals(network).lines, rows)
        _, facts = kernel_and_facts(network, box, tier, given_)
        found.append(np.concatenate([end for box in facts.boxes for end in box], axis=1))
    if tier == "rational":
        assert np.array_equal(*found)
    else:
        np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.soundness
@settings(max_examples=60, deadline=None)
@given(boxes_and_layers(), st.integers(0, 2**32 - 1), st.sampled_from(TIERS))
def test_rows_with_random_slopes_of_their_own_are_sound(problem, seed, tier):
    layers, lower, upper, rng = problem
    network = dense(*layers)
    given_ = proposals(network)
    given_.rows.update(entries(network, np.random.default_rng(seed), apart=False))
    kernel, facts = kernel_and_facts(network, (lower, upper), tier, given_)
    below, above = output_bounds(kernel, facts)
    for point in adversarial_points(layers, lower, upper, rng):
        for low, y, high in zip(below, run_exactly(layers, point), above, strict=True):
            assert Fraction(low) <= y <= Fraction(high) if abs(low) < np.inf > high else low <= y
