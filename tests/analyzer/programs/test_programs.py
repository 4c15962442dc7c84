"""A program has every run of its network as a point, and as few other points as it says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.programs.duals import evaluate
from absolver.analyzer.programs.highs_mixed import minimise
from absolver.analyzer.programs.mixed import Aim
from absolver.analyzer.programs.program import Rows
from absolver.analyzer.programs.relaxation import Relaxation
from tests.analyzer.programs.problems import (
    PIECEWISE_LINEAR,
    SMOOTH,
    case,
    least_by_patterns,
)
from tests.analyzer.search.problems import SEARCHED

SEEDS = st.integers(0, 10_000)
KINDS = st.sampled_from((*PIECEWISE_LINEAR, "residual"))
ANY = st.sampled_from((*PIECEWISE_LINEAR, *SMOOTH))
NEAR = 1e-7


@pytest.mark.soundness
@settings(max_examples=25)
@given(kind=ANY, seed=SEEDS)
def test_every_run_is_a_point_of_rows_hulls_and_of_one_alternative_of_each_choice(
    kind: str, seed: int
) -> None:
    known = case(kind, seed, forms=2)
    _, values = known.runs(40, seed)
    for number in range(40):
        point = known.at(values, number)
        program = known.program
        assert (point >= program.lower - NEAR).all() and (point <= program.upper + NEAR).all()
        for rows in (program.rows, program.hull, program.constraints):
            assert (rows.violation(point) <= NEAR).all()
        for choice in program.choices:
            assert any((a.violation(point) <= NEAR).all() for a in choice.alternatives)


@pytest.mark.soundness
@settings(max_examples=15)
@given(kind=KINDS, seed=SEEDS)
def test_links_leave_room_for_every_run(kind: str, seed: int) -> None:
    known = case(kind, seed, width=0.6)
    x, values = known.runs(8, seed)
    inputs, program = known.program.inputs, known.program
    for number in range(4):
        lower, upper = program.lower.copy(), program.upper.copy()
        lower[inputs] = upper[inputs] = x[number]
        from dataclasses import replace

        fixed = replace(program, lower=lower, upper=upper)
        least = minimise(fixed, Aim(program.objective)).value
        assert least == pytest.approx(known.excess(values)[number], abs=1e-5)


@pytest.mark.precision
@settings(max_examples=12)
@given(kind=st.sampled_from(PIECEWISE_LINEAR), seed=SEEDS)
def test_the_mixed_minimum_is_that_over_all_patterns_and_some_run_takes_it(
    kind: str, seed: int
) -> None:
    known = case(kind, seed, width=0.4)
    if np.prod([len(c.alternatives) for c in known.program.choices]) > 300:
        return
    found = minimise(known.program, Aim(known.program.objective))
    assert found.x is not None
    assert found.value == pytest.approx(least_by_patterns(known.program), abs=1e-5)
    x = torch.from_numpy(found.x[known.program.inputs]).view(1, *known.graph.input.shape)
    run = known.excess(known.graph.trace(x))[0]
    assert run == pytest.approx(found.value, abs=1e-4)
    _, values = known.runs(200, seed)
    assert known.excess(values).min() >= found.bound - 1e-6


@pytest.mark.precision
@settings(max_examples=25)
@given(kind=ANY, seed=SEEDS)
def test_what_duals_prove_is_the_value_of_the_linear_relaxation(kind: str, seed: int) -> None:
    known = case(kind, seed, forms=2)
    relaxation = Relaxation(known.encoding, SEARCHED)
    relaxation.pose(known.ground.forms)
    solved = relaxation.solve(60.0)
    assert solved is not None and solved.feasible
    bound = evaluate(known.ground, {}, relaxation.duals(solved).rounded()).value
    _, values = known.runs(200, seed)
    assert bound <= known.excess(values).min() + 1e-9
    assert bound >= solved.value - 1e-5 * (1 + abs(solved.value))


@pytest.mark.precision
@settings(max_examples=10)
@given(kind=st.sampled_from(PIECEWISE_LINEAR), seed=SEEDS)
def test_a_relaxation_that_was_split_and_joined_is_what_it_was(kind: str, seed: int) -> None:
    known = case(kind, seed)
    relaxation = Relaxation(known.encoding, SEARCHED)
    relaxation.pose(known.ground.forms)
    before = relaxation.solve(60.0)
    gaps = relaxation.widest()
    if not gaps:
        return
    (gap,) = gaps
    place = (gap.one.node.inputs[0], int(gap.one.places[gap.number]))
    middle = float(gap.box[0].lower + gap.box[0].upper) / 2
    values = []
    for cut in ({place: (-np.inf, middle)}, {place: (middle, np.inf)}, {}):
        relaxation.split(cut)
        solved = relaxation.solve(60.0)
        assert solved is not None and before is not None
        values.append(solved.value)
    # The parts' own minima may be lower: operands are bounded by lines alone, which may say less
    # outside of a part's box than those of the whole.
    assert values[2] == pytest.approx(before.value, abs=NEAR)


def test_rows_of_no_terms_and_of_one_variable_twice_are_what_they_say() -> None:
    rows = Rows.of([((), ()), ((0, 0), (1.0, 2.0))], np.array([0.0, 3.0]), np.array([0.0, 3.0]))
    assert rows.violation(np.array([1.0])).tolist() == [0.0, 0.0]
    assert rows.violation(np.array([2.0])).tolist() == [0.0, 3.0]
