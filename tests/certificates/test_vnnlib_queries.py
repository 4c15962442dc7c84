"""The reader of VNN-LIB 2.x: queries about one network, with typed tensors and indices."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absolver.certificates.network import Broken, Constraint, Property, Tensor, Unsupported
from absolver.certificates.vnnlib import _nearest_float32, read_vnnlib

X = [Tensor("x", (1, 2), "float32")]
Y = [Tensor("y", (1, 2), "float32")]

QUERY = """(vnnlib-version <2.0>)
(declare-network net
  (declare-input A {type} [1, 2])
  (declare-output B {type} [1,2]))
"""


def read(text: str, head: str) -> Property:
    return read_vnnlib((head + text).encode(), X, Y)


def constraint(bound: int, terms: dict[int, int], *, strict: bool = False) -> Constraint:
    numbered = tuple((variable, Fraction(c)) for variable, c in terms.items())
    return Constraint(numbered, Fraction(bound), strict)


def test_a_query_of_version_2_names_tensors_and_indices() -> None:
    text = (
        "(assert (or (<= A[0,1] 0.5) (!= B [0, 1] 2)))(assert (== (* 2.0 A[0,0]) (- B[0,0] 1.0)))"
    )
    prop = read(text, head=QUERY.format(type="real"))
    assert [clause.upper for clause in prop.clauses] == [
        (None, Fraction(1, 2)),
        *[(None, None)] * 2,
    ]
    assert prop.clauses[1].on_outputs == (
        constraint(-1, {0: 2, 2: -1}),
        constraint(1, {0: -2, 2: 1}),
        constraint(2, {3: 1}, strict=True),
    )


@pytest.mark.parametrize(
    ("types", "semantics"),
    [
        (("real", "real"), "real"),
        (("Real", "Real"), "real"),
        (("float32", "float32"), "float32"),
        (("real", "float32"), "float32"),
        (("float32", "real"), "float32"),
    ],
)
def test_declared_types_are_the_semantics(types: tuple[str, str], semantics: str) -> None:
    head = QUERY.replace("A {type}", "A " + types[0]).replace("B {type}", "B " + types[1])
    assert read("", head=head).semantics == semantics
    scalars = "".join(f"(declare-const {v} Real)" for v in ("X_0", "X_1", "Y_0", "Y_1"))
    assert read("", head=scalars).semantics is None


def test_several_inputs_and_scalars_are_joined_in_order() -> None:
    inputs = [Tensor("a", (), "float32"), Tensor("b", (2,), "float32")]
    text = """(vnnlib-version <2.0>)(declare-network f (declare-input s real [])
        (declare-input t real [2]) (declare-output out real [1]))
        (assert (<= s 1.0))(assert (<= t[1] 2.0))(assert (<= out[0] 3.0))"""
    (clause,) = read_vnnlib(text.encode(), inputs, [Tensor("y", (1,), "float32")]).clauses
    assert clause.upper == (1, None, 2)
    assert clause.on_outputs[0].terms == ((3, Fraction(1)),)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("<2.0>", "<3.0>", Unsupported),
        ("real", "float64", Unsupported),
        ("[1, 2]", "[1, 3]", Unsupported),
        ("[1, 2]", "[1, x]", Unsupported),
        ("A real", "7 real", Unsupported),
        ("net\n", "net (equal-to other)\n", Unsupported),
        ("net\n", "net stray\n", Unsupported),
        ("(declare-output B", "(declare-hidden H real [1])(declare-output B", Unsupported),
        ("(declare-output B", "(declare-output A", Broken),
        ("(declare-output B real [1,2])", "", Broken),
        ("(declare-output B", "(declare-input C real [1])(declare-output B", Unsupported),
        (
            "B real [1,2]))",
            "B real [1,2])) (declare-network g (declare-input C real [2]))",
            Unsupported,
        ),
        ("B real [1,2]))", "B real [1,2])) (declare-const X_0 Real)", Broken),
        ("(declare-network net", "(and", Unsupported),
    ],
)
def test_a_query_of_another_network_is_refused(old: str, new: str, error: type[Exception]) -> None:
    head = QUERY.format(type="real")
    assert old in head
    with pytest.raises(error):
        read("", head=head.replace(old, new))


@pytest.mark.parametrize("index", ["A", "A[0]", "A[1,0]", "A[0,-1]", "A[00,0]", "A[0,0,0]", "C[0]"])
def test_an_index_outside_of_the_shape_is_refused(index: str) -> None:
    with pytest.raises(Broken, match="line 5: .* neither a number nor a declared variable"):
        read(f"(assert (<= {index} 0.0))", head=QUERY.format(type="real"))


def test_a_type_that_is_not_the_networks_is_refused() -> None:
    double = [Tensor("x", (1, 2), "float64")]
    text = QUERY.format(type="float32").encode()
    with pytest.raises(Unsupported, match="the network has input x float64"):
        read_vnnlib(text, double, Y)
    assert read_vnnlib(QUERY.format(type="real").encode(), double, Y).semantics == "real"


@pytest.mark.regression
def test_a_constant_of_float32_is_what_it_writes_or_the_nearest_number() -> None:
    # 0.1 lies below its nearest binary32 number, 0.3 above it.
    tenth, third = (Fraction(float(np.float32(text))) for text in ("0.1", "0.3"))
    assert Fraction("0.1") < tenth and third > Fraction("0.3") - Fraction(1, 10**7)
    text = "".join(
        f"(assert ({relation} {v} {number}))"
        for v, number in (("A[0,0]", "0.1"), ("A[0,1]", "0.3"), ("B[0,0]", "0.1"))
        for relation in ("<=", ">=")
    )
    (real,) = read(text, head=QUERY.format(type="real")).clauses
    (clause,) = read(text, head=QUERY.format(type="float32")).clauses
    pairs = [sorted((Fraction(text), near)) for text, near in (("0.1", tenth), ("0.3", third))]
    assert clause.lower == tuple(low for low, _ in pairs)
    assert clause.upper == tuple(high for _, high in pairs)
    assert [c.bound for c in clause.on_outputs] == [tenth, -Fraction("0.1")]
    assert real.lower == real.upper == (Fraction("0.1"), Fraction("0.3"))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(-9, 9))
def test_the_nearest_number_of_float32_is_that_of_ieee(number: float, step: int) -> None:
    exact = Fraction(number) * (1 + Fraction(step, 2**26))
    nearest = _nearest_float32(exact)
    if abs(exact) < 2**127:
        with np.errstate(under="ignore"):
            ends = [
                float(np.nextafter(np.float32(number), np.float32(s))) for s in (-np.inf, np.inf)
            ]
        assert nearest == Fraction(float(np.float32(float(nearest))))
        assert all(abs(exact - nearest) <= abs(exact - Fraction(x)) for x in (number, *ends))


def test_other_constants_of_float32_within_sums_are_refused() -> None:
    head = QUERY.format(type="float32")
    assert read("(assert (<= (* 0.5 A[0,0]) 1.0))", head=head).clauses[0].upper[0] == 2
    with pytest.raises(Unsupported, match="line 5: 0.1 within a sum or product"):
        read("(assert (<= (* 0.1 A[0,0]) 1.0))", head=head)
