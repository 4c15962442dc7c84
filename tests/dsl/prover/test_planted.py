"""Unsound rules and false facts, one for each kind of mistake, each refuted by a point."""

# ruff: noqa: E741 (`l` is what the language calls a lower bound)

import math
from dataclasses import replace

import pytest

from absolver.dsl.operators.sigmoid import Sigmoid
from absolver.dsl.operators.silu import Silu
from absolver.dsl.prover.calculus import bend_is_right, derivative_is_right, pieces_touch
from absolver.dsl.prover.domains import obligations
from absolver.dsl.prover.lines import line_obligation
from absolver.dsl.prover.obligations import Answer, Obligation, Status, decided
from absolver.dsl.written import written_lines
from tests.dsl.rules import NEURONS, checked

FUNCTIONS = {
    "relu": lambda x, **_: max(x, 0.0),
    "tanh": lambda x, **_: math.tanh(x),
    "square": lambda x, **_: x * x,
    "mul": lambda x, y, **_: x * y,
}

# By the kind of mistake: the rule, and the line in Python, which the test evaluates by itself.
PLANTED = {
    "a swapped side": ("relu: upper line if u > -l then x else 0", lambda l, u, x: x * (u > -l)),
    "a swapped bound": (
        "mul: lower line l(y)*x + l(x)*y - l(x)*u(y)",
        lambda x, y, **v: v["l(y)"] * x + v["l(x)"] * y - v["l(x)"] * v["u(y)"],
    ),
    "max for min": (
        "tanh: upper line max(f'(l), f'(u))*(x - u) + f(u)",
        lambda l, u, x: max(1 - math.tanh(l) ** 2, 1 - math.tanh(u) ** 2) * (x - u) + math.tanh(u),
    ),
    "the sign of an intercept": (
        "relu: upper line u/(u-l)*x + u*l/(u-l)",
        lambda l, u, x: u / (u - l) * x + u * l / (u - l),
    ),
    "a range that is too wide": (
        "relu: lower line (parameter a in [0, 1.01] start 0)*x",
        lambda l, u, x, a: a * x,
    ),
    "a tangent above": ("square: lower line 2*l*x + l*l", lambda l, u, x: 2 * l * x + l * l),
}


@pytest.mark.soundness
@pytest.mark.parametrize("mistake", PLANTED)
def test_an_unsound_line_is_refuted_by_a_point_that_breaks_it(mistake: str) -> None:
    rule, line_at = PLANTED[mistake]
    (line,) = written_lines(checked(NEURONS, rule).rules)
    answer = decided(line_obligation("d", line)).answer
    assert answer.status is Status.REFUTED
    assert answer.point is not None
    at = answer.point.values
    named = {name: value for name, value in at.items() if name in ("x", "y")}
    value, height = FUNCTIONS[line.operator](**named), line_at(**at)
    assert answer.point.actual == pytest.approx(value)
    assert answer.point.claimed == pytest.approx(height)
    assert value > height + 1e-9 if line.side == "upper" else value < height - 1e-9


SOUND = (
    "relu: upper line u/(u-l)*x - u*l/(u-l)",
    "relu: lower line (parameter a in [0, 1] start 0)*x",
    "mul: lower line l(y)*x + l(x)*y - l(x)*l(y)",
    "square: lower line 2*mid*x - mid*mid",
    "sigmoid: upper line min(f'(l), f'(u))*(x - u) + f(u)",
    "exp: lower line x + 1",
    "tanh: upper line 1",
)


@pytest.mark.parametrize("rule", SOUND)
def test_a_sound_line_is_proved(rule: str) -> None:
    (line,) = written_lines(checked(NEURONS, rule).rules)
    assert decided(line_obligation("d", line)).answer.status is Status.PROVED


def owed(rule: str, operator: str) -> Obligation:
    domain = checked(NEURONS, rule)
    return next(o for o in obligations(domain) if o.claim.startswith(f"{operator}:"))


def test_a_divisor_that_may_vanish_is_refuted_by_where_it_does() -> None:
    guarded = "relu: upper slope if u {} -l then u/(u + l) else 1"
    assert decided(owed(guarded.format(">"), "relu")).answer.status is Status.PROVED
    answer = decided(owed(guarded.format(">="), "relu")).answer
    assert answer.status is Status.REFUTED
    assert answer.point is not None
    assert answer.point.values["u"] + answer.point.values["l"] == 0
    assert "divisor" in answer.detail


def test_a_start_outside_of_its_range_is_refuted() -> None:
    rule = "relu: lower slope parameter a in [0, 1] start u/(u - l) + 1"
    answer = decided(owed(rule, "relu")).answer
    assert answer.status is Status.REFUTED
    assert answer.point is not None
    lower, upper = answer.point.values["l"], answer.point.values["u"]
    assert upper / (upper - lower) + 1 > 1


def shown(answer: Answer) -> tuple[float, float, float]:
    assert answer.status is Status.REFUTED
    assert answer.point is not None
    return answer.point.values["x"], answer.point.claimed, answer.point.actual


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_a_wrong_bend_is_refuted_by_a_value_beside_the_chord() -> None:
    left, _ = Sigmoid().pieces
    answer = bend_is_right(replace(left, end=4.0))
    x, chord, value = shown(answer)
    low, high = answer.point.values["l"], answer.point.values["u"]
    assert value == pytest.approx(sigmoid(x))
    assert chord == pytest.approx((sigmoid(low) + sigmoid(high)) / 2)
    assert sigmoid(x) > (sigmoid(low) + sigmoid(high)) / 2  # a convex function is below


def test_a_wrong_derivative_is_refuted_by_a_difference_quotient() -> None:
    left, _ = Sigmoid().pieces
    x, written, actual = shown(
        derivative_is_right(replace(left, derivative=lambda x, m: m.sigmoid(x)))
    )
    quotient = (sigmoid(x + 1e-6) - sigmoid(x - 1e-6)) / 2e-6
    assert actual == pytest.approx(quotient, rel=1e-6)
    assert abs(written - quotient) > 1e-4


class Torn(Sigmoid):
    """A sigmoid whose right half is a little higher."""

    pieces = (
        Sigmoid.pieces[0],
        replace(Sigmoid.pieces[1], value=lambda x, m: m.sigmoid(x) + 0.125),
    )


def test_a_wrong_joint_is_refuted_by_both_values_there() -> None:
    assert shown(pieces_touch(Torn())) == (0.0, 0.5, 0.625)


def test_slopes_of_a_sliver_that_are_too_narrow_are_refuted() -> None:
    sliver = Silu().pieces[3]
    assert sliver.slopes is not None
    low, _ = sliver.slopes
    x, claimed, actual = shown(bend_is_right(replace(sliver, slopes=(low - 1e-6, low - 5e-7))))
    slope = sigmoid(x) * (1 + x * sigmoid(-x))
    assert actual == pytest.approx(slope)
    assert claimed < slope
