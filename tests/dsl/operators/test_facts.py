"""What every operator claims besides its support: derivative, affine parts, curvature, inverse."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from absolver.dsl.operators.piece import Bend
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval, Operator
from tests.dsl.operators.instances import ALL, UNARY, arity, label
from tests.strategies import cases

every = pytest.mark.parametrize("operator", ALL, ids=label)
every_unary = pytest.mark.parametrize("operator", UNARY, ids=label)
few = settings(max_examples=6)


def defined(operator: Operator, box: tuple[Interval, ...]) -> Tensor:
    """Where every value over the box is finite."""
    one = torch.ones_like(box[0].lower)
    zeros = [torch.zeros_like(one)] * len(box)
    return operator.support(zeros, one, box).isfinite()


@pytest.mark.soundness
@every
@few
@given(data=st.data())
def test_derivative_encloses_every_difference_quotient(
    operator: Operator, data: st.DataObject
) -> None:
    case = data.draw(cases(arity(operator)))
    where = defined(operator, case.box)
    order = torch.randperm(len(case.points[0]), generator=torch.Generator().manual_seed(0))
    for j, (low, high) in enumerate(operator.derivative(case.box)):
        moved = list(case.points)
        moved[j] = case.points[j][order]
        step = moved[j] - case.points[j]
        values = operator(*case.points), operator(*moved)
        difference = values[1] - values[0]
        # The difference is off by a few ulp of the values, and by what rounding x does to them.
        slope = torch.maximum(low.abs(), high.abs())
        slack = 1e-13 * (values[0].abs() + values[1].abs() + slope * case.points[j].abs())
        slack = slack + 1e-300
        least = torch.minimum(low * step, high * step)
        most = torch.maximum(low * step, high * step)
        inside = (difference >= least - slack) & (difference <= most + slack)
        assert (inside | (step == 0) | ~where | slack.isnan() | slack.isinf()).all(), case.worst(
            (~inside & (step != 0)).double() * where
        )


@every
@few
@given(data=st.data())
def test_gradient_lies_in_the_derivative(operator: Operator, data: st.DataObject) -> None:
    case = data.draw(cases(arity(operator)))
    for points in zip(*case.points, strict=True):
        here = [Interval(x, x) for x in points]
        gradient, bounds = operator.gradient(points), operator.derivative(here)
        for slope, (low, high) in zip(gradient, bounds, strict=True):
            slack = 1e-14 * slope.abs().nan_to_num(posinf=0)
            assert ((low - slack <= slope) & (slope <= high + slack) | slope.isnan()).all()


@pytest.mark.soundness
@every
@few
@given(data=st.data())
def test_the_operator_is_affine_where_it_says_so(operator: Operator, data: st.DataObject) -> None:
    case = data.draw(cases(arity(operator)))
    affine, slopes = operator.affine_on(case.box)
    assert all(slope.isfinite().all() for slope in slopes)
    start = [interval.lower for interval in case.box]
    line = operator(*start)
    for slope, x, low in zip(slopes, case.points, start, strict=True):
        line = line + slope * (x - low)
    values = operator(*case.points)
    scale = values.abs().amax(0) + sum(x.abs().amax(0) for x in case.points)
    excess = (values - line).abs() - 1e-13 * scale
    relevant = affine & defined(operator, case.box)
    assert ((excess <= 0) | ~relevant).all(), case.worst(torch.where(relevant, excess, -1.0))


@pytest.mark.soundness
@every_unary
@few
@given(data=st.data())
def test_curvature_is_that_of_every_chord(operator: Operator, data: st.DataObject) -> None:
    case = data.draw(cases())
    curvature = operator.curvature(case.box)
    assert curvature.unique().tolist() == [c for c in (-1, 0, 1) if (curvature == c).any()]
    (x,) = case.points
    y = x.roll(1, 0)
    chord = (operator(x) + operator(y)) / 2
    bend = chord - operator((x + y) / 2)
    largest = operator(x).abs().amax(0) + operator.derivative(case.box)[0].upper.abs() * x.abs()
    slack = 1e-13 * largest.nan_to_num(nan=0, posinf=0) + 1e-150
    excess = -bend * curvature - slack
    assert ((excess <= 0) | (curvature == 0)).all(), case.worst(excess * curvature.abs())


@pytest.mark.precision
@every_unary
def test_curvature_is_known_inside_each_piece(operator: Operator) -> None:
    for piece in getattr(operator, "pieces", ()):
        low, high = max(piece.start, -20.0), min(piece.end, 20.0)
        lower = torch.tensor([low + (high - low) / 4], dtype=torch.float64)
        known = operator.curvature([Interval(lower, lower + (high - low) / 2)]).item()
        expected = {Bend.CONVEX: 1, Bend.AFFINE: 1, Bend.CONCAVE: -1, Bend.UNKNOWN: 0}
        assert known == expected[piece.bend]


@pytest.mark.soundness
@every
@few
@given(data=st.data())
def test_range_encloses_the_values(operator: Operator, data: st.DataObject) -> None:
    case = data.draw(cases(arity(operator)))
    low, high = operator.range(case.box)
    values = operator(*case.points)
    slack = 1e-14 * values.abs().amax(0).nan_to_num(posinf=0) + 1e-300
    inside = (low - slack <= values) & (values <= high + slack)
    assert (inside | (low.isinf() & high.isinf())).all(), case.worst((~inside).double())


@pytest.mark.soundness
@every
@settings(max_examples=2)
@given(data=st.data())
def test_inverse_keeps_every_point_with_a_value_in_the_output(
    operator: Operator, data: st.DataObject
) -> None:
    case = data.draw(cases(arity(operator), limit=8.0))
    where = defined(operator, case.box)
    values = operator(*case.points)
    first, second = values[3], values[17]
    output = Interval(torch.minimum(first, second), torch.maximum(first, second))
    tight = operator.inverse(output, case.box)
    hit = (values >= output.lower) & (values <= output.upper) & where
    for x in case.points:  # the product of a subnormal number may round to 0
        hit = hit & ((x == 0) | (x.abs() > 1e-300))
    for x, box, (low, high) in zip(case.points, case.box, tight, strict=True):
        kept = (x >= low) & (x <= high)
        assert (kept | ~hit).all(), case.worst((hit & ~kept).double())
        assert ((low >= box.lower) & (high <= box.upper) | ~where).all()


@pytest.mark.precision
@pytest.mark.parametrize("operator", [each for each in UNARY if each.monotone], ids=label)
def test_inverse_of_a_monotone_operator_finds_the_preimage(operator: Operator) -> None:
    lower = torch.tensor([0.03, 0.1, 0.2], dtype=torch.float64)
    part = Interval(lower + 0.1, lower + 0.2)
    output = Interval(operator(part.lower), operator(part.upper))
    if label(operator) in {"floor", "ceil", "round", "sign"} or operator.name == "clip":
        return
    (found,) = operator.inverse(output, [Interval(lower, lower + 0.5)])
    assert torch.allclose(found.lower, part.lower, atol=1e-9)
    assert torch.allclose(found.upper, part.upper, atol=1e-9)


@pytest.mark.precision
@every
def test_inverse_is_empty_where_the_output_cannot_be_reached(operator: Operator) -> None:
    low = torch.full((3,), 0.25, dtype=torch.float64)
    box = [Interval(low, low + 0.5)] * arity(operator)
    reached = operator.range(box)
    beyond = Interval(reached.upper + 1, reached.upper + 2)
    assert any((i.lower > i.upper).all() for i in operator.inverse(beyond, box))


@pytest.mark.parametrize(
    "operator", [each for each in UNARY if isinstance(each, PiecewiseLinear)], ids=label
)
def test_lines_are_the_graph(operator: PiecewiseLinear) -> None:
    x = torch.linspace(-9, 9, 361, dtype=torch.float64)
    for line in operator.lines:
        here = x[(x >= line.start) & (x <= line.end)]
        assert torch.allclose(operator(here), line.slope * here + line.offset)
    assert [line.end for line in operator.lines[:-1]] == [s.start for s in operator.lines[1:]]


@every
def test_lipschitz_is_the_largest_derivative(operator: Operator) -> None:
    low = torch.full((3,), 0.25, dtype=torch.float64)
    box = [Interval(low, low + 0.5)] * arity(operator)
    for bound, (least, most) in zip(operator.lipschitz(box), operator.derivative(box), strict=True):
        assert torch.equal(bound, torch.maximum(least.abs(), most.abs()))
