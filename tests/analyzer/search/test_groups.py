"""Groups of neurons in dual bounds: sound for whatever shares and tilts, and worth having."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.regions.box import Box
from absolver.analyzer.search.ascent import Dual, Problem, ascend
from absolver.analyzer.search.groups import CUT, SHARE, TILT, Forms, chosen_groups
from absolver.analyzer.search.hidden import Effort, search_hidden
from absolver.domains import load
from absolver.dsl.domain import Domain, Grouping
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.octahedron import directions
from absolver.dsl.operators.record import Interval
from absolver.dsl.operators.relu import Relu
from tests.analyzer.search.problems import (
    CUTS,
    MEMORY_BYTES,
    NETWORKS,
    PAIRS,
    SEARCHED,
    TRIPLES,
    box,
    dual_problem,
    inexact_columns,
    specify,
)
from tests.analyzer.search.test_ascent import agrees, random_point, split_randomly, truth
from tests.networks import DTYPE, NetworkBuilder

SEEDS = st.integers(0, 10_000)
KINDS = st.sampled_from(["relu", "leaky_relu", "convolution", "mixed"])
DOMAINS = st.sampled_from([PAIRS, TRIPLES, CUTS])
EXAMPLES = 12


def posed(kind: str, domain: Domain, seed: int, batch: int = 2) -> tuple[Graph, Problem]:
    """Two constraints over boxes, with the bounds and the groups that a search begins with."""
    graph = NETWORKS[kind](seed)
    region = box(batch, graph, seed, width=0.6)
    generator = torch.Generator().manual_seed(seed)
    size = torch.Size(graph.output.shape).numel()
    forms = torch.randn(2, size, generator=generator, dtype=DTYPE).tolist()
    rows = [(forms[0], 0.1), (forms[1], -0.2)]
    root = search_hidden(graph, specify(region, [rows]), Effort(domain, 60.0, MEMORY_BYTES))
    assume(root.points)
    whole = dual_problem(graph, region, rows)
    return graph, replace(whole, boxes=root.boxes, groups=root.points)


@pytest.mark.soundness
@settings(max_examples=EXAMPLES)
@given(kind=KINDS, domain=DOMAINS, seed=SEEDS, split=st.booleans())
def test_a_bound_is_below_all_points_for_any_shares_and_tilts(
    kind: str, domain: Domain, seed: int, split: bool
) -> None:
    graph, problem = posed(kind, domain, seed)
    generator = torch.Generator().manual_seed(seed)
    columns = inexact_columns(problem, graph)
    if split:
        problem = replace(split_randomly(graph, problem, generator), groups=problem.groups)
    dual = Dual(graph, domain, problem, columns)
    x = problem.region.sample(300, generator)
    wild = random_point(dual, generator)
    wild = replace(
        wild,
        parameters={
            # Multipliers of cuts alone have a sign.
            key: 9 * value - 3 if key[1] in (SHARE, TILT) else 9 * value if key[1] == CUT else value
            for key, value in wild.parameters.items()
        },
    )
    for point in (dual.start(), random_point(dual, generator), wild):
        bound = dual.evaluate(point).bound
        least = truth(graph, problem, point, x).amin(1, keepdim=True)
        assert (bound <= least + 1e-9 * (1 + least.abs())).all()


@pytest.mark.precision
@settings(max_examples=EXAMPLES)
@given(kind=KINDS, domain=DOMAINS, seed=SEEDS)
def test_the_start_is_not_below_the_bound_without_groups(
    kind: str, domain: Domain, seed: int
) -> None:
    graph, problem = posed(kind, domain, seed)
    own, single = (
        Dual(graph, of, replace(problem, groups=groups), inexact_columns(problem, graph))
        for of, groups in ((domain, problem.groups), (SEARCHED, {}))
    )
    bounds = [dual.evaluate(dual.start()).bound for dual in (own, single)]
    assert (bounds[0] >= bounds[1] - 1e-9 * (1 + bounds[1].abs())).all()


@settings(max_examples=EXAMPLES)
@given(kind=KINDS, domain=DOMAINS, seed=SEEDS)
def test_gradients_are_those_of_the_bound(kind: str, domain: Domain, seed: int) -> None:
    graph, problem = posed(kind, domain, seed, batch=1)
    generator = torch.Generator().manual_seed(seed)
    dual = Dual(graph, domain, problem, inexact_columns(problem, graph))
    point = random_point(dual, generator)
    slopes = dual.slope_gradients(dual.evaluate(point, gradients=True))
    checked = 0
    for key, gradient in slopes.items():
        value = point.parameters[key] = point.parameters[key].clone()  # type: ignore[index]
        place = int(torch.randint(value.numel(), (), generator=generator))
        checked += agrees(dual, point, value, place, float(gradient.flatten()[place]))
    assert checked >= 1


def coupled(domain: Domain) -> tuple[Graph, Problem]:
    """-relu(a + b) - relu(a - b) over the unit box (Singh et al. 2019, figure 2)."""
    builder = NetworkBuilder((2,), torch.Generator().manual_seed(0))
    turned = Dense(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=DTYPE), (2,))
    relu = builder.operator(OPERATORS["relu"](), builder.affine({"x": turned}, None))
    builder.affine({relu: Dense(-torch.ones(1, 2, dtype=DTYPE), (2,))}, None)
    graph, one = builder.graph(), torch.ones(1, 2, dtype=DTYPE)
    region, rows = Box(-one, one), [((1.0,), 0.0)]
    root = search_hidden(graph, specify(region, [rows]), Effort(domain, 60.0, MEMORY_BYTES))
    return graph, replace(dual_problem(graph, region, rows), boxes=root.boxes, groups=root.points)


@pytest.mark.precision
@pytest.mark.parametrize("domain", [PAIRS, CUTS])
def test_a_pair_knows_what_its_neurons_are_together(domain: Domain) -> None:
    """Lines of single neurons leave -3, where the least value is -2."""
    graph, problem = coupled(domain)
    found = []
    for groups in ({}, problem.groups):
        one = replace(problem, groups=groups)
        dual = Dual(graph, domain, one, inexact_columns(problem, graph))
        found.append(float(ascend(dual, dual.start(), steps=100)[1]))
    assert found[0] == pytest.approx(-3.0, abs=1e-6)
    assert found[1] == pytest.approx(-2.0, abs=2e-2)
    assert found[1] <= -2.0 + 1e-9


@settings(max_examples=50)
@given(
    seed=SEEDS,
    size=st.sampled_from([2, 3]),
    among=st.integers(3, 9),
    sharing=st.integers(0, 2),
)
def test_groups_are_of_inexact_neurons_and_share_few(
    seed: int, size: int, among: int, sharing: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    ends = torch.randn(2, 20, generator=generator, dtype=DTYPE).sort(0).values
    grouping = Grouping(size, among, min(sharing, size - 1))
    found = chosen_groups(Relu(), Interval(*ends), grouping, 30).tolist()
    assert len(found) <= 30
    inexact = {int(i) for i in ((ends[0] < 0) & (ends[1] > 0)).nonzero()}
    assert all(set(group) <= inexact and len(set(group)) == size for group in found)
    for one, other in combinations(found, 2):
        assert len(set(one) & set(other)) <= grouping.sharing


@settings(max_examples=30)
@given(seed=SEEDS, size=st.sampled_from([2, 3]))
def test_forms_give_every_direction_of_every_group(seed: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    groups = torch.stack([torch.randperm(9, generator=generator)[:size] for _ in range(6)])
    x = torch.randn(9, generator=generator, dtype=DTYPE)
    forms = Forms.of(groups)
    values = forms.rows(9, x) @ x
    found = forms.bounds(Interval(values - 1, values + 2))
    wanted = x[groups] @ torch.tensor(directions(size), dtype=DTYPE).T
    assert (found.lower <= wanted).all() and (wanted <= found.upper).all()
    assert torch.allclose(found.upper - found.lower, torch.full_like(wanted, 3.0))


def test_domains_of_the_library_group_as_they_say() -> None:
    assert load("krelu").groups["relu"] == Grouping(3, 3)
    assert load("prima").groups["relu"] == Grouping(3, 20, 1)
    assert not load("alpha_crown").groups


def test_a_row_without_a_coefficient_takes_nothing_of_a_cut() -> None:
    graph, problem = coupled(CUTS)
    zero = replace(problem.rows, forms=0 * problem.rows.forms)
    dual = Dual(graph, CUTS, replace(problem, rows=zero), inexact_columns(problem, graph))
    start = dual.start()
    most = {key: upper.expand_as(start.parameters[key]) for key, (_, upper) in dual.ranges.items()}
    assert float(dual.evaluate(replace(start, parameters=most)).bound) == 0.0
