"""The reader of VNN-LIB 2.x: queries about one network, with typed tensors and indices."""

from fractions import Fraction

import pytest

from absolver.certificates.network import Broken, Constraint, Property, Tensor, Unsupported
from absolver.certificates.vnnlib import read_vnnlib

X = [Tensor("x", (1, 2), "float32")]
Y = [Tensor("y", (1, 2), "float32")]

QUERY = """(vnnlib-version <2.0>)
(declare-network net
  (declare-input A {type} [2, 1])
  (declare-output B {type} [1,2]))
"""


def read(text: str, head: str) -> Property:
    return read_vnnlib((head + text).encode(), X, Y)


def constraint(bound: int, terms: dict[int, int], *, strict: bool = False) -> Constraint:
    numbered = tuple((variable, Fraction(c)) for variable, c in terms.items())
    return Constraint(numbered, Fraction(bound), strict)


def test_a_query_of_version_2_names_tensors_and_indices() -> None:
    text = (
        "(assert (or (<= A[1,0] 0.5) (!= B [0, 1] 2)))(assert (== (* 2.0 A[0,0]) (- B[0,0] 1.0)))"
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
    text = """(vnnlib-version <2.0>)(declare-network f (declare-output out real [1])
        (declare-input s real []) (declare-input t real [2]))
        (assert (<= s 1.0))(assert (<= t[1] 2.0))(assert (<= out[0] 3.0))"""
    (clause,) = read_vnnlib(text.encode(), inputs, [Tensor("y", (1,), "float32")]).clauses
    assert clause.upper == (1, None, 2)
    assert clause.on_outputs[0].terms == ((3, Fraction(1)),)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("<2.0>", "<3.0>", Unsupported),
        ("real", "float64", Unsupported),
        ("[2, 1]", "[3, 1]", Broken),
        ("[2, 1]", "[2, x]", Unsupported),
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


@pytest.mark.parametrize("index", ["A", "A[0]", "A[2,0]", "A[0,-1]", "A[00,0]", "A[0,0,0]", "C[0]"])
def test_an_index_outside_of_the_shape_is_refused(index: str) -> None:
    with pytest.raises(Broken, match="line 5: .* neither a number nor a declared variable"):
        read(f"(assert (<= {index} 0.0))", head=QUERY.format(type="real"))


def test_a_type_that_is_not_the_networks_is_refused() -> None:
    double = [Tensor("x", (1, 2), "float64")]
    text = QUERY.format(type="float32").encode()
    with pytest.raises(Broken, match="the network's x is float64"):
        read_vnnlib(text, double, Y)
    assert read_vnnlib(QUERY.format(type="real").encode(), double, Y).semantics == "real"
