"""Proposals are written compactly, and nothing that matters is lost."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from absolver.analyzer.certify.encoding import LineEncoder, compact, mask_entry, ranges, refutations
from absolver.analyzer.certify.rehearsal import Masks
from absolver.analyzer.graph.graph import Nonlinear
from absolver.domains import load
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Interval

BOX = Interval(
    torch.tensor([[-1.0, -1.0, 1.0, -2.0]], dtype=torch.float64),
    torch.tensor([[2.0, 0.5, 2.0, -1.0]], dtype=torch.float64),
)


def lines(name: str, domain: str, box: Interval = BOX) -> dict[str, object] | None:
    operator = OPERATORS[name]()
    operands = ("z",) * (2 if name == "mul" else 1)
    node = Nonlinear(
        name="h", shape=(4,), origin="", inputs=operands, operator=operator, label="h#0"
    )
    boxes = [box] * len(operands)
    return LineEncoder(node, load(domain).slopes(operator, boxes), boxes).entry(0)


def test_the_lines_of_crown_around_relu_are_the_chord_and_one_bit_each() -> None:
    entry = lines("relu", "crown")
    assert entry is not None
    assert entry["operator"] == "h#0" and entry["upper"] == ["chord"]
    (lower,) = entry["lower"]
    # Where the box clearly decides the neuron the slope does not matter, and is 0.
    assert lower.dtype == np.bool_ and lower.tolist() == [True, False, False, False]


def test_slopes_that_are_all_zero_are_the_number_zero() -> None:
    box = Interval(BOX.lower * 2, BOX.upper)
    entry = lines("relu", "crown", box)
    assert entry == {"operator": "h#0", "lower": [0], "upper": ["chord"]}


def test_parallel_lines_are_chords() -> None:
    assert lines("relu", "zonotope") == {
        "operator": "h#0",
        "lower": ["chord"],
        "upper": ["chord"],
    }


def test_an_operator_that_all_boxes_decide_has_no_lines() -> None:
    assert lines("relu", "crown", Interval(BOX.lower + 10, BOX.upper + 10)) is None


def test_a_neuron_that_is_barely_stable_has_its_slope() -> None:
    # The checker rounds outward, and may find it unstable by a hair.
    box = Interval(BOX.lower.clone(), BOX.upper)
    box.lower[0, 2] = 1e-9
    entry = lines("relu", "crown", box)
    assert entry is not None
    (lower,) = entry["lower"]
    assert lower.tolist() == [True, False, True, False] and entry["upper"] == ["chord"]


def test_each_operand_has_its_slopes() -> None:
    entry = lines("mul", "crown")
    assert entry is not None
    assert len(entry["lower"]) == len(entry["upper"]) == 2


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=5))
def test_written_slopes_are_finite_and_rounded_once(values: list[float]) -> None:
    array = np.array(values)
    written = compact(array).astype(np.float64)
    assert np.isfinite(written).all()
    inside = np.abs(array) <= float(np.finfo(np.float32).max)
    assert (written[inside] == array[inside].astype(np.float32)).all()


@given(st.sets(st.integers(0, 40)))
def test_ranges_name_each_number_once(numbers: set[int]) -> None:
    found = [n for first, end in ranges(numbers) for n in range(first, end)]
    assert found == sorted(numbers)
    assert all(a[1] < b[0] for a, b in zip(ranges(numbers), ranges(numbers)[1:], strict=False))


def test_a_mask_of_one_kind_is_one_truth_value() -> None:
    masks = Masks(torch.tensor([[True, True]]), torch.tensor([[False, True]]))
    found = mask_entry(("h#0", 1), masks, 0)
    assert found is not None
    entry, count = found
    assert count == 3
    assert entry["operand"] == ["h#0", 1] and entry["lower"] is True
    assert entry["upper"].tolist() == [False, True]
    none = Masks(torch.tensor([[False]]), torch.tensor([[False]]))
    assert mask_entry(("h#0", 0), none, 0) is None


def test_each_refutation_is_a_row_of_its_own() -> None:
    (entry,) = refutations([(3, 0), (7, 2)])
    assert entry["clause"].tolist() == [3, 7]
    assert entry["row"].tolist() == [0, 1]
    assert entry["constraint"].tolist() == [0, 2]
