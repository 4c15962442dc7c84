"""What every operator's `support` claims: it is below the form, and nothing is above it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from absolver.dsl.operators.record import Interval, Operator
from tests.dsl.operators.instances import ALL, UNARY, arity, label
from tests.strategies import Case, cases, form, magnitude

EPSILON = torch.finfo(torch.float64).eps
# Products of numbers near 0 round to multiples of the smallest subnormal number.
UNDERFLOW = 1e-320
every = pytest.mark.parametrize("operator", ALL, ids=label)
every_unary = pytest.mark.parametrize("operator", UNARY, ids=label)


@pytest.mark.soundness
@every
@settings(max_examples=12)
@given(data=st.data())
def test_support_is_below_the_form_in_the_whole_box(
    operator: Operator, data: st.DataObject
) -> None:
    case = data.draw(cases(arity(operator)))
    bound = operator.support(case.a, case.b, case.box)
    values = form(operator, case, case.points)
    # 32: the roundings of the form and of the bound, each a few ulp of their largest term.
    slack = 32 * EPSILON * magnitude(operator, case, case.points)
    slack = slack + UNDERFLOW * (1 + case.b.abs())
    assert not bound.isnan().any()
    assert (bound < torch.inf).all()
    excess = torch.where(bound > -torch.inf, bound - values - slack, -torch.inf)
    assert (excess <= 0).all(), case.worst(excess)


@pytest.mark.soundness
@every
@settings(max_examples=6)
@given(data=st.data())
def test_support_in_float32_is_below_the_form_up_to_float32_rounding(
    operator: Operator, data: st.DataObject
) -> None:
    operator = operator.to("cpu", torch.float32)
    case = data.draw(cases(arity(operator), dtype=torch.float32))
    bound = operator.support(case.a, case.b, case.box)
    assert bound.dtype == torch.float32
    assert not bound.isnan().any()
    exact = Case(case.box, tuple(a.double() for a in case.a), case.b.double(), ())
    points = [x.double() for x in case.points]
    double = operator.to("cpu", torch.float64)
    # 64: a Gaussian's argument is off by an ulp, which gelu multiplies by x^2: 44 ulp at -10.
    slack = 64 * torch.finfo(torch.float32).eps * magnitude(double, exact, points)
    # 1e-24: a tail that small is rounded more than its own ulp; 1e-44: products may underflow.
    excess = bound.double() - form(double, exact, points) - slack - 1e-24 * exact.b.abs() - 1e-44
    assert ((excess <= 0) | (bound == -torch.inf)).all(), case.worst(excess)


@pytest.mark.precision
@every_unary
@settings(max_examples=6)
@given(data=st.data())
def test_support_is_the_minimum(operator: Operator, data: st.DataObject) -> None:
    case = data.draw(cases(neurons=32, adversarial=False, limit=10.0))
    bound = operator.support(case.a, case.b, case.box)
    bounded = bound > -torch.inf
    lower, upper = case.box[0]
    defined = getattr(operator, "defined_on", lambda *_: None)(lower, upper)
    if defined is not None:
        assert (bounded == defined).all()
    loss = _least(operator, case) - bound
    # 1e-7: the samples are that far apart, and the limit at a jump is not among them.
    excess = loss - 1e-7 * (1 + magnitude(operator, case, [torch.stack((lower, upper))]))
    assert ((excess <= 0) | ~bounded).all(), case.worst(torch.where(bounded, excess, -torch.inf))


@pytest.mark.precision
@every_unary
def test_support_is_finite_wherever_the_operator_is_defined(operator: Operator) -> None:
    lower = torch.tensor([0.125, 0.5, 0.75, 1.0], dtype=torch.float64)
    box, one = [Interval(lower, lower + 0.5)], torch.ones_like(lower)
    for sign in (-1, 1):
        assert operator.support([-one], sign * one, box).isfinite().all()


@pytest.mark.soundness
@every
@settings(max_examples=6)
@given(data=st.data())
def test_infinite_and_undefined_arguments_give_the_trivial_bound_or_a_sound_one(
    operator: Operator, data: st.DataObject
) -> None:
    case = data.draw(cases(arity(operator)))
    spoiled = data.draw(st.sampled_from((torch.nan, torch.inf, -torch.inf)))
    where = data.draw(st.sampled_from(("a", "b", "lower", "upper")))
    a, b, box = list(case.a), case.b, list(case.box)
    spoil = torch.full_like(b, spoiled)
    if where == "a":
        a[0] = spoil
    elif where == "b":
        b = spoil
    else:
        box[0] = box[0]._replace(**{where: spoil})
    bound = operator.support(a, b, box)
    assert not bound.isnan().any()
    assert (bound < torch.inf).all()
    opened = (where, spoiled) in {("lower", -torch.inf), ("upper", torch.inf)}
    if opened:  # the old points are still in the box
        values = form(operator, case, case.points)
        slack = 32 * EPSILON * magnitude(operator, case, case.points)
        assert ((bound <= values + slack) | (bound == -torch.inf)).all()
    else:
        assert (bound == -torch.inf).all() or where in ("lower", "upper")


@every_unary
@settings(max_examples=3)
@given(data=st.data())
def test_a_bound_does_not_depend_on_other_neurons_or_on_leading_axes(
    operator: Operator, data: st.DataObject
) -> None:
    case = data.draw(cases(neurons=4))
    together = operator.support(case.a, case.b, case.box)
    rows = torch.stack((case.a[0], -case.a[0], case.a[0] / 2))
    by_row = operator.support([rows], case.b.expand(3, -1), case.box)
    assert torch.equal(by_row[0], together)
    for i in range(4):
        alone = [Interval(x.lower[i : i + 1], x.upper[i : i + 1]) for x in case.box]
        bound = operator.support([a[i : i + 1] for a in case.a], case.b[i : i + 1], alone)
        scale = magnitude(operator, case, case.points)[i]
        assert (bound == together[i]).all() or (bound - together[i]).abs() <= 8 * EPSILON * scale


@pytest.mark.precision
@every_unary
def test_the_gradient_of_support_in_the_slope_is_the_minimising_point(operator: Operator) -> None:
    lower = torch.tensor([0.25, 0.5, 0.125, 0.25], dtype=torch.float64)
    box = [Interval(lower, lower + 1)]
    for sign in (1.0, -1.0):
        b = torch.full_like(lower, sign)
        slope = torch.tensor([0.3, -0.4, 2.0, -0.17], dtype=torch.float64, requires_grad=True)
        operator.support([slope], b, box).sum().backward()
        assert slope.grad is not None
        step = 1e-6
        with torch.no_grad():
            above = operator.support([slope + step], b, box)
            below = operator.support([slope - step], b, box)
        assert torch.allclose(slope.grad, (above - below) / (2 * step), atol=1e-4)


def _least(operator: Operator, case: Case) -> Tensor:
    """Minimise by sampling: every cell of a coarse grid, then around the best point."""
    ((lower, upper),) = case.box
    fractions = torch.linspace(0, 1, 8193, dtype=torch.float64)[:, None]
    for _ in range(3):
        x = torch.where(fractions < 1, lower + (upper - lower) * fractions, upper)
        values = form(operator, case, [x])
        best = values.argmin(0)
        columns = torch.arange(len(lower))
        lower = x[(best - 1).clamp(min=0), columns]
        upper = x[(best + 1).clamp(max=len(x) - 1), columns]
        fractions = torch.linspace(0, 1, 257, dtype=torch.float64)[:, None]
    return values.amin(0)
