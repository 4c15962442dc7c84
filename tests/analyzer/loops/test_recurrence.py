"""Which states a recurrence names."""

import pytest

from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.loops.errors import RecurrenceError
from absolver.analyzer.loops.recurrence import Recurrence


def spec(name: str) -> TensorSpec:
    return TensorSpec(name, (1, 2))


def test_states_are_the_flat_elements_of_the_inputs_that_pairs_name() -> None:
    inputs, outputs = [spec("u"), spec("h")], [spec("y"), spec("next")]
    found = Recurrence.of(["next=h"], inputs, outputs)
    assert found.states == (2, 3) and found.following == (2, 3)


@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.parametrize("inputs", [["c"], ["b=c"]])
def test_a_pair_that_can_be_read_in_two_ways_names_no_state(inputs: list[str]) -> None:
    with pytest.raises(RecurrenceError, match="names without"):
        Recurrence.of(["a=b=c"], [spec(name) for name in inputs], [spec("a"), spec("a=b")])
