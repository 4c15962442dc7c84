"""Conic solvers propose: their duals reach the optimum, and nothing is taken on their word."""

import sys
from dataclasses import replace

import pytest
import torch

from absolver.analyzer.programs.mixed import MissingSolverError
from absolver.analyzer.semidefinite import conic
from absolver.analyzer.semidefinite.conic import (
    ConicSizeError,
    solve_inequality,
    solve_primal,
)
from absolver.analyzer.semidefinite.first_order import ascend
from absolver.analyzer.semidefinite.proved import prove
from absolver.analyzer.semidefinite.relaxation import Relaxation
from absolver.analyzer.semidefinite.start import from_lines
from tests.analyzer.semidefinite.problems import Small, small

pytest.importorskip("cvxpy", reason="conic programs need the extra `convex`")
pytestmark = pytest.mark.filterwarnings("ignore")  # cvxpy's about its own dependencies

FIRST = torch.zeros(1, dtype=torch.long)
TOLERANCE = 1e-5


def first(case: Small, **options: bool) -> Relaxation:
    return case.relaxed(**options).select(FIRST)


def solved(relaxation: Relaxation, solver: str = "CLARABEL", *, primal: bool = True) -> float:
    solve = solve_primal if primal else solve_inequality
    return prove(relaxation, solve(relaxation, 30.0, solver).point)[0].bound


@pytest.mark.precision
@pytest.mark.parametrize("name", ["deep", "leaky_relu", "abs", "clip", "square", "max", "tanh"])
def test_primal_inequality_and_ascent_reach_one_optimum(name: str) -> None:
    case = small(name, 7)
    relaxation = first(case)
    by_primal, by_inequality = solved(relaxation), solved(relaxation, primal=False)
    by_ascent = prove(relaxation, ascend(relaxation, from_lines(relaxation), steps=300).point)
    scale = 1 + abs(by_primal)
    assert by_primal == pytest.approx(by_inequality, abs=TOLERANCE * scale)
    assert by_ascent[0].bound <= max(by_primal, by_inequality) + TOLERANCE * scale
    assert by_ascent[0].bound >= by_primal - 0.03 * scale
    assert max(by_primal, by_inequality) <= float(case.sampled()[:, 0].amin())


@pytest.mark.precision
@pytest.mark.parametrize("seed", range(4))
def test_more_constraints_never_lower_the_optimum(seed: int) -> None:
    case = small("deep", seed)
    fewer = first(case)
    some = [c for c in fewer.constraints if "between" not in c.name]
    least = solved(replace(fewer, constraints=tuple(some)), primal=False)
    middle = solved(fewer, primal=False)
    most = solved(first(case, pairs=True), primal=False)
    assert least <= middle + TOLERANCE
    assert middle <= most + TOLERANCE


@pytest.mark.precision
@pytest.mark.parametrize("seed", range(3))
def test_neurons_that_are_stable_are_eliminated_without_loss(seed: int) -> None:
    case = small("deep", seed, width=0.2)
    kept, eliminated = first(case, eliminate=False), first(case)
    assert eliminated.size < kept.size
    assert solved(eliminated, primal=False) >= solved(kept, primal=False) - TOLERANCE


def test_clarabel_and_scs_agree() -> None:
    relaxation = first(small("deep", 1))
    assert solved(relaxation, "SCS") == pytest.approx(solved(relaxation), abs=1e-2)


def test_a_relaxation_that_is_too_large_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conic, "MOST_SIZE", 5)
    with pytest.raises(ConicSizeError, match="--engine sdp"):
        solve_primal(first(small("deep", 0)), 1.0)


def test_without_the_extra_one_line_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(MissingSolverError, match="convex"):
        solve_inequality(first(small("deep", 0)), 1.0)
