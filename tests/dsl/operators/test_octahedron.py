"""Groups of neurons over octahedra."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from absolver.dsl.operators.abs import Abs
from absolver.dsl.operators.clip import Clip
from absolver.dsl.operators.leaky_relu import LeakyRelu
from absolver.dsl.operators.octahedron import Octahedra, directions, octahedron_support
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval
from absolver.dsl.operators.relu import Relu
from tests.dsl.operators.instances import label

every = pytest.mark.parametrize(
    "operator", [Relu(), LeakyRelu(0.1), Abs(), Clip(-0.5, 1.0)], ids=label
)
sizes = pytest.mark.parametrize("size", [2, 3])


def drawn(seed: int, size: int, groups: int) -> tuple[Octahedra, Tensor, Tensor, Tensor]:
    """Draw octahedra around some points, with coefficients of neurons and results."""
    random = torch.Generator().manual_seed(seed)
    points = torch.randn(6, groups, size, generator=random, dtype=torch.float64)
    forms = points @ torch.tensor(directions(size), dtype=torch.float64).T
    octahedra = Octahedra(*(Interval(v.amin(0), v.amax(0)) for v in (points, forms)))
    a, b = torch.randn(2, groups, size, generator=random, dtype=torch.float64)
    return octahedra, a, b, points


def test_directions_are_the_signs_of_two_neurons_or_more() -> None:
    assert directions(2) == ((1, 1), (1, -1))
    assert len(directions(3)) == 10
    assert directions(3)[:3] == ((0, 1, 1), (0, 1, -1), (1, 0, 1))


@pytest.mark.precision
@sizes
@every
@settings(max_examples=3)
@given(seed=st.integers(0, 2**32 - 1))
def test_support_is_the_minimum_over_every_cell(
    operator: PiecewiseLinear, size: int, seed: int
) -> None:
    octahedra, a, b, _ = drawn(seed, size, 2)
    bound = octahedron_support(operator, a, b, octahedra)
    normals = np.array(directions(size), dtype=np.float64)
    rows = np.concatenate([normals, -normals])
    for i in range(len(a)):
        least = torch.inf
        right = torch.cat([octahedra.forms.upper[i], -octahedra.forms.lower[i]])
        for cell in product(operator.lines, repeat=size):
            low = [max(octahedra.box.lower[i, k].item(), p.start) for k, p in enumerate(cell)]
            high = [min(octahedra.box.upper[i, k].item(), p.end) for k, p in enumerate(cell)]
            if any(lower > upper for lower, upper in zip(low, high, strict=True)):
                continue
            slope, offset = (
                torch.tensor([getattr(p, n) for p in cell]) for n in ("slope", "offset")
            )
            cost = a[i] + b[i] * slope
            sides = list(zip(low, high, strict=True))
            found = linprog(cost.numpy(), rows, right.numpy(), bounds=sides)
            if found.status == 0:
                least = min(least, found.fun + (b[i] * offset).sum().item())
        assert bound[i].item() == pytest.approx(least, abs=1e-8)


@pytest.mark.soundness
@sizes
@every
@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1))
def test_support_is_below_the_form_and_above_the_boxes_bound(
    operator: PiecewiseLinear, size: int, seed: int
) -> None:
    octahedra, a, b, points = drawn(seed, size, 32)
    bound = octahedron_support(operator, a, b, octahedra)
    assert (bound <= (a * points + b * operator(points)).sum(2) + 1e-12).all()
    ends = (Interval(low[:, k], high[:, k]) for low, high in [octahedra.box] for k in range(size))
    boxed = sum(operator.support([a[:, k]], b[:, k], [end]) for k, end in enumerate(ends))
    assert (bound >= boxed - 1e-12).all()
    wide = torch.full_like(octahedra.forms.lower, torch.inf)
    unbounded = octahedron_support(operator, a, b, Octahedra(octahedra.box, Interval(-wide, wide)))
    assert torch.allclose(unbounded, torch.as_tensor(boxed), atol=1e-12)


@sizes
def test_an_octahedron_that_rounding_has_emptied_leaves_the_box(size: int) -> None:
    octahedra, a, b, _ = drawn(0, size, 4)
    above = 2 * octahedra.box.upper.abs().sum(1, keepdim=True) + 9
    forms = Interval(octahedra.forms.lower + above, octahedra.forms.upper + above)
    wide = torch.full_like(above, torch.inf).expand_as(octahedra.forms.lower)
    emptied = octahedron_support(Relu(), a, b, Octahedra(octahedra.box, forms))
    boxed = octahedron_support(Relu(), a, b, Octahedra(octahedra.box, Interval(-wide, wide)))
    assert (emptied <= boxed + 1e-12).all()
