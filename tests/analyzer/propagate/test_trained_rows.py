"""Rows that are trained against rows of the same domain that are not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from absolver import domains
from absolver.analyzer.propagate.chords import chords
from absolver.dsl.domain import Domain
from absolver.dsl.operators.abs import Abs
from absolver.dsl.operators.leaky_relu import LeakyRelu
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval
from absolver.dsl.operators.relu import Relu
from absolver.dsl.relaxation import relax

Case = tuple[Domain, PiecewiseLinear, Interval, Tensor]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a domain with chords, an operator that it names, boxes without points, and rows."""
    domain = domains.load(draw(st.sampled_from(("crown_ibp", "deeppoly", "fast_lin"))))
    operators = [op for op in (Relu(), LeakyRelu(0.2), Abs()) if op.name in domain.chords]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    middle, radius, rows = torch.randn(3, 2, 3, 5, generator=generator, dtype=torch.float64)
    width = radius.abs()[:, 0] + 0.01
    box = Interval((middle[:, 0] - width).requires_grad_(), (middle[:, 0] + width).requires_grad_())
    return domain, draw(st.sampled_from(operators)), box, rows.requires_grad_()


@pytest.mark.precision
@given(cases())
def test_lines_in_closed_form_and_gradients_are_those_of_the_rule_and_the_support(
    case: Case,
) -> None:
    domain, operator, box, _ = case
    closed = chords(domain, operator)
    assert closed is not None
    ours = closed.lines(box)
    assert ours is not None
    expected = relax(operator, domain.slopes(operator, [box]), [box])
    assert expected.lower_offset.abs().max() < 1e-12
    found = torch.stack(ours)
    theirs = torch.stack([expected.lower[0], expected.upper[0], expected.upper_offset])
    torch.testing.assert_close(found, theirs)
    way = torch.arange(1.0, 1 + found.numel(), dtype=torch.float64).view_as(found)
    gradients = (torch.autograd.grad(lines, box, way) for lines in (found, theirs))
    torch.testing.assert_close(*gradients)


@given(cases())
def test_rows_through_lines_in_closed_form_have_their_gradients(case: Case) -> None:
    domain, operator, box, rows = case
    closed = chords(domain, operator)
    assert closed is not None
    ours, lines = closed.substituted(rows, box), closed.lines(box)
    assert ours is not None and lines is not None
    lower, upper, offset = (line.unsqueeze(1) for line in lines)
    positive, negative = rows.clamp(min=0), rows.clamp(max=0)
    theirs = (negative * offset).sum(2), positive * lower + negative * upper
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected)
    gradients = []
    for gain, result in (ours, theirs):
        total = (gain * gain.detach().cos()).sum() + (result * result.detach().cos()).sum()
        gradients.append(torch.autograd.grad(total, (rows, *box)))
    torch.testing.assert_close(*gradients)


@pytest.mark.soundness
@pytest.mark.parametrize("bounds", [(-torch.inf, 1.0), (-3e38, 3e38), (-1.0, torch.nan)])
def test_bounds_without_a_finite_width_have_no_lines_in_closed_form(
    bounds: tuple[float, float],
) -> None:
    closed = chords(domains.load("crown_ibp"), Relu())
    assert closed is not None
    box = Interval(*(torch.tensor([[bound, 1.0]]) for bound in bounds))
    assert closed.lines(box) is None
    assert closed.substituted(torch.ones(1, 1, 2), box) is None


@pytest.mark.regression
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["crown_ibp", "fast_lin"])
def test_a_steep_row_through_a_neuron_that_is_0_everywhere_has_a_gradient(
    name: str, dtype: torch.dtype
) -> None:
    """A coefficient over the least positive width is infinite, and infinity times 0 is NaN."""
    closed = chords(domains.load(name), Relu())
    assert closed is not None
    ends = [torch.zeros(1, 1, dtype=dtype, requires_grad=True) for _ in range(2)]
    rows = torch.full((1, 1, 1), -10.0, dtype=dtype, requires_grad=True)
    found = closed.substituted(rows, Interval(*ends))
    assert found is not None
    gradients = torch.autograd.grad(10 * found[1].sum() + found[0].sum(), [rows, *ends])
    assert all(gradient.eq(0).all() for gradient in gradients)
