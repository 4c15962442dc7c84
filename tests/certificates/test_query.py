"""The reader of query records: the neighbourhood and the label, exactly."""

import base64
import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absolver.certificates.network import Broken, Constraint, Tensor, Unsupported
from absolver.certificates.query import read_query

INPUTS = [Tensor("x", (1, 3), "float32")]
OUTPUTS = [Tensor("y", (1, 3), "float32")]


def record(center: Any = (0.1, -1.0, 2.0), **changes: Any) -> dict[str, Any]:
    values = np.array(center, "<f4")
    array = {
        "dtype": "float32",
        "shape": list(values.shape),
        "data": base64.b64encode(values.tobytes()).decode(),
    }
    query: dict[str, Any] = {"query": 1, "array": array, "norm": "inf", "epsilon": "1/10"}
    query |= {"label": 1, "clip": None, "outputs": 3}
    return query | changes


def read(query: Any) -> Any:
    return read_query(json.dumps(query).encode(), INPUTS, OUTPUTS)


floats = st.floats(-4, 4, width=32)


@pytest.mark.soundness
@given(
    st.lists(floats, min_size=3, max_size=3),
    st.fractions(0, 2),
    st.none() | st.tuples(st.fractions(-3, 0), st.fractions(0, 3)),
    st.lists(st.fractions(-6, 6), min_size=3, max_size=3),
)
def test_the_box_is_the_clipped_neighbourhood(
    center: list[float],
    epsilon: Fraction,
    clip: tuple[Fraction, Fraction] | None,
    point: list[Fraction],
) -> None:
    written = None if clip is None else [str(end) for end in clip]
    prop = read(record(center, epsilon=str(epsilon), clip=written))
    near = max(abs(p - Fraction(c)) for p, c in zip(point, center, strict=True)) <= epsilon
    allowed = clip is None or all(clip[0] <= p <= clip[1] for p in point)
    for clause in prop.clauses:
        sides = zip(clause.lower, point, clause.upper, strict=True)
        assert all(low <= p <= high for low, p, high in sides) == (near and allowed)
    assert prop.ball is None


def test_every_other_label_is_a_clause_in_order() -> None:
    clauses = read(record()).clauses
    one, zero = Fraction(1), Fraction(0)
    assert [clause.on_outputs for clause in clauses] == [
        (Constraint(((3, -one), (4, one)), zero, False),),
        (Constraint(((4, one), (5, -one)), zero, False),),
    ]
    assert clauses[0].lower is clauses[1].lower


@pytest.mark.parametrize("norm", ["1", "2"])
def test_norms_1_and_2_have_a_ball_around_the_exact_centre(norm: str) -> None:
    prop = read(record(norm=norm))
    assert prop.ball is not None
    assert (prop.ball.norm, prop.ball.radius) == (int(norm), Fraction(1, 10))
    assert prop.ball.center[0] == Fraction(float(np.float32(0.1))) != Fraction(1, 10)


def test_axes_of_length_1_do_not_matter() -> None:
    images = [Tensor("x", (1, 1, 2, 2), "float32")]
    query = json.dumps(record(np.zeros((2, 2)))).encode()
    assert len(read_query(query, images, OUTPUTS).clauses[0].lower) == 4
    with pytest.raises(Broken, match="the centre is"):
        read_query(json.dumps(record(np.zeros(4))).encode(), images, OUTPUTS)


def test_norm_0_has_no_rule() -> None:
    with pytest.raises(Unsupported, match="norm 0"):
        read(record(norm="0"))


@pytest.mark.parametrize(
    "changes",
    [
        {"query": 2},
        {"label": 3},
        {"label": -1},
        {"label": "1"},
        {"label": 1.0},
        {"label": True},
        {"outputs": 4},
        {"epsilon": "0.1"},
        {"epsilon": 0.1},
        {"epsilon": "-1/10"},
        {"norm": "3"},
        {"norm": 2},
        {"clip": ["0"]},
        {"clip": ["0", "1", "2"]},
        {"clip": [0, 1]},
        {"clip": "01"},
        {"clip": []},
        {"extra": 1},
        {"array": None},
        {"array": {}},
        {"array": record()["array"] | {"dtype": "float64"}},
        {"array": record()["array"] | {"shape": [4]}},
        {"array": record()["array"] | {"shape": None}},
        {"array": record()["array"] | {"data": "AAAA"}},
        {"array": record()["array"] | {"data": "AAAA!AAAA"}},
        {"array": record([0, np.nan, 0])["array"]},
        {"array": record([0, np.inf, 0])["array"]},
    ],
)
def test_another_record_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((Broken, Unsupported)):
        read(record() | changes)


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b"null", b"\xff", b"[" * 100_000, b'"query"'])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(Broken):
        read_query(data, INPUTS, OUTPUTS)


def test_a_network_with_one_output_or_two_inputs_has_no_query() -> None:
    query = json.dumps(record(label=0, outputs=1)).encode()
    with pytest.raises(Broken):
        read_query(query, INPUTS, [Tensor("y", (1, 1), "float32")])
    with pytest.raises(Broken):
        read_query(json.dumps(record()).encode(), INPUTS * 2, OUTPUTS)
