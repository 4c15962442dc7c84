"""Balls in norm 2: they hold every run, prove what boxes cannot, and bugs in them are found."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from absolver.certificates import balls as module
from absolver.certificates.balls import operator_norm
from absolver.certificates.kernel import Proposals
from absolver.certificates.network import Ball, Broken, Move, Product, Scale, Total
from tests.attack.mutants import Mutant, injected
from tests.certificates.kernels import (
    TIERS,
    adversarial_points,
    boxes_and_layers,
    dense,
    kernel_and_facts,
    output_bounds,
    run_exactly,
)
from tests.certificates.test_proof import case, check, leaf, refute, unsafe

BALLS = Proposals(balls=True)


def fraction_square(x) -> Fraction:
    return sum((Fraction(float(q)) ** 2 for q in np.ravel(x)), Fraction(0))


@pytest.mark.soundness
@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.sampled_from([-300, 0, 60])
)
def test_norms_of_matrices_are_above_all_quotients(seed, rows, columns, exponent):
    rng = np.random.default_rng(seed)
    weight = np.ldexp(rng.standard_normal((2, rows, columns)), exponent)
    bound = Fraction(operator_norm(Product(weight, 1)))
    for w in weight:
        u, _, v = np.linalg.svd(w)
        for x in (u[:, 0], rng.standard_normal(rows)):
            y = [
                sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x, c, strict=True)))
                for c in w.T
            ]
            assert sum((q * q for q in y), Fraction(0)) <= bound**2 * fraction_square(x)


@pytest.mark.precision
@pytest.mark.parametrize("shape", [(1, 3, 3), (2, 40, 7), (1, 5, 60)])
def test_norms_of_matrices_are_near_the_largest_singular_value(shape):
    weight = np.random.default_rng(0).standard_normal(shape)
    largest = max(np.linalg.norm(w, 2) for w in weight)
    assert largest <= operator_norm(Product(weight, 3)) <= 1.01 * largest
    assert operator_norm(Product(0 * weight, 3)) <= 2.0**-400


def test_norms_of_movement_scaling_and_sums_are_exact_but_for_an_ulp():
    one, half = np.ones(2), np.array([0.25, 0.5])
    assert operator_norm(Scale(np.array([-3.0, 1.0]), one, 0 * one)) == pytest.approx(3.0)
    assert operator_norm(Scale(half, one, half)) == pytest.approx(1.0)
    assert operator_norm(Move(np.array([0, 0, 0, 0, -1]), 2)) == pytest.approx(2.0)
    assert operator_norm(Total(np.array([0, 1, 1, 1, 1]), 2)) == pytest.approx(2.0)


def holds(problem, tier="fast") -> bool:
    """Whether boxes and output bounds from balls contain what points have exactly."""
    layers, lower, upper, rng = problem
    network = dense(*layers)
    kernel, facts = kernel_and_facts(network, (lower, upper), tier, BALLS)
    low, high = output_bounds(kernel, facts)
    for x in adversarial_points(layers, lower, upper, rng):
        y = run_exactly(layers, x)
        for v in range(1, len(network.nodes), 2):
            box, values = facts.boxes[v], run_exactly(layers[: (v + 1) // 2], x)
            for i, value in enumerate(values):
                if not Fraction(box.lower[0, i]) <= value <= Fraction(box.upper[0, i]):
                    return False
            ball = facts.balls[v]
            center = [Fraction(c) for c in ball.center.lower[0]]
            far = sum(((a - b) ** 2 for a, b in zip(values, center, strict=True)), Fraction(0))
            if far > Fraction(ball.radius[0]) ** 2:
                return False
        if not all(a <= b <= c for a, b, c in zip(low, y, high, strict=True)):
            return False
    return True


@pytest.mark.soundness
@settings(max_examples=60, deadline=None)
@given(boxes_and_layers(), st.sampled_from(TIERS))
def test_balls_hold_every_run(problem, tier):
    assert holds(problem, tier)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("around", "sum(reaches, own)", "sum(reaches, 0 * own)"),
        ("around", "(values, box)", "(values, values)"),
        ("image", "cost(s, ball.radius)", "cost(0.5 * s, ball.radius)"),
        ("over_ball", "-cost(size", "-0.5 * cost(size"),
        ("length", "np.sqrt(", "np.abs("),
        ("operator_norm", "_spectral(weight)", "0.9 * _spectral(weight)"),
        ("_spectral", "np.ldexp(up(np.sqrt(up(bound + error))), exponent)", "bound"),
    ],
)
def test_bugs_put_into_balls_are_found(name, old, new):
    many = settings(max_examples=1000, deadline=None, database=None)
    with injected(Mutant(module, name, old, new)):
        find(boxes_and_layers(), lambda problem: not holds(problem), settings=many)


# All of 16 neurons can be 1, but only one at a time.
EACH = dense((np.eye(16), np.zeros(16)), (np.full((1, 16), 0.25), np.zeros(1)))


def neighbourhood(bound, norm=2):
    prop = unsafe([bound], [-1] * 16, [1] * 16)
    return replace(prop, ball=Ball((Fraction(0),) * 16, Fraction(1), norm))


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("norm", [1, 2])
def test_balls_prove_what_boxes_cannot(tier, norm):
    prop, given_ = neighbourhood("1.01", norm), {"norm": 2}
    assert check(EACH, prop, case((0, 1)), leaf(refute(0), facts=given_), tier=tier).leaves == 1
    for bound, known in (("1.01", {}), ("0.999", given_)):
        with pytest.raises(Broken, match="not positive"):
            record = leaf(refute(0), facts=known)
            check(EACH, neighbourhood(bound, norm), case((0, 1)), record, tier=tier)


@pytest.mark.parametrize("norm", [1, True, "2", None, 2.0, [2], np.array([2], np.int32)])
def test_a_norm_that_makes_no_sense_is_refused(norm):
    with pytest.raises(Broken, match="is not an integer from 2 to 2"):
        check(EACH, neighbourhood(99), case((0, 1)), leaf(refute(0), facts={"norm": norm}))


def test_balls_say_nothing_of_executions():
    record = leaf(refute(0), facts={"norm": 2})
    with pytest.raises(Broken, match="balls say nothing of executions in float32"):
        check(EACH, neighbourhood(99), case((0, 1)), record, semantics="float32")
