"""The schedule of costly reducers: everyone is tried, who pays goes on, the budget is kept."""

from collections.abc import Sequence
from math import inf

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.fixpoint.reducers import Problem, Reducer, Reduction
from absolver.analyzer.fixpoint.schedule import Purpose, Scheduled, reduce_by_gain
from absolver.analyzer.fixpoint.store import Assumptions, FactStore, HalfSpaces, InputSet
from absolver.analyzer.regions.box import Box
from tests.networks import DTYPE, relu_network

GRAPH = relu_network((2, 3, 2), 0)


class Clock:
    """A clock that reducers move on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Pretended(Reducer):
    """Raises the only row by so much in each second, until it has no more to give."""

    def __init__(self, name: str, clock: Clock, rate: float, most: float = inf) -> None:
        self.name = name
        self._clock, self._rate, self._left = clock, rate, most
        self._row = -1.0

    def reduce(self, problem: Problem, store: FactStore, seconds: float = inf) -> Reduction:
        self._clock.now += seconds
        step = min(self._rate * seconds, self._left)
        self._left -= step
        LEVEL[0] += step
        row = torch.full_like(problem.unsafe.bound, LEVEL[0])
        return Reduction(0.0, row, problem.nowhere, exhausted=self._left <= 0)


class Base(Reducer):
    """Says what the row is at first."""

    def reduce(self, problem: Problem, store: FactStore, seconds: float = inf) -> Reduction:
        return Reduction(0.0, torch.full_like(problem.unsafe.bound, -1.0), problem.nowhere)


LEVEL = [0.0]
"""Where the row is, for all pretended reducers of one test."""


@pytest.fixture(autouse=True)
def _at_the_start() -> None:
    LEVEL[0] = -1.0


def run(
    rates: Sequence[tuple[float, float]],
    seconds: float,
    closing: tuple[float, float] | None = None,
) -> Scheduled:
    LEVEL[0] = -1.0
    rows = torch.ones(1, 1, 2, dtype=DTYPE)
    unsafe = HalfSpaces(rows, torch.zeros(1, 1, dtype=DTYPE))
    box = Box(torch.zeros(1, 1, 2, dtype=DTYPE), torch.ones(1, 1, 2, dtype=DTYPE))
    problem = Problem(GRAPH, box, unsafe, Assumptions(GRAPH, "real", InputSet("box")))
    clock = Clock()
    oracles = [Pretended(str(i), clock, *rate) for i, rate in enumerate(rates)]
    last = Pretended("closing", clock, *closing) if closing else None
    purpose = Purpose(lambda rows: (rows > 0).all(1), seconds, closing=last, clock=clock)
    found = reduce_by_gain(problem, Base(), oracles, FactStore(), purpose)
    assert clock.now <= seconds + 1e-9
    return found


RATES = st.lists(st.tuples(st.sampled_from((0.0, 0.001, 0.01, 0.05)), st.just(inf)), min_size=1)


@settings(max_examples=40)
@given(rates=RATES, seconds=st.sampled_from((0.5, 3.25, 12.0)))
def test_every_reducer_is_tried_and_the_budget_is_kept(
    rates: list[tuple[float, float]], seconds: float
) -> None:
    found = run(rates, seconds)
    tried = {turn.reducer for turn in found.turns}
    if found.reason == "out of time":
        assert len(tried) == min(len(rates), -int(-seconds // 1))
    assert sum(turn.seconds for turn in found.turns) <= seconds + 1e-9


def test_after_everyone_was_tried_the_one_that_pays_goes_on() -> None:
    found = run([(0.0, inf), (0.05, inf), (0.01, inf)], 12.0)
    assert [turn.reducer for turn in found.turns[:3]] == ["0", "1", "2"]
    assert {turn.reducer for turn in found.turns[3:]} == {"1"}


def test_one_that_pays_no_more_makes_room_for_the_next() -> None:
    found = run([(0.0, inf), (0.1, 0.25), (0.02, inf)], 12.0)
    assert [turn.reducer for turn in found.turns].count("1") == 3
    assert {turn.reducer for turn in found.turns[5:]} == {"2"}


def test_where_nobody_gains_the_one_that_has_waited_longest_is_next() -> None:
    found = run([(0.0, inf), (0.0, inf)], 5.0)
    assert [turn.reducer for turn in found.turns] == ["0", "1", "0", "1", "0"]


def test_it_ends_where_all_is_decided_or_nobody_has_anything_left_to_do() -> None:
    assert run([(0.5, inf)], 12.0).reason == "decided"
    assert run([(0.1, 0.3)], 12.0).reason == "no reducer gains any more"


def test_the_last_turn_is_kept_for_who_closes() -> None:
    found = run([(0.01, inf)], 10.0, closing=(0.5, inf))
    assert [turn.reducer for turn in found.turns] == ["0"] * 8 + ["closing"]
    assert found.turns[-1].seconds == pytest.approx(2.0)
    assert found.refuted.all() and found.reason == "decided"


def test_the_same_timings_give_the_same_turns() -> None:
    rates = [(0.03, 0.2), (0.02, inf), (0.05, 0.1)]
    assert run(rates, 9.0).turns == run(rates, 9.0).turns
