"""Clipping loses no point that meets an open clause."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.certify.regions import as_checked
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.region import Region
from absolver.analyzer.search.clipping import Limits, clip
from absolver.analyzer.search.tolerance import Tolerance
from tests.analyzer.search.problems import BOUNDING, NETWORKS, box, specify
from tests.networks import DTYPE

SEEDS = st.integers(0, 10_000)


@pytest.mark.soundness
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize("cut", (False, True))
@settings(max_examples=15)
@given(kind=st.sampled_from(sorted(NETWORKS)), seed=SEEDS)
def test_no_point_that_meets_an_open_clause_is_lost(
    dtype: torch.dtype, cut: bool, kind: str, seed: int
) -> None:
    """Of several open clauses the hull remains; a clause of several constraints meets all."""
    graph, generator = NETWORKS[kind](seed), torch.Generator().manual_seed(seed)
    # Float32 numbers, so that a set is the same in both dtypes.
    ends = [side.float().double() for side in box(3, graph, seed, 0.6).bounding_box()]
    region: Region = Box(*ends)
    if cut:
        rows = torch.randn(3, 2, *graph.input.shape, generator=generator).to(DTYPE)
        through = (rows.flatten(2) @ region.sample(1, generator).flatten(1).unsqueeze(2)).squeeze(2)
        region = Polytope(Box(*ends), rows, through.float().double())
    x = region.sample(300, generator)
    size = torch.Size(graph.output.shape).numel()
    y = torch.stack([graph(points).flatten(1) for points in x])
    forms = torch.randn(3, size, generator=generator).to(DTYPE)
    # Bounds that some of the points meet.
    bounds = torch.quantile((y @ forms.T).flatten(0, 1), 0.2, dim=0).tolist()
    every = list(zip(forms.tolist(), bounds, strict=True))
    whole = specify(region.to("cpu", dtype), [every[:1], every[1:]])
    narrow = graph.to("cpu", dtype)
    tolerance = Tolerance.of(narrow, BOUNDING, whole, float32=False)
    part = replace(whole, bound=whole.bound + tolerance.needed)
    around = as_checked(part.region)
    found = propagate(narrow, BOUNDING, around, part.rows, forms=True)
    assert found.forms is not None
    open_ = torch.rand(3, 2, generator=generator) < 0.7
    original = tuple(side.flatten(1) for side in Box(*ends).to("cpu", dtype).bounding_box())
    limits = Limits.of(replace(part, region=around), found.forms, original)
    if isinstance(part.region, Polytope):
        limits = limits.cut_by(part.region, original)
    lower, upper = clip(limits, original, open_)
    met = torch.stack(
        [
            (y @ forms[:1].T <= bounds[0]).all(2),
            (y @ forms[1:].T <= torch.tensor(bounds[1:], dtype=DTYPE)).all(2),
        ],
        2,
    )
    inside = torch.ones(x.shape[:2], dtype=torch.bool)
    if isinstance(region, Polytope):
        inside = (x.flatten(2) @ region.matrix.flatten(2).mT <= region.bound.unsqueeze(1)).all(2)
    counts = (met & open_.unsqueeze(1)).any(2) & inside
    flat = x.flatten(2)
    kept = ((lower.unsqueeze(1) <= flat) & (flat <= upper.unsqueeze(1))).all(2)
    assert kept[counts].all()
    assert ((lower >= original[0]) & (upper <= original[1]) | (lower > upper)).all()


@pytest.mark.precision
def test_a_form_leaves_the_corner_where_it_can_be_small() -> None:
    """For `x + y <= 0.5` on the unit square a quarter remains; an empty hull crosses."""
    from absolver.analyzer.graph.linear.dense import Dense
    from tests.networks import NetworkBuilder

    builder = NetworkBuilder((2,), torch.Generator())
    builder.affine({"x": Dense(torch.eye(2, dtype=DTYPE), (2,))}, None)
    unit = Box(torch.zeros(1, 2, dtype=DTYPE), torch.ones(1, 2, dtype=DTYPE))
    whole = specify(unit, [[((1, 1), 0.5)], [((1, 0), 0.75), ((-1, 0), -0.8)]])
    found = propagate(builder.graph(), BOUNDING, unit, whole.rows, forms=True)
    assert found.forms is not None
    sides = unit.lower, unit.upper
    limits = Limits.of(whole, found.forms, sides)
    both = clip(limits, sides, torch.tensor([[True, True]]))
    assert torch.allclose(both[1], torch.full((1, 2), 0.5, dtype=DTYPE), atol=1e-6)
    lower, upper = clip(limits, sides, torch.tensor([[False, True]]))
    assert (lower > upper).all()
