"""Parts of input sets cover them, and what is bounded on each holds on the whole set."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver import domains
from absolver.analyzer.propagate.engine import Given, propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.propagate.parts import IndivisibleSetError, split
from absolver.analyzer.regions.ball import Ball
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.dsl.errors import UnknownDomainError
from tests.analyzer.propagate.exact import Hard, hard_cases
from tests.analyzer.propagate.test_rigorous import ROWS, outside
from tests.analyzer.propagate.test_soundness import boxes, escapes
from tests.networks import DTYPE, relu_network


@pytest.mark.soundness
@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 13), scale=st.sampled_from([0, 0.5, 9.0]))
def test_the_parts_of_a_box_cover_it_and_have_the_same_size(
    seed: int, count: int, scale: float
) -> None:
    graph = relu_network((3, 5, 2), seed)
    box = boxes(4, scale, seed, graph.input.shape)
    parts = split(graph, box, torch.eye(2, dtype=DTYPE).unsqueeze(0), count)
    assert parts.region.batch == 4 * count and parts.index().tolist() == sorted(
        [0, 1, 2, 3] * count
    )
    points = box.sample(200, torch.Generator().manual_seed(seed)).unsqueeze(2)
    lower, upper = (
        torch.unflatten(side, 0, (4, count)).unsqueeze(1) for side in parts.region.bounding_box()
    )
    inside = ((lower <= points) & (points <= upper)).flatten(3).all(3)
    assert inside.any(2).all()
    volume = (upper - lower).flatten(3)[:, 0]
    whole = (box.upper - box.lower).flatten(1)
    varies = whole > 0
    share = torch.where(varies.unsqueeze(1), volume / torch.where(varies, whole, 1).unsqueeze(1), 1)
    assert torch.allclose(share.prod(2).sum(1)[varies.any(1)], torch.ones((), dtype=DTYPE))


@pytest.mark.precision
def test_edges_on_which_no_output_hangs_are_not_split() -> None:
    graph = relu_network((3, 5, 2), 1)
    box = Box(
        torch.tensor([[[0.0, 0, 0]]], dtype=DTYPE), torch.tensor([[[1.0, 9, 0]]], dtype=DTYPE)
    )
    axes = [int(one.axis) for one in split(graph, box, torch.ones(1, 1, 2, dtype=DTYPE), 16).splits]
    assert set(axes) <= {0, 1} and 1 in axes


@pytest.mark.precision
@pytest.mark.parametrize("inner", ["interval", "zonotope", "crown"])
def test_more_parts_say_more_of_an_interval_network(inner: str) -> None:
    graph = relu_network((3, 8, 8, 2), 2)
    box = boxes(2, 1.0, 2, graph.input.shape)
    rows = torch.eye(2, dtype=DTYPE).unsqueeze(0)
    least = [
        propagate(graph, domains.load(name), box, rows).rows.sum().item()
        for name in (inner, f"powerset({inner}, 8)", f"powerset({inner}, 64)")
    ]
    assert least[0] < least[1] < least[2]


@pytest.mark.soundness
@settings(max_examples=8)
@given(case=hard_cases())
def test_no_exact_value_is_outside_of_all_parts(case: Hard) -> None:
    found = propagate(
        *(case.graph, domains.load("powerset(zonotope & crown, 3)"), case.box, ROWS.unsqueeze(0)),
        rounding=Rounding(),
    )
    assert not any(outside(case, [found]))


@pytest.mark.soundness
def test_parts_of_a_polytope_and_what_is_given_are_those_of_the_set() -> None:
    graph = relu_network((3, 8, 8, 2), 3)
    box = boxes(2, 0.6, 3, graph.input.shape)
    total = torch.ones(2, 1, 1, 3, dtype=DTYPE)
    bound = box.center.sum((1, 2)).view(2, 1)
    cut, rows = Polytope(box, total, bound), torch.eye(2, dtype=DTYPE).unsqueeze(0)
    domain = domains.load("powerset(crown, 5)")
    found = propagate(graph, domain, cut, rows)
    again = propagate(graph, domain, cut, rows, given=Given(found.hidden))
    assert (again.rows >= found.rows - 1e-9).all()
    for element, points in enumerate(box.sample(500, torch.Generator().manual_seed(0))):
        inside = points[points.sum((1, 2)) <= bound[element, 0]]
        assert (graph(inside).flatten(1) >= again.rows[element] - 1e-9).all()
    assert escapes(graph, box, rows, propagate(graph, domain, box, rows), 3) <= 1e-9


def test_a_ball_has_no_edges_to_split() -> None:
    graph = relu_network((3, 5, 2), 1)
    region = Ball(torch.zeros(1, 1, 3, dtype=DTYPE), torch.ones(1, dtype=DTYPE), 2)
    with pytest.raises(IndivisibleSetError, match="input set is a Ball"):
        propagate(
            graph, domains.load("powerset(crown, 2)"), region, torch.ones(1, 1, 2, dtype=DTYPE)
        )


@pytest.mark.parametrize(
    "expression",
    [
        "powerset(zonotope, 1)",
        "powerset(zonotope, 5000)",
        "crown & powerset(zonotope, 4)",
        "powerset(zonotope_powerset, 4)",
        "zonotope_powerset & crown",
        "powerset(crown)",
    ],
)
def test_what_is_no_powerset_is_refused(expression: str) -> None:
    with pytest.raises(UnknownDomainError, match="powerset"):
        domains.load(expression)
