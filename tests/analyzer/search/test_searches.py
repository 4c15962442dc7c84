"""Searches decide small properties as enumeration does, and never close what is violated."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.certify.regions import as_checked
from absolver.analyzer.certify.rehearsal import Rows, rehearse
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.search.activations import ActivationSearch
from absolver.analyzer.search.proof import Root
from absolver.analyzer.search.search import Resources
from absolver.analyzer.search.tolerance import Tolerance
from tests.analyzer.search.problems import (
    BOUNDING,
    LINES,
    MEMORY_BYTES,
    NETWORKS,
    SEARCHED,
    SEARCHES,
    Constraint,
    box,
    by_activations,
    by_inputs,
    least_excess,
    prober,
    run,
    specify,
)
from tests.networks import DTYPE, NetworkBuilder, relu_network

SEEDS = st.integers(0, 10_000)
DTYPES = (torch.float32, torch.float64)
MOST = 3000


def float32_box(graph: Graph, seed: int, width: float = 0.6) -> Box:
    """A box that is the same set in both dtypes."""
    return Box(*(side.float().double() for side in box(1, graph, seed, width).bounding_box()))


def shifted(forms: list[Constraint], by: float) -> list[Constraint]:
    return [(coefficients, bound + by) for coefficients, bound in forms]


def single(graph: Graph) -> Graph:
    """The network with coefficients that float32 holds."""
    return graph.to("cpu", torch.float32).to("cpu", torch.float64)


@pytest.mark.soundness
@pytest.mark.parametrize("name", sorted(SEARCHES))
@settings(max_examples=13)
@given(seed=SEEDS, both=st.booleans())
def test_small_properties_are_decided_as_enumeration_decides_them(
    name: str, seed: int, both: bool
) -> None:
    """Each network gives a property that holds, with some room, and one that does not."""
    graph = single(relu_network((2, 4, 3, 2), seed))
    region = float32_box(graph, seed)
    forms: list[Constraint] = [((1.0, -1.0), 0.0), ((0.5, 1.0), 0.25)][: 1 + both]
    least = least_excess(graph, region, forms)
    room = 0.01 + 0.01 * abs(least)
    holds = specify(region, [shifted(forms, least - room), shifted(forms, least - 2 * room)])
    search = SEARCHES[name](graph, holds, prober(graph, holds))
    assert run(search, MOST) and not search.found
    broken = specify(region, [shifted(forms, least - room), shifted(forms, least + room)])
    search = SEARCHES[name](graph, broken, prober(graph, broken))
    assert run(search, MOST) and search.found


@pytest.mark.soundness
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(SEARCHES))
@settings(max_examples=6)
@given(kind=st.sampled_from(sorted(NETWORKS)), seed=SEEDS, share=st.sampled_from((0, 1e-3)))
def test_nothing_that_is_violated_is_closed(
    dtype: torch.dtype, name: str, kind: str, seed: int, share: float
) -> None:
    """Violated by little, or met with equality at one point that was sampled."""
    graph = single(NETWORKS[kind](seed))
    region = float32_box(graph, seed, 0.4)
    x = region.sample(500, torch.Generator().manual_seed(seed))[0]
    y = graph(x).flatten(1)
    forms = torch.randint(-2, 3, (2, y.shape[1]), generator=torch.Generator().manual_seed(seed))
    excess = (y @ forms.to(DTYPE).T).amax(1)
    # A float32 number that is no smaller, as bounds are rounded up.
    bound = float(excess.min() + share * (excess.max() - excess.min()))
    clause = [(form, bound) for form in forms.tolist()]
    whole = specify(region.to("cpu", dtype), [clause])
    search = SEARCHES[name](graph.to("cpu", dtype), whole)
    for _ in range(6):
        if not search.over:
            search.step()
    assert not search.done and search.closed < 1


@pytest.mark.parametrize("name", sorted(SEARCHES))
@settings(max_examples=8)
@given(kind=st.sampled_from(("relu", "mixed", "max")), seed=SEEDS)
def test_the_shares_of_what_is_closed_and_what_is_open_sum_up_to_1(
    name: str, kind: str, seed: int
) -> None:
    graph = NETWORKS[kind](seed)
    region = box(2, graph, seed, 0.5)
    points = region.sample(300, torch.Generator().manual_seed(seed)).flatten(0, 1)
    y = graph(points).flatten(1)
    first = [1.0] + [0.0] * (y.shape[1] - 1)
    bound = float(y[:, 0].min() - 0.2 * y[:, 0].std())
    search = SEARCHES[name](graph, specify(region, [[(first, bound)], [(first, bound - 0.1)]]))
    assert search.closed == 0
    started = not search.done
    while not search.over and search.bounded < 60:
        search.step()
        total = search.closed + float(search.branches.share.sum())
        assert search.stuck or abs(total - 1) < 1e-4
        assert len(search.branches.share) == search.open
    if started and search.done:
        assert abs(search.closed - 1) < 1e-4
        proofs = search.proofs()
        leaves = sum(int((proof.levels.split < 0).sum()) for proof in proofs)
        nodes = sum(len(proof.levels.split) for proof in proofs)
        # Every node is bounded once, and a leaf is one that was closed.
        assert (nodes, 2 * leaves - len(proofs)) == (search.bounded, nodes)


@pytest.mark.regression
def test_warm_starts_survive_beside_branches_that_have_none() -> None:
    graph = relu_network((3, 6, 5, 2), 1)
    region = box(3, graph, 1, 0.6)
    search = by_activations(graph, specify(region, [[((1, 0), 9.0)], [((0, 1), 9.0)]]))
    for _ in range(3):
        search.step()
    assert search.branches.parameters
    for value in search.branches.parameters.values():
        own = value.isnan().flatten(1)
        fresh = search.branches.margin == -torch.inf
        assert len(value) == search.open and torch.equal(own.all(1), fresh)
        assert not own[~fresh].any()


@pytest.mark.regression
@pytest.mark.parametrize("bound", (-9.0, 9.0))
@pytest.mark.parametrize("width", (0.0, 1e-6))
def test_where_nothing_is_inexact_a_search_ends_or_stays_open(bound: float, width: float) -> None:
    builder = NetworkBuilder((2,), torch.Generator().manual_seed(0))
    builder.dense("x", 2)
    for graph in (builder.graph(), relu_network((2, 3, 2), 1)):
        lower = torch.full((1, *graph.input.shape), 0.25, dtype=DTYPE)
        whole = specify(Box(lower, lower + width), [[((1, 0), bound), ((1, 1), bound)]])
        for search in (by_activations(graph, whole), by_inputs(graph, whole)):
            assert run(search, 5) == (bound < 0)


@pytest.mark.regression
def test_a_search_whose_root_refutes_everything_has_no_trees() -> None:
    graph = relu_network((2, 3, 1), 0)
    search = by_activations(graph, specify(box(1, graph, 0), [[((1,), -99.0)]]))
    assert search.done and search.proofs() == []


@pytest.mark.regression
@pytest.mark.parametrize("seed", range(3))
def test_a_layer_that_is_stable_everywhere_is_no_obstacle(seed: int) -> None:
    graph = NETWORKS["mixed"](seed)
    search = by_activations(graph, specify(box(1, graph, seed, 0.3), [[((1, -1), 99.0)]]))
    assert not run(search, 8)


@pytest.mark.soundness
@pytest.mark.regression
def test_sets_that_are_cut_by_constraints_are_not_closed_where_they_are_violated() -> None:
    """On the unit square with `x + y >= 1.2`, the form `x + 2 y` begins at 1.4."""
    builder = NetworkBuilder((1, 2), torch.Generator())
    builder.affine({"x": Dense(torch.eye(2, dtype=DTYPE), (1, 2))}, None)
    graph = builder.graph()
    unit = Box(torch.zeros(1, 1, 2, dtype=DTYPE), torch.ones(1, 1, 2, dtype=DTYPE))
    cut = Polytope(unit, -torch.ones(1, 1, 1, 2, dtype=DTYPE), torch.tensor([[-1.2]], dtype=DTYPE))
    for bound, holds in ((1.6, False), (1.3, True)):
        whole = specify(cut, [[((1, 2), bound)]])
        region = as_checked(whole.region)
        found = rehearse(
            *(graph, LINES, region, whole.rows), memory_bytes=MEMORY_BYTES, rows=Rows.ALL
        )
        root = Root(LINES, found.boxes, found.masks, found.rows)
        tolerance = Tolerance.of(graph, BOUNDING, whole, float32=False)
        search = ActivationSearch(graph, SEARCHED, whole, root, tolerance, Resources(MEMORY_BYTES))
        assert run(search, 10) == holds
        assert run(by_inputs(graph, whole), 300) == holds
