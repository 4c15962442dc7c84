"""Pairs of neurons over an octagon."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from absolver.dsl.operators.abs import Abs
from absolver.dsl.operators.clip import Clip
from absolver.dsl.operators.leaky_relu import LeakyRelu
from absolver.dsl.operators.octagon import Octagon, octagon_support
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval
from absolver.dsl.operators.relu import Relu
from tests.dsl.operators.instances import label

every = pytest.mark.parametrize(
    "operator", [Relu(), LeakyRelu(0.1), Abs(), Clip(-0.5, 1.0)], ids=label
)


def drawn(seed: int, neurons: int) -> tuple[Octagon, tuple[torch.Tensor, ...], torch.Tensor]:
    """Draw octagons around some points, with coefficients for a pair."""
    random = torch.Generator().manual_seed(seed)
    points = torch.randn(6, 2, neurons, generator=random, dtype=torch.float64)
    x, y = points.unbind(1)
    sides = [Interval(v.amin(0), v.amax(0)) for v in (x, y, x + y, x - y)]
    coefficients = torch.randn(4, neurons, generator=random, dtype=torch.float64)
    return Octagon(*sides), coefficients.unbind(0), points


@pytest.mark.precision
@every
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32 - 1))
def test_octagon_support_is_the_minimum_over_every_cell(
    operator: PiecewiseLinear, seed: int
) -> None:
    octagon, (a, c, b, d), _ = drawn(seed, 4)
    bound = octagon_support(operator, (a, c), (b, d), octagon)
    rows = [[1, 1], [-1, -1], [1, -1], [-1, 1]]
    for i in range(4):
        (low_s, high_s), (low_d, high_d) = ((e[i].item() for e in v) for v in octagon[2:])
        least = torch.inf
        for p in operator.lines:
            for q in operator.lines:
                sides = [
                    (max(v.lower[i].item(), k.start), min(v.upper[i].item(), k.end))
                    for v, k in zip(octagon[:2], (p, q), strict=True)
                ]
                if any(low > high for low, high in sides):
                    continue
                cost = [(a + b * p.slope)[i].item(), (c + d * q.slope)[i].item()]
                found = linprog(cost, rows, [high_s, -low_s, high_d, -low_d], bounds=sides)
                if found.status == 0:
                    constant = (b * p.offset + d * q.offset)[i].item()
                    least = min(least, found.fun + constant)
        assert bound[i].item() == pytest.approx(least, abs=1e-8)


@pytest.mark.soundness
@every
@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1))
def test_octagon_support_is_below_the_form_and_above_the_boxes_bound(
    operator: PiecewiseLinear, seed: int
) -> None:
    octagon, (a, c, b, d), points = drawn(seed, 64)
    bound = octagon_support(operator, (a, c), (b, d), octagon)
    x, y = points.unbind(1)
    assert (bound <= a * x + c * y + b * operator(x) + d * operator(y) + 1e-12).all()
    boxed = operator.support([a], b, octagon[:1]) + operator.support([c], d, octagon[1:2])
    assert (bound >= boxed).all()
    wide = Interval(torch.full_like(a, -torch.inf), torch.full_like(a, torch.inf))
    unbounded = octagon_support(operator, (a, c), (b, d), Octagon(*octagon[:2], wide, wide))
    assert torch.allclose(unbounded, boxed, atol=1e-12)
