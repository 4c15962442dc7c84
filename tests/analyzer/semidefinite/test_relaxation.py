"""Semidefinite bounds: weak duality, where they start, and what moves them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.semidefinite.eigenvectors import least_pairs
from absolver.analyzer.semidefinite.encode import encode
from absolver.analyzer.semidefinite.first_order import ascend
from absolver.analyzer.semidefinite.lagrangian import Lagrangian, Point, WrittenOut, bound
from absolver.analyzer.semidefinite.lines import searched_lines
from absolver.analyzer.semidefinite.proved import prove
from absolver.analyzer.semidefinite.relaxation import Relaxation
from absolver.analyzer.semidefinite.start import from_interval, from_lines, with_charges
from absolver.domains import load
from tests.analyzer.semidefinite.problems import OPERATORS, any_point, small
from tests.networks import DTYPE

NETWORKS = (*OPERATORS, "deep", "residual")


def proved(relaxation: Relaxation, point: Point) -> torch.Tensor:
    return torch.tensor([proof.bound for proof in prove(relaxation, point)], dtype=DTYPE)


def dual(relaxation: Relaxation, point: Point) -> torch.Tensor:
    """The bound as SDP-FO has it, by all eigenvalues."""
    matrix = Lagrangian(relaxation).matrix(point.multipliers) + torch.diag_embed(point.charges)
    return bound(point.charges, torch.linalg.eigvalsh(matrix)[:, 0])


@pytest.mark.soundness
@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=3, deadline=None)
@given(
    seed=st.integers(0, 1000),
    size=st.sampled_from([0.0, 1e-3, 1.0, 1e4]),
    eliminate=st.booleans(),
)
def test_no_multipliers_whatsoever_prove_more_than_a_sampled_value(
    name: str, seed: int, size: float, eliminate: bool
) -> None:
    case = small(name, seed)
    wide = name == "residual"
    relaxation = case.relaxed(eliminate=eliminate or wide, pairs=not wide)
    least = case.sampled(200).amin(0)
    for start in (any_point(relaxation, seed, size), from_interval(relaxation)):
        mixed = any_point(relaxation, seed + 1, size).multipliers
        assert (proved(relaxation, start) <= least).all()
        assert (proved(relaxation, with_charges(relaxation, mixed)) <= least).all()


@pytest.mark.soundness
@pytest.mark.parametrize("name", ["relu", "max", "deep", "sigmoid"])
def test_bounds_after_an_ascent_are_below_sampled_values(name: str) -> None:
    for seed in range(3):
        case = small(name, seed)
        relaxation = case.relaxed()
        found = ascend(relaxation, from_lines(relaxation), steps=60)
        assert (proved(relaxation, found.point) <= case.sampled().amin(0)).all()


@pytest.mark.soundness
@pytest.mark.parametrize("name", NETWORKS)
def test_every_constraint_holds_at_every_run(name: str) -> None:
    case = small(name, 5)
    relaxation = case.relaxed(pairs=True)
    share = torch.rand(100, *case.graph.input.shape, dtype=DTYPE)
    x = case.region.lower + share * (case.region.upper - case.region.lower)
    trace = relaxation.graph.trace(x)
    w = torch.ones(100, relaxation.size, dtype=DTYPE)
    for node, own in relaxation.variables.items():
        values = trace[node].flatten(1)[:, own.neurons]
        w[:, relaxation.places[node]] = (values - own.center) / own.radius
    assert (w.abs() <= 1 + 1e-9).all()
    relaxation = relaxation.select(torch.zeros(1, dtype=torch.long))
    sides = Lagrangian(relaxation).left_sides(w.unsqueeze(0))[0]
    assert (sides >= -1e-9).all()
    assert (sides[:, relaxation.equality] <= 1e-9).all()
    again = relaxation.forward(w)
    for node in relaxation.graph.nodes:
        torch.testing.assert_close(again[node.name], trace[node.name].flatten(1))


@pytest.mark.soundness
@pytest.mark.parametrize("spoiled", [torch.nan, torch.inf, -torch.inf])
def test_proposals_that_are_no_numbers_prove_nothing_wrong(spoiled: float) -> None:
    case = small("deep", 0)
    relaxation = case.relaxed()
    point = from_lines(relaxation)
    multipliers, charges = point.multipliers.clone(), point.charges.clone()
    multipliers[:, 3], charges[:, 2] = spoiled, spoiled
    for proposal in (Point(multipliers, point.charges), Point(point.multipliers, charges)):
        assert (proved(relaxation, proposal) <= case.sampled().amin(0)).all()


@pytest.mark.precision
@pytest.mark.parametrize("seed", range(5))
def test_without_multipliers_the_bound_is_intervals(seed: int) -> None:
    case = small("deep", seed, domain="interval")
    relaxation = case.relaxed(eliminate=False)
    # Forms of the output are joined to the last layer, as for every published interval bound.
    last = case.graph.nodes[-1]
    rows = case.problem.rows
    weight = rows @ last.maps[0].weight
    graph = case.graph.upto(case.graph.nodes[-2].name)
    hidden = propagate(graph, load("interval"), case.region, weight.unsqueeze(0)).rows[0]
    expected = hidden + rows @ last.bias
    found = dual(relaxation, from_interval(relaxation))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(proved(relaxation, from_interval(relaxation)), expected)
    assert isinstance(last.maps[0], Dense)


@pytest.mark.precision
@pytest.mark.parametrize("name", ["relu", "deep", "residual", "tanh", "max", "mul"])
def test_with_lines_multipliers_the_bound_is_crowns(name: str) -> None:
    case = small(name, 2)
    relaxation = case.relaxed()
    crown = propagate(case.graph, load("crown"), case.region, case.problem.rows.unsqueeze(0))
    found = proved(relaxation, from_lines(relaxation))
    torch.testing.assert_close(found, crown.rows[0], atol=1e-6, rtol=1e-6)


@pytest.mark.precision
def test_searched_lines_start_above_crown() -> None:
    case = small("deep", 3)
    chosen = searched_lines(case.problem, load("alpha_crown"))
    relaxation = encode(case.problem, load("alpha_crown"), chosen)
    plain = case.relaxed()
    better = proved(relaxation, from_lines(relaxation))
    assert (better >= proved(plain, from_lines(plain)) - 1e-9).all()


@pytest.mark.parametrize("name", ["deep", "residual", "clip", "mul"])
def test_matrices_written_out_are_those_of_products(name: str) -> None:
    relaxation = small(name, 4).relaxed(pairs=True)
    point = any_point(relaxation, 0, 1.0)
    w = torch.randn(relaxation.rows, 3, relaxation.size, dtype=DTYPE)
    lagrangian, written = Lagrangian(relaxation), WrittenOut(relaxation)
    matrix = written.matrix(point.multipliers)
    torch.testing.assert_close(lagrangian.product(point.multipliers, w), w @ matrix)
    torch.testing.assert_close(lagrangian.left_sides(w), written.left_sides(w))
    torch.testing.assert_close(lagrangian.corner(point.multipliers), matrix[:, 0, 0])
    torch.testing.assert_close(written.corner(point.multipliers), matrix[:, 0, 0])


def test_the_gradient_is_that_of_differences() -> None:
    from absolver.analyzer.semidefinite import first_order

    relaxation = small("deep", 1).relaxed()
    lagrangian = WrittenOut(relaxation)
    start = from_lines(relaxation)
    point = Point(start.multipliers + 0.1, start.charges + 0.05)
    pairs = least_pairs(lagrangian, point.multipliers, point.charges, 16)
    on_multipliers, on_charges = first_order._gradients(lagrangian, point, pairs, 1e-9)
    # The constant's charge follows the corner of M, as the ascent has it.
    corner = lagrangian.corner(point.multipliers)

    def value(multipliers: torch.Tensor, charges: torch.Tensor) -> torch.Tensor:
        charges = charges.clone()
        charges[:, 0] += corner - lagrangian.corner(multipliers)
        return dual(relaxation, Point(multipliers, charges))

    random = torch.Generator().manual_seed(0)
    h = 1e-6
    for _ in range(5):
        step = torch.randn(point.multipliers.shape, generator=random, dtype=DTYPE)
        other = torch.randn(point.charges.shape, generator=random, dtype=DTYPE)
        ahead = value(point.multipliers + h * step, point.charges + h * other)
        behind = value(point.multipliers - h * step, point.charges - h * other)
        expected = (on_multipliers * step).sum(1) + (on_charges * other).sum(1)
        torch.testing.assert_close((ahead - behind) / (2 * h), expected, atol=1e-4, rtol=1e-3)


def test_lanczos_finds_the_least_eigenvalue_from_above(monkeypatch: pytest.MonkeyPatch) -> None:
    from absolver.analyzer.semidefinite import eigenvectors

    relaxation = small("residual", 1).relaxed()
    lagrangian, point = Lagrangian(relaxation), from_lines(relaxation)
    exact = least_pairs(lagrangian, point.multipliers, point.charges, 1)
    monkeypatch.setattr(eigenvectors, "MOST_DENSE", 1)
    known = None
    for _ in range(10):
        found = least_pairs(lagrangian, point.multipliers, point.charges, 1, known)
        known = found.vectors[:, 0]
        assert (found.values >= exact.values - 1e-9).all()
    torch.testing.assert_close(found.values, exact.values, atol=0.05, rtol=0.05)


@pytest.mark.precision
def test_an_ascent_gains_much_over_intervals() -> None:
    gains = []
    for seed in range(4):
        relaxation = small("deep", seed, domain="interval").relaxed()
        start = from_interval(relaxation)
        found = ascend(relaxation, start, steps=150)
        before, after = proved(relaxation, start), proved(relaxation, found.point)
        gains.append(bool((after >= before + 0.1 * before.abs()).all()))
    assert sum(gains) >= 3
