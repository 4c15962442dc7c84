"""Schedules: what they are at which step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from absolver.analyzer.training.errors import TrainingError
from absolver.analyzer.training.schedules import Const, Linear, Schedule, Smooth, Step, Until

TIMES = st.floats(0, 1e4)


@given(TIMES, st.floats(1, 1e4), st.floats(-10, 10), st.floats(-10, 10))
def test_ramps_begin_and_end_at_their_numbers(
    begin: float, length: float, start: float, end: float
) -> None:
    for kind in (Linear, Smooth):
        ramp = kind(start, end, begin, begin + length)
        assert ramp.at(begin) == ramp.at(begin - 1) == start
        for late in (begin + length, begin + length + 1):
            assert ramp.at(late) == pytest.approx(end, abs=1e-9)


def test_a_smooth_ramp_has_one_slope_on_both_sides_of_its_joint() -> None:
    ramp = Smooth(0, 1, 100, 500)
    joint, step = 200, 1e-3
    before = (ramp.at(joint) - ramp.at(joint - step)) / step
    behind = (ramp.at(joint + step) - ramp.at(joint)) / step
    assert before == pytest.approx(behind, rel=1e-4)
    assert ramp.at(joint - 1e-9) == pytest.approx(ramp.at(joint + 1e-9), abs=1e-9)


def test_a_smooth_ramp_never_falls() -> None:
    ramp = Smooth(0, 1, 0, 1000)
    numbers = [ramp.at(step) for step in range(1001)]
    assert all(a <= b for a, b in zip(numbers[:-1], numbers[1:], strict=True))


def test_steps_and_until_change_where_they_say() -> None:
    rate = Step(1.0, 0.5, (10, 20))
    assert [rate.at(step) for step in (9, 10, 19, 20)] == [1, 0.5, 0.5, 0.25]
    switch = Until(5, 1.0, Linear(0, 10, 5, 15))
    assert [switch.at(step) for step in (4.9, 5, 10)] == [1, 0, 5]


@pytest.mark.parametrize(
    "schedule",
    [Const(3), Linear(0, 1, 2, 4), Smooth(0, 1, 2, 4), Step(1, 2, (3,)), Until(2, 0, Const(1))],
)
def test_a_stretched_schedule_is_the_same_on_another_clock(schedule: Schedule) -> None:
    longer = schedule.stretched(7)
    for step in (0, 1.9, 2, 2.4, 3, 3.6, 5):
        assert longer.at(7 * step) == pytest.approx(schedule.at(step))


def test_a_ramp_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(TrainingError, match="begin = 3, until = 3"):
        Linear(0, 1, 3, 3)
