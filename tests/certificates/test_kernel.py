"""The kernel's bounds hold at vertices and kinks, in all tiers, for all slopes, and are tight."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.certificates.arithmetic import arithmetic
from absolver.certificates.boxes import Lines
from absolver.certificates.groups import RowRequest
from absolver.certificates.kernel import Kernel, Proposals
from absolver.certificates.network import (
    Ball,
    Broken,
    Network,
    Operator,
    Unsupported,
)
from absolver.certificates.semantics import profile
from absolver.certificates.terms import Form, Half, Terms
from tests.certificates.kernels import (
    TIERS,
    adversarial_points,
    boxes_and_layers,
    dense,
    exactly,
    kernel_and_facts,
    network_of,
    output_bounds,
    proposals,
    run_exactly,
    run_float32,
)

tiers = st.sampled_from(TIERS)
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.soundness
@given(boxes_and_layers(), tiers, st.booleans())
def test_no_value_escapes_the_bounds_whatever_the_slopes(case, tier, wild):
    layers, lower, upper, rng = case
    network = dense(*layers)
    given_facts = proposals(network, rng if wild else None)
    kernel, facts = kernel_and_facts(network, (lower, upper), tier, given_facts)
    least, most = output_bounds(kernel, facts)
    for x in adversarial_points(layers, lower, upper, rng):
        for low, y, high in zip(least, run_exactly(layers, x), most, strict=True):
            assert low <= y <= high


@pytest.mark.soundness
@given(boxes_and_layers(), tiers)
def test_no_float32_execution_escapes_the_bounds(case, tier):
    layers, lower, upper, rng = case
    kernel, facts = kernel_and_facts(dense(*layers), (lower, upper), tier, semantics="float32")
    least, most = output_bounds(kernel, facts)
    for point in adversarial_points(layers, lower, upper, rng):
        x = np.array([float(v) for v in point], np.float32)
        inside = all(
            low <= Fraction(float(v)) <= high for low, v, high in zip(lower, x, upper, strict=True)
        )
        if inside:
            for low, y, high in zip(least, run_float32(layers, x, rng), most, strict=True):
                assert low <= y <= high


@settings(max_examples=40)
@given(boxes_and_layers(kinds=("integers", "mixed", "decimals")), seeds)
def test_a_tier_is_not_above_the_rational_one_with_the_same_boxes(case, seed):
    layers, lower, upper, _ = case
    network = dense(*layers)
    _, facts = kernel_and_facts(network, (lower, upper), "fast")
    boxes = {
        v: [RowRequest(np.nonzero(np.zeros((2, 1, n))), {})] for v, n in enumerate(network.sizes)
    }
    rng = np.random.default_rng(seed)
    places = [(v, j) for v, n in enumerate(network.sizes) for j in range(n)]
    form = Form(Fraction(1, 7), {place: Fraction(int(rng.integers(-9, 9)), 7) for place in places})
    values = []
    for tier in TIERS:
        kernel = Kernel(network, arithmetic(tier), profile("real"))
        other = kernel.enter(kernel.root(lower, upper), Proposals({}, boxes))
        other = replace(other, boxes=facts.boxes, lines=facts.lines)
        terms = Terms.of([form], kernel.arithmetic)
        values.append(kernel.bound(other, terms, facts.lines)[0][0])
    fast, exact, rational = values
    assert fast <= rational and exact <= rational
    assert float(rational) - min(fast, exact) <= 1e-9 * (1 + 1000 * abs(float(rational)))


@pytest.mark.soundness
@given(seeds, tiers, st.integers(1, 40))
def test_rows_whose_coefficients_cancel_stay_below(seed, tier, closeness):
    """The rounding of the coefficients is all that is left of the row."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((1, 5))
    second = first * (1 + rng.standard_normal((1, 5)) * 2.0**-closeness)
    scale = rng.standard_normal() * 100
    network = two_layers(np.concatenate([first, second]), np.array([[scale, -scale]]))
    point = [Fraction(int(n)) for n in rng.integers(-9, 10, 5)]
    kernel, facts = kernel_and_facts(network, (point, point), tier, Proposals())
    (low,), (high,) = output_bounds(kernel, facts)
    value = Fraction(scale) * ((exactly(first) - exactly(second))[0] @ point)
    assert low <= value <= high


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    ("small", "weight", "large"),
    # Beside 1, three digits of 26 bits know no 2^-90; and 2^-1200 is no float.
    [(2.0**-90, 1.0, 2.0**100), (2.0**-600, 2.0**-600, 2.0**1020)],
)
def test_coefficients_too_small_to_be_kept_are_paid_for(tier, small, weight, large):
    network = two_layers(np.diag([1.0, weight]), np.array([[1.0, small]]))
    point = [Fraction(0), Fraction(-large)]
    kernel, facts = kernel_and_facts(network, (point, point), tier, Proposals())
    (low,), _ = output_bounds(kernel, facts)
    assert low <= Fraction(small) * Fraction(weight) * -Fraction(large)


def two_layers(first, second):
    """Two affine nodes with nothing between them."""
    nodes = dense((first, np.zeros(len(first))), (second, np.zeros(len(second)))).nodes
    last = replace(nodes[3], terms=((1, nodes[3].terms[0][1]),))
    return network_of(nodes[1], last, inputs=first.shape[1])


@pytest.mark.precision
@pytest.mark.parametrize("tier", TIERS)
def test_the_hinge_whose_corner_floats_miss_is_bounded_by_its_maximum(tier):
    layers = [(np.array([[-1.0]]), np.array([2.0])), (np.array([[7.0]]), np.array([0.0]))]
    kernel, facts = kernel_and_facts(dense(*layers), ([Fraction(1)], [Fraction(6)]), tier)
    (low,), (high,) = output_bounds(kernel, facts)
    assert 7 <= high <= 7 + Fraction(1, 10**12)
    assert -Fraction(1, 10**12) <= low <= 0


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(("semantics", "truth"), [("real", 1.5), ("float32", 2.0)])
def test_what_absorption_hides_is_bounded(tier, semantics, truth):
    layers = [
        (np.ones((3, 1)), np.zeros(3)),
        (np.array([[2.0**24, 1.0, -(2.0**24)]]), np.zeros(1)),
    ]
    kernel, facts = kernel_and_facts(
        dense(*layers), ([Fraction(1)], [Fraction(2)]), tier, semantics=semantics
    )
    (low,), (high,) = output_bounds(kernel, facts)
    assert low <= truth <= high
    if semantics == "real":
        assert float(high) == pytest.approx(2.0, abs=1e-6)


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
def test_inputs_without_bounds_leave_what_does_not_depend_on_them(tier):
    layers = [
        (np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.zeros(3)),
        (np.eye(3), np.zeros(3)),
    ]
    kernel, facts = kernel_and_facts(
        dense(*layers), ([None, Fraction(1)], [None, Fraction(2)]), tier
    )
    least, most = output_bounds(kernel, facts)
    # Roundings of what has no bound are paid with all that there is.
    assert least[0] == least[2] == (0 if tier == "rational" else -np.inf)
    assert float(least[1]) == pytest.approx(1)
    assert [float(v) for v in most] == pytest.approx([np.inf, 2, np.inf])
    assert not any(np.isnan(end).any() for box in facts.boxes for end in box)


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
def test_a_tiny_weight_of_an_unbounded_input_counts(tier):
    layers = [(np.array([[1e-300, 1e300]]), np.zeros(1))]
    kernel, facts = kernel_and_facts(
        dense(*layers), ([None, Fraction(0)], [None, Fraction(0)]), tier
    )
    (low,), (high,) = output_bounds(kernel, facts)
    assert (float(low), float(high)) == (-np.inf, np.inf)


@pytest.mark.soundness
@pytest.mark.parametrize("tier", ["fast", "exact"])
def test_overflow_in_a_row_proves_nothing(tier):
    layers = [(np.full((2, 2), 1e200), np.zeros(2)), (np.full((1, 2), 1e200), np.ones(1))]
    kernel, facts = kernel_and_facts(dense(*layers), ([Fraction(0)] * 2, [Fraction(1)] * 2), tier)
    (low,), (high,) = output_bounds(kernel, facts)
    assert low <= 1 and high == np.inf


@pytest.mark.soundness
@settings(max_examples=40)
@given(seeds, tiers, st.sampled_from([1, 2]))
def test_rows_over_a_ball_hold_at_its_extreme_points(seed, tier, norm):
    rng = np.random.default_rng(seed)
    weight = rng.integers(-4, 5, (2, 3)).astype(float)
    center = [Fraction(int(v), 10) for v in rng.integers(-9, 9, 3)]
    ball = Ball(tuple(center), Fraction(1, 10), norm)
    box = [c - ball.radius for c in center], [c + ball.radius for c in center]
    network = dense((weight, np.zeros(2)))
    kernel, facts = kernel_and_facts(network, box, tier, ball=ball)
    least, _ = output_bounds(kernel, facts)
    for row, bound in zip(weight, least, strict=True):
        exact = [Fraction(w) for w in row]
        value = sum(w * c for w, c in zip(exact, center, strict=True))
        reach = ball.radius * max(map(abs, exact))
        if norm == 2:  # the squared distance is exact
            assert (value - bound) ** 2 >= ball.radius**2 * sum(w * w for w in exact)
            reach = ball.radius * Fraction(float(np.linalg.norm(row)))
        else:
            assert bound <= value - reach
        assert float(value - reach - bound) <= 1e-12


@pytest.mark.parametrize("tier", TIERS)
def test_the_rational_tier_reaches_equality_where_the_others_stay_below(tier):
    layers = [(np.array([[3.0, -2.0]]), np.array([0.1]))]
    third = Fraction(1, 3)
    kernel, facts = kernel_and_facts(dense(*layers), ([third, third], [third, third]), tier)
    (low,), _ = output_bounds(kernel, facts)
    assert (low == third + Fraction(0.1)) == (tier == "rational")
    assert low <= third + Fraction(0.1)


def test_a_split_cuts_a_box_and_an_empty_one_ends_the_record():
    layers = [(np.array([[1.0]]), np.zeros(1)), (np.array([[1.0]]), np.zeros(1))]
    kernel, facts = kernel_and_facts(dense(*layers), ([Fraction(-1)], [Fraction(1)]), "fast")
    below = side(kernel, facts, Half(1, 0, Fraction(1, 10), at_most=True))
    assert 0.1 <= below.boxes[1].upper[0] <= 0.1 + 1e-16
    assert 0.1 <= below.boxes[2].upper[0] <= 0.1 + 1e-15
    assert not side(kernel, below, Half(1, 0, Fraction(1, 5), at_most=False)).alive.any()


def side(kernel, facts, half):
    return kernel.enter(kernel.cut(facts, half.cut()), Proposals())


def test_only_what_a_split_can_change_is_computed_again():
    layers = [(np.ones((1, 1)), np.zeros(1))] * 3
    kernel, facts = kernel_and_facts(dense(*layers), ([Fraction(-1)], [Fraction(1)]), "fast")
    below = side(kernel, facts, Half(3, 0, Fraction(1, 2), at_most=True))
    assert [a is b for a, b in zip(facts.steps, below.steps, strict=True)] == [True] * 4 + [
        False
    ] * 2


def test_values_that_may_overflow_are_outside_of_float32():
    layers = [(np.array([[3e38, -3e38]]), np.zeros(1))]
    lower, upper = [Fraction(1)] * 2, [Fraction(1)] * 2
    kernel, facts = kernel_and_facts(dense(*layers), (lower, upper), "fast", semantics="float32")
    with pytest.raises(Broken, match="z0: its values may reach 6e\\+38, which overflows"):
        kernel.require_range(facts.steps, facts.alive)
    kernel, facts = kernel_and_facts(dense(*layers), (lower, upper), "fast")
    kernel.require_range(facts.steps, facts.alive)


@pytest.mark.regression
def test_a_split_without_points_does_not_hide_what_may_overflow_before_it():
    layers = [(np.array([[3e38]]), np.zeros(1)), (np.array([[1e-38]]), np.zeros(1))]
    box, half = ([Fraction(0)], [Fraction(2)]), Half(3, 0, Fraction(-1), at_most=True)
    kernel, facts = kernel_and_facts(dense(*layers), box, "fast")
    assert not side(kernel, facts, half).alive.any()
    kernel, facts = kernel_and_facts(dense(*layers), box, "fast", semantics="float32")
    with pytest.raises(Broken, match="z0: its values may reach 6e\\+38, which overflows"):
        side(kernel, facts, half)


@pytest.mark.precision
def test_the_error_of_executions_grows_with_the_format():
    layers = [(np.ones((1, 4)), np.zeros(1))]
    lower, upper = [Fraction(1)] * 4, [Fraction(1)] * 4
    widths = []
    for semantics in ("real", "float32", "tf32", "bf16"):
        kernel, facts = kernel_and_facts(
            dense(*layers), (lower, upper), "fast", semantics=semantics
        )
        (low,), (high,) = output_bounds(kernel, facts)
        widths.append(float(high - low) / 8)
    # gamma_5 of the sum; 2 u' more where operands are rounded first.
    assert widths == pytest.approx([0, 5 * 2**-24, 2 * 2**-11, 2 * 2**-8], rel=0.05, abs=1e-14)


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
def test_the_error_of_an_executed_function_is_in_boxes_and_rows(tier):
    """At one point, with every line through it."""
    curve = Operator("square", (0,), {}, "square", "h#0", 1)
    network, point = network_of(curve, inputs=1), [Fraction(3)]
    slopes = Lines([np.array([6.0])], [np.array([6.0])])
    kernel, facts = kernel_and_facts(
        network, (point, point), tier, Proposals({1: slopes}), semantics="float32"
    )
    error = Fraction(9, 2**24)
    (low,), (high,) = output_bounds(kernel, facts)
    assert low <= 9 - error and 9 + error <= high
    assert facts.boxes[1].lower <= 9 - error and 9 + error <= facts.boxes[1].upper


@pytest.mark.soundness
@pytest.mark.parametrize("tier", ["fast", "exact"])
def test_the_constants_pay_for_coefficients_that_are_rounded(tier):
    """Of slopes times coefficients, and of the coefficients that a row starts with."""
    curve = Operator("leaky_relu", (0,), {"alpha": 0.1}, "leaky_relu", "h#0", 1)
    network, box = network_of(curve, inputs=1), ([Fraction(-9)], [Fraction(-8)])
    kernel, facts = kernel_and_facts(network, box, tier, Proposals())
    constants, unit = facts.steps[1].line().constants, Fraction(1, 2**53)
    assert constants.lower <= -9 * Fraction(0.1) * unit
    assert constants.upper >= 9 * Fraction(0.1) * unit
    form = Form(Fraction(0), {(0, 0): Fraction(1, 3)})
    _, value = kernel._start(facts, Terms.of([form], kernel.arithmetic))
    assert value <= -9 * Fraction(1, 3) * unit


def test_networks_without_a_rule_or_of_other_types_are_refused():
    odd = Operator("perhaps", (0,), {}, "exact", "h#0", 1)
    with pytest.raises(Unsupported, match="no rule for the function perhaps"):
        Kernel(network_of(odd, inputs=1), arithmetic("fast"), profile("real"))
    curve = Operator("tanh", (0,), {}, "no such entry", "h#0", 1)
    kernel = Kernel(network_of(curve, inputs=1), arithmetic("fast"), profile("float32"))
    with pytest.raises(Unsupported, match="h#0: no table of float errors for no such entry"):
        kernel.enter(kernel.root([Fraction(0)], [Fraction(1)]), Proposals())
    network = network_of(curve, inputs=1)
    double = Network(
        network.nodes, network.inputs, network.outputs, 1, network.sizes, executions=False
    )
    with pytest.raises(Unsupported, match="float32 does not cover the network"):
        Kernel(double, arithmetic("fast"), profile("float32"))
    with pytest.raises(Unsupported, match="'float8' is none of real, float32"):
        profile("float8")
