"""Boxes on which other verifiers were wrong (or ours once was), one test each."""

from math import inf, nextafter, pi, sqrt, tan

import pytest
import torch

from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Interval, Operator
from absolver.dsl.relaxation import Slopes, relax

pytestmark = pytest.mark.regression


def box_of(low: float, high: float, dtype: torch.dtype = torch.float64) -> list[Interval]:
    return [Interval(torch.tensor([low], dtype=dtype), torch.tensor([high], dtype=dtype))]


def ends(operator: Operator, low: float, high: float) -> tuple[float, float]:
    bounds = operator.range(box_of(low, high))
    return bounds.lower.item(), bounds.upper.item()


def test_tan_around_0_reaches_its_values_at_the_ends() -> None:
    # auto_LiRPA: [-1.30, 1.23].
    assert ends(OPERATORS["tan"](), -1.201, 1.095) == pytest.approx((tan(-1.201), tan(1.095)))


@pytest.mark.parametrize("slope", [0.0, 1.0, -3.0, 7.5])
def test_the_fourth_power_on_a_one_signed_interval_is_inside_its_lines(slope: float) -> None:
    # auto_LiRPA takes the tangent at the middle on both sides: [-3.42, 8.30] for [0.0625, 16].
    power, box = OPERATORS["pow"](exponent=4), box_of(0.5, 2.0)
    s = torch.tensor([slope], dtype=torch.float64)
    lines = relax(power, Slopes((s,), (s,)), box)
    x = torch.linspace(0.5, 2.0, 1001, dtype=torch.float64)
    assert (lines.lower_offset + s * x <= x**4 + 1e-12).all()
    assert (lines.upper_offset + s * x >= x**4 - 1e-12).all()
    assert ends(power, 0.5, 2.0) == pytest.approx((0.0625, 16.0))


def test_an_inactive_leaky_relu_keeps_its_slope() -> None:
    # auto_LiRPA forward: [0, 0].
    leaky, box = OPERATORS["leaky_relu"](alpha=0.1), box_of(-4.744, -4.741)
    assert ends(leaky, -4.744, -4.741) == pytest.approx((-0.4744, -0.4741))
    affine, (slope,) = leaky.affine_on(box)
    assert affine.item()
    assert slope.item() == pytest.approx(0.1)


def test_sqrt_of_a_box_that_a_loose_bound_made_negative_is_unbounded_not_nan() -> None:
    assert ends(OPERATORS["sqrt"](), -0.25, 4.0) == (-inf, inf)


@pytest.mark.parametrize("name", ["log", "reciprocal"])
@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_a_box_that_touches_a_pole_is_unbounded(name: str, low: float) -> None:
    assert ends(OPERATORS[name](), low, 2.0) == (-inf, inf)


def test_tan_across_a_pole_is_unbounded() -> None:
    assert ends(OPERATORS["tan"](), 1.5, 1.65) == (-inf, inf)
    assert ends(OPERATORS["tan"](), -10.0, 10.0) == (-inf, inf)


def test_sqrt_at_0_has_a_finite_upper_line() -> None:
    one = torch.ones(1, dtype=torch.float64)
    assert OPERATORS["sqrt"]().support([one], -2 * one, box_of(0.0, 4.0)).item() == -1.0
    assert OPERATORS["sqrt"]().support([one], -2 * one, box_of(0.0, 0.0)).item() == 0.0


def test_round_is_half_to_even_at_both_ends() -> None:
    rounding = OPERATORS["round"]()
    assert ends(rounding, 0.5, 1.5) == (0.0, 2.0)
    assert ends(rounding, 2.5, 2.5) == (2.0, 2.0)
    assert ends(rounding, nextafter(2.5, inf), 3.5) == (3.0, 4.0)


def test_sign_sees_0_and_what_is_next_to_it() -> None:
    sign = OPERATORS["sign"]()
    assert ends(sign, 0.0, 1.0) == (0.0, 1.0)
    assert ends(sign, 0.0, 0.0) == (0.0, 0.0)
    minus = -torch.ones(1, dtype=torch.float64)
    assert sign.support([-minus * 10], minus, box_of(0.0, 1.0)).item() == -1.0


def test_floor_approaches_the_next_step_from_below() -> None:
    one = torch.ones(1, dtype=torch.float64)
    # -x + floor(x) is least just below an integer.
    assert OPERATORS["floor"]().support([-one], one, box_of(0.0, 1.5)).item() == -1.0


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_waves_far_from_0_are_bounded_in_float32(name: str) -> None:
    wave = OPERATORS[name]()
    start = torch.linspace(1e4, 1e6, 257)
    box = [Interval(start, start + 0.5)]
    low, high = wave.range(box)
    least = wave.support([torch.zeros(257)], torch.ones(257), box)
    for fraction in torch.linspace(0, 1, 33):
        x = torch.minimum(start + 0.5 * fraction, box[0].upper)
        value = wave(x.double())
        assert (low.double() - 1e-6 <= value).all()
        assert (value <= high.double() + 1e-6).all()
        assert (least.double() - 1e-6 <= value).all()


def test_sin_with_float64_boxes_is_exact_under_the_default_dtype() -> None:
    # A constant made in the default dtype, float32, once moved the troughs by 1e-7.
    a, b = torch.tensor([0.25], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    bound = OPERATORS["sin"]().support([a], b, box_of(-4.0, 4.0)).item()
    x = -pi + 1.318116071652818  # cos x = -1/4, sin x < 0
    assert bound == pytest.approx(0.25 * x - sqrt(15) / 4, abs=1e-14)


def test_exp_that_overflows_keeps_its_lower_line() -> None:
    box = box_of(0.0, 100.0, torch.float32)
    low, high = OPERATORS["exp"]().range(box)
    assert (low.item(), high.item()) == (1.0, inf)
    one = torch.ones(1)
    assert OPERATORS["exp"]().support([-one], one, box).item() == 1.0
    assert OPERATORS["exp"]().support([-one], -one, box).item() == -inf


def test_an_overflow_is_not_taken_for_a_large_bound() -> None:
    box = box_of(1e10, 2e10, torch.float32)
    huge = torch.tensor([1e30])
    for name in ("relu", "sigmoid", "abs", "exp"):
        assert OPERATORS[name]().support([huge], torch.ones(1), box).item() == -inf


def test_leaky_relu_with_a_slope_for_each_neuron_is_that_of_each() -> None:
    alpha = torch.tensor([0.0, 0.25, 1.0, -2.0])
    each = OPERATORS["leaky_relu"](alpha=alpha).to("cpu", torch.float64)
    low, high = torch.full((2, 4), -1.5, dtype=torch.float64), torch.ones(2, 4).double()
    a, b = torch.full_like(low, 0.3), torch.tensor([[1.0], [-1.0]]).double().expand(2, 4)
    together = each.support([a], b, [Interval(low, high)])
    for i, slope in enumerate(alpha.tolist()):
        alone = OPERATORS["leaky_relu"](alpha=slope)
        box = [Interval(low[:, i], high[:, i])]
        assert torch.equal(together[:, i], alone.support([a[:, i]], b[:, i], box))
    assert each.curvature([Interval(low, high)])[0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("scale", [1.0, 1e-30])
def test_softplus_above_its_asymptote_is_bounded_by_rounding_alone(scale: float) -> None:
    # softplus(x) - x falls to 0; the tangent at the largest float was 1e262 above it.
    b = torch.tensor([scale], dtype=torch.float64)
    bound = OPERATORS["softplus"]().support([-b], b, box_of(0.0, inf)).item()
    assert abs(bound) <= 1e-14 * scale
