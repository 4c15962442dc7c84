"""Inputs without bounds: nothing is shown of numbers that were left out."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.properties.errors import ContradictionError
from absolver.analyzer.properties.property import Property
from absolver.analyzer.properties.unbounded import bounded
from absolver.analyzer.properties.vnnlib import parse_vnnlib
from absolver.analyzer.regions.errors import EmptyBoxError

INPUTS = 3
HEADER = """(vnnlib-version <2.0>)
(declare-network f (declare-input X {type} [3]) (declare-output Y {type} [1]))
"""
LARGEST = Fraction(float(2**128 - 2**104))  # of float32

numbers = st.integers(-4, 4).map(Fraction)
atoms = st.one_of(
    st.tuples(st.sampled_from(["<=", ">=", "<"]), st.integers(0, INPUTS - 1), numbers).map(
        lambda t: f"({t[0]} X[{t[1]}] {t[2]}.0)"
    ),
    st.tuples(st.sampled_from(["<=", ">="]), numbers, numbers, numbers).map(
        lambda t: f"({t[0]} (+ (* {t[1]}.0 X[0]) (* {t[2]}.0 X[1]) X[2]) {t[3]}.0)"
    ),
)
points = st.tuples(*[st.integers(-9, 9).map(Fraction) | st.just(Fraction(10**7))] * INPUTS)


def read(body: str, kind: str = "real") -> Property:
    text = HEADER.format(type=kind) + body
    return parse_vnnlib(text, "p", [TensorSpec("x", (3,))], [TensorSpec("y", (1,))])


@pytest.mark.soundness
@given(
    clauses=st.lists(st.lists(atoms, min_size=1, max_size=4), min_size=1, max_size=3),
    points=st.lists(points, min_size=10, max_size=20),
    kind=st.sampled_from(["real", "float32"]),
)
def test_every_point_of_a_property_stays_and_lies_in_what_is_to_refute(
    clauses: list[list[str]], points: list[tuple[Fraction, ...]], kind: str
) -> None:
    body = "(assert (or " + " ".join(f"(and {' '.join(c)})" for c in clauses) + "))"
    body += "(assert (>= Y[0] 0.0))"
    try:
        prop = read(body, kind)
    except (ContradictionError, EmptyBoxError):
        return
    exact, around = bounded(prop, [TensorSpec("x", (3,))])
    for clause in around.clauses:
        box = around.boxes[clause.box]
        assert None not in (*box.lower, *box.upper)
    for point in points:
        known = prop.violated_by(point, [1.0])
        assert (exact.violated_by(point, [1.0]) is None) == (known is None)
        if known is not None:
            used = around.clauses
            held = any(
                around.boxes[clause.box].contains(point)
                and all(c.holds(point) for c in clause.on_inputs)
                for clause in used
            )
            rest = used[-1].on_inputs == used[-1].on_outputs == ()
            assert held or rest


def test_constraints_bound_inputs_and_types_bound_the_rest() -> None:
    body = "(assert (and (>= X[0] 0.0) (>= X[1] 0.0) (<= (+ X[0] (* 2.0 X[1])) 3.0)))"
    exact, around = bounded(read(body, "float32"), [TensorSpec("x", (3,))])
    (clause,) = exact.clauses
    box = exact.boxes[clause.box]
    assert box.lower == (0, 0, -LARGEST) and box.upper == (3, Fraction(3, 2), LARGEST)
    assert len(around.clauses) == 2 and around.clauses[0] == clause
    real, searched = bounded(read(body), [TensorSpec("x", (3,))])
    assert real.boxes[real.clauses[0].box].lower[2] is None
    assert searched.clauses[-1].on_inputs == searched.clauses[-1].on_outputs == ()


def test_bounded_inputs_are_left_as_they_are() -> None:
    bounds = "".join(f"(assert (>= X[{i}] 0.0))(assert (<= X[{i}] 1.0))" for i in range(INPUTS))
    prop = read(bounds)
    exact, around = bounded(prop, [TensorSpec("x", (3,))])
    assert exact is around is prop
