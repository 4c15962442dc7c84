"""Claims about properties as tensors: what is refuted there is refuted exactly."""

from fractions import Fraction
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.graph.graph import Graph, Input, TensorSpec
from absolver.analyzer.properties.errors import (
    InexactCoefficientError,
    PropertyMismatchError,
    UnboundedInputError,
)
from absolver.analyzer.properties.property import (
    Clause,
    InputBox,
    LinearConstraint,
    Property,
)
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.properties.vnnlib import parse_vnnlib
from absolver.analyzer.regions.polytope import Polytope

SIZE = 2
GRAPH = Graph(
    (
        Input(name="x", shape=(1, SIZE), origin="input"),
        Input(name="y", shape=(SIZE,), origin="output"),
    ),
    (TensorSpec("x", (1, SIZE)),),
    (TensorSpec("y", (SIZE,)),),
)
HEADER = "".join(f"(declare-const {v}_{i} Real)" for v in "XY" for i in range(SIZE))
UNIT = "(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1)))"
decimals = st.decimals(-10, 10, places=4).map(Fraction)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def specify(body: str, dtype: torch.dtype = torch.float32) -> Specification:
    prop = parse_vnnlib(HEADER + body, "p", GRAPH.inputs, GRAPH.outputs)
    return Specification.from_property(prop, GRAPH, "cpu", dtype)


@dtypes
@pytest.mark.soundness
@pytest.mark.precision
@settings(max_examples=60)
@given(ends=st.lists(st.tuples(decimals, decimals), min_size=SIZE, max_size=SIZE))
def test_boxes_are_rounded_outward_and_no_further(
    dtype: torch.dtype, ends: list[tuple[Fraction, Fraction]]
) -> None:
    lower, upper = (tuple(f(pair) for pair in ends) for f in (min, max))
    clause = Clause(0, (), (LinearConstraint(((0, Fraction(1)),), Fraction(0), False),))
    prop = Property(SIZE, SIZE, (InputBox(lower, upper),), (clause,))
    spec = Specification.from_property(prop, GRAPH, "cpu", dtype)
    low, high = (bound.flatten() for bound in spec.region.bounding_box())
    next_low = torch.nextafter(low, torch.full_like(low, torch.inf))
    next_high = torch.nextafter(high, torch.full_like(high, -torch.inf))
    for i in range(SIZE):
        assert Fraction(low[i].item()) <= lower[i] < Fraction(next_low[i].item())
        assert Fraction(high[i].item()) >= upper[i] > Fraction(next_high[i].item())


@pytest.mark.regression
def test_a_tenth_is_between_two_float32_numbers() -> None:
    box = "(assert (and (== X_0 0.1) (>= X_1 0) (<= X_1 1)))"
    lower, upper = specify(box + "(assert (<= Y_0 0))").region.bounding_box()
    low, high = Fraction(lower[0, 0, 0].item()), Fraction(upper[0, 0, 0].item())
    assert low < Fraction(1, 10) < high
    assert torch.nextafter(lower[0, 0, 0], upper[0, 0, 0]) == upper[0, 0, 0]


relations = st.sampled_from(["<=", "<", ">=", ">"])
small = st.integers(-3, 3).map(lambda n: Fraction(n, 2))


@dtypes
@pytest.mark.soundness
@settings(max_examples=60)
@given(
    constraints=st.lists(st.tuples(decimals, decimals, decimals, st.booleans()), min_size=1),
    outputs=st.tuples(small, small),
)
def test_a_row_is_never_refuted_by_outputs_that_meet_its_constraint(
    dtype: torch.dtype,
    constraints: list[tuple[Fraction, Fraction, Fraction, bool]],
    outputs: tuple[Fraction, Fraction],
) -> None:
    bodies = tuple(
        LinearConstraint(((0, a), (1, b)), bound, strict)
        for a, b, bound, strict in constraints
        if a and b
    )
    clauses = tuple(Clause(0, (), (constraint,)) for constraint in bodies)
    unit = InputBox((Fraction(0),) * SIZE, (Fraction(1),) * SIZE)
    prop = Property(SIZE, SIZE, (unit,), clauses)
    try:
        spec = Specification.from_property(prop, GRAPH, "cpu", dtype)
    except InexactCoefficientError:
        assert dtype == torch.float32
        return
    for k, constraint in enumerate(bodies):
        row = spec.member[0, k].nonzero().item()
        exact = sum(Fraction(c.item()) * y for c, y in zip(spec.rows[0, row], outputs, strict=True))
        bound = Fraction(spec.bound[0, row].item())
        refuted = exact > bound or (bool(spec.strict[0, row]) and exact == bound)
        assert not (refuted and constraint.holds(outputs))


def test_a_clause_is_refuted_by_one_row_and_the_property_by_all_clauses() -> None:
    spec = specify(UNIT + "(assert (or (and (<= Y_0 1) (<= Y_1 2)) (>= Y_0 5) (<= Y_1 2)))")
    names = list(spec.names[0][:3])
    assert names == list(spec.names[0]) == ["Y_0 <= 1", "Y_1 <= 2", "Y_0 >= 5"]
    lower = {"Y_0 <= 1": 0.0, "Y_1 <= 2": 2.5, "Y_0 >= 5": -4.0}
    bounds = torch.tensor([[lower[name] for name in names]])
    assert spec.refuted(bounds).tolist() == [[True, True, True]]
    assert spec.verified(bounds)
    assert spec.margins(bounds).tolist() == [[-1.0, 0.5, 1.0]]
    bounds[0, 2] = -5
    assert spec.refuted(bounds).tolist() == [[True, False, True]]
    assert not spec.verified(bounds)
    assert spec.open(bounds).tolist() == [0]


@pytest.mark.regression
def test_touching_the_bound_refutes_a_strict_constraint_only() -> None:
    touching = torch.tensor([[1.0]])
    assert not specify(UNIT + "(assert (<= Y_0 1))").verified(touching)
    assert specify(UNIT + "(assert (< Y_0 1))").verified(touching)
    # 0.1 is no float32 number: above its upper neighbour means above it.
    tenth = specify(UNIT + "(assert (<= Y_0 0.1))")
    assert tenth.verified(tenth.bound) and Fraction(tenth.bound.item()) > Fraction(1, 10)


def test_a_bound_that_is_no_number_refutes_nothing() -> None:
    spec = specify(UNIT + "(assert (< Y_0 1))")
    assert not spec.verified(torch.tensor([[torch.nan]]))


def test_a_clause_about_inputs_alone_is_never_refuted() -> None:
    spec = specify(UNIT + "(assert (or (<= X_0 0.5) (<= Y_0 0)))")
    assert not spec.verified(torch.full(spec.bound.shape, torch.inf))


def test_sets_are_chosen_and_chunked_with_their_clauses() -> None:
    boxes = [f"(and (>= X_0 {n}) (<= X_0 {n + 1}) (<= Y_0 {n}))" for n in range(5)]
    spec = specify(f"(assert (and (>= X_1 0) (<= X_1 1)))(assert (or {' '.join(boxes)}))")
    assert spec.sets == 5
    parts = list(spec.chunks(2))
    assert [part.sets for part in parts] == [2, 2, 1]
    assert [part.names[0][0] for part in parts] == ["Y_0 <= 0", "Y_0 <= 2", "Y_0 <= 4"]
    assert parts[2].clause.tolist() == [[4]]
    assert parts[1].region.bounding_box()[0][:, 0, 0].tolist() == [2, 3]


def test_rows_are_stored_once_for_each_set_and_padded() -> None:
    first = "(and (<= X_0 0.5) (<= Y_0 Y_1) (<= Y_0 1))"
    second = "(and (<= X_0 0.5) (<= Y_0 Y_1) (>= Y_0 3))"
    third = "(and (>= X_0 0.5) (<= Y_0 0))"
    spec = specify(UNIT + f"(assert (or {first} {second} {third}))")
    assert spec.rows.shape == (2, 3, SIZE)
    assert spec.clause.tolist() == [[0, 1], [2, -1]]
    assert spec.margins(torch.zeros(2, 3))[1, 1:].tolist() == [torch.inf] * 2
    assert spec.refuted(torch.full((2, 3), -torch.inf)).tolist() == [[False, False], [False, True]]


def test_constraints_on_several_inputs_cut_the_box() -> None:
    spec = specify(UNIT + "(assert (and (<= (+ X_0 X_1) 0.5) (<= Y_0 0)))")
    assert isinstance(spec.region, Polytope)
    total = torch.tensor([[[[-1.0, -1.0]]]])
    assert spec.region.minimum(total).item() == pytest.approx(-0.5)


def test_a_missing_bound_is_an_error_that_names_the_input() -> None:
    with pytest.raises(UnboundedInputError, match="the input X_1 has no finite upper bound"):
        specify("(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= Y_0 0)))")


def test_a_coefficient_beyond_the_dtype_is_an_error_that_names_the_constraint() -> None:
    body = UNIT + "(assert (<= (* 0.123456789 Y_0) Y_1))"
    with pytest.raises(InexactCoefficientError, match=r"0.123456789 Y_0 <= Y_1.*float64 may"):
        specify(body)
    spec = specify(body, torch.float64)
    assert spec.rows[0, 0].tolist() == [123456789, -(10**9)]


@pytest.mark.regression
def test_a_property_without_clauses_is_verified() -> None:
    spec = Specification.from_property(Property(SIZE, SIZE, (), ()), GRAPH, "cpu", torch.float32)
    assert spec.sets == 0
    assert spec.verified(torch.zeros(0, 0))


def test_a_property_of_another_network_is_an_error() -> None:
    prop = Property(3, SIZE, (), ())
    with pytest.raises(PropertyMismatchError, match="about 3 inputs, but the network has 2"):
        Specification.from_property(prop, GRAPH, "cpu", torch.float32)


@settings(max_examples=50)
@given(point=st.tuples(*[st.integers(-1, 3)] * 4))
def test_a_concrete_run_meets_a_clause_exactly(point: tuple[int, int, int, int]) -> None:
    text = UNIT + "(assert (or (and (< X_0 1) (<= (+ X_0 X_1) 1) (<= Y_0 Y_1)) (> Y_0 2)))"
    prop = parse_vnnlib(HEADER + text, "p", GRAPH.inputs, GRAPH.outputs)
    a, b, c, d = point
    inside = 0 <= a <= 1 and 0 <= b <= 1
    first = inside and a < 1 and a + b <= 1 and c <= d
    expected = 0 if first else 1 if inside and c > 2 else None
    assert prop.violated_by([float(a), float(b)], [float(c), float(d)]) == expected
    for wrong in (float("nan"), float("inf")):
        assert prop.violated_by([wrong, 0.0], [9.0, 9.0]) is None
        assert prop.violated_by([0.0, 0.0], [wrong, 0.0]) is None


def test_names_of_rows_are_short() -> None:
    one, half = Fraction(1), Fraction(1, 2)
    for terms, bound, strict, expected in [
        (((0, one), (1, -one)), 0, False, "Y_0 <= Y_1"),
        (((0, -one),), -half, True, "Y_0 > 0.5"),
        (((0, 2 * one), (1, half)), Fraction(1, 3), False, "2 Y_0 + 0.5 Y_1 <= 1/3"),
        (((0, one), (1, -one)), -one, False, "Y_0 <= Y_1 - 1"),
    ]:
        constraint = LinearConstraint(terms, Fraction(bound), strict)
        assert constraint.describe("Y_{}".format) == expected


@dtypes
def test_padding_and_devices_follow_the_region(dtype: torch.dtype) -> None:
    spec = specify(UNIT + "(assert (<= Y_0 0))", dtype)
    parts = (spec.rows, spec.bound, spec.region.minimum(spec.rows.view(1, 1, 1, SIZE)))
    for part, kind in product(parts, (dtype,)):
        assert part.dtype == kind
