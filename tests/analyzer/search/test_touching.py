"""Lines in closed form are those that a domain's slopes and an operator's support give."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver import domains
from absolver.analyzer.search.touching import Touching, closed_form
from absolver.dsl.domain import Domain
from absolver.dsl.operators.abs import Abs
from absolver.dsl.operators.clip import Clip
from absolver.dsl.operators.leaky_relu import LeakyRelu
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval
from absolver.dsl.operators.relu import Relu
from tests.dsl.rules import NEURONS, compiled

OPERATORS = {
    "relu": Relu(),
    "leaky_relu": LeakyRelu(0.1),
    "abs": Abs(),
    "clip": Clip(-1.0, 1.0),
}
DTYPE = torch.float64


def boxes(seed: int) -> Interval:
    """Intervals on both sides of kinks, within a piece, and points."""
    generator = torch.Generator().manual_seed(seed)
    ends = 3 * torch.randn(2, 3, 1, 8, generator=generator, dtype=DTYPE)
    ends[1, :, :, 0] = ends[0, :, :, 0]
    return Interval(ends.amin(0), ends.amax(0))


def closed(domain: Domain, operator: PiecewiseLinear, box: Interval) -> Touching | None:
    """The closed form of a domain's lines."""
    return closed_form(operator, domain, box, domain.parameters(operator, [box]))


@pytest.mark.soundness
@settings(max_examples=30)
@given(
    name=st.sampled_from(["alpha_crown", "frown", "polyhedra"]),
    kind=st.sampled_from(sorted(OPERATORS)),
    seed=st.integers(0, 10_000),
)
def test_closed_lines_are_those_of_slopes_and_support(name: str, kind: str, seed: int) -> None:
    domain, operator, box = domains.load(name), OPERATORS[kind], boxes(seed)
    form = closed(domain, operator, box)
    assert form is not None
    generator = torch.Generator().manual_seed(seed)
    # Beyond the ends of the ranges, too, and for several rows.
    values = {
        key: -0.5 + 2 * torch.rand(3, 4, 8, generator=generator, dtype=DTYPE)
        for key in domain.parameters(operator, [box])
    }
    slopes = domain.slopes(operator, [box], values)
    below, above = form.lines(values)
    x = box.lower + torch.rand(3, 1, 8, generator=generator, dtype=DTYPE) * (box.upper - box.lower)
    for line, (slope,), sign in ((below, slopes.lower, 1), (above, slopes.upper, -1)):
        if line is None:
            continue
        assert torch.allclose(line.slope, slope, rtol=1e-9, atol=1e-9)
        offset = sign * operator.support([-sign * slope], sign * torch.ones_like(slope), [box])
        assert torch.allclose(line.offset, offset, rtol=1e-9, atol=1e-9)
        at_touch = line.slope * line.touch + line.offset
        assert torch.allclose(at_touch, operator(line.touch.expand_as(at_touch)), atol=1e-9)
        assert (sign * (operator(x) - line.slope * x - line.offset) >= -1e-9).all()


def test_slopes_that_are_not_affine_in_parameters_have_no_closed_form() -> None:
    domain = compiled(NEURONS, "relu: lower slope (parameter a in [0, 1] start 1) * a")
    assert closed(domain, Relu(), boxes(0)) is None


def test_at_an_end_of_its_range_a_line_touches_where_it_can_turn() -> None:
    box = Interval(torch.full((1, 1, 2), -2.0), torch.full((1, 1, 2), 3.0))
    form = closed(domains.load("alpha_crown"), Relu(), box)
    assert form is not None
    below, _ = form.lines({"a": torch.tensor([[[0.0, 1.0]]])})
    assert below is not None and below.touch.tolist() == [[[0.0, 0.0]]]
