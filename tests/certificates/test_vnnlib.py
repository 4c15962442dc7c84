"""The reader of VNN-LIB: every way to be unsafe, exactly, numbered as the format says."""

import itertools
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from absolver.certificates import vnnlib as reader
from absolver.certificates.container import file_bytes
from absolver.certificates.network import Broken, Clause, Constraint, Property, Tensor, Unsupported
from absolver.certificates.vnnlib import read_vnnlib

X = [Tensor("x", (1, 2), "float32")]
Y = [Tensor("y", (1, 2), "float32")]
HEAD = "".join(f"(declare-const {v} Real)\n" for v in ("X_0", "X_1", "Y_0", "Y_1"))
NAMES = ("X_0", "X_1", "Y_0", "Y_1")


def read(text: str, head: str = HEAD) -> Property:
    return read_vnnlib((head + text).encode(), X, Y)


def only(text: str) -> Clause:
    (clause,) = read(text).clauses
    return clause


def constraint(bound: Any, strict: bool = False, **terms: Any) -> Constraint:
    """`Y_0=2` stands for `2 Y_0`; compares as what is read."""
    numbered = tuple((NAMES.index(name), Fraction(c)) for name, c in sorted(terms.items()))
    return Constraint(numbered, Fraction(bound), strict)


# Formulas, their text, and what they say of a point: the definition, without any normal form.
RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}
Point = Sequence[Fraction]
Meaning = tuple[str, Callable[[Point], Any]]

constants = st.sampled_from(["0", "1", "-1", "0.5", "2.", ".25", "1e-1", "-2.5E+0", "+3"]).map(
    lambda text: (text, lambda point: Fraction(text))
)
variables = st.integers(0, 3).map(lambda i: (NAMES[i], lambda point: point[i]))


def combined(sign: str, parts: list[Meaning]) -> Meaning:
    text = f"({sign} {' '.join(text for text, _ in parts)})"

    def value(point: Point) -> Any:
        first, *rest = (value(point) for _, value in parts)
        if sign == "-" and not rest:
            return -first
        apply = {"+": operator.add, "-": operator.sub, "*": operator.mul}[sign]
        for other in rest:
            first = apply(first, other)
        return first

    return text, value


terms = st.recursive(
    constants | variables,
    lambda inner: (
        st.tuples(st.sampled_from("+-"), st.lists(inner, min_size=1, max_size=3))
        | st.tuples(st.just("*"), st.tuples(constants, inner).map(list))
    ).map(lambda pair: combined(*pair)),
    max_leaves=5,
)
comparisons = st.tuples(st.sampled_from(sorted(RELATIONS)), terms, terms).map(
    lambda c: (
        f"({c[0]} {c[1][0]} {c[2][0]})",
        lambda point: RELATIONS[c[0]](c[1][1](point), c[2][1](point)),
    )
)


def joined(word: str, parts: list[Meaning]) -> Meaning:
    quantifier = all if word == "and" else any
    text = f"({word} {' '.join(text for text, _ in parts)})"
    return text, lambda point: quantifier(meaning(point) for _, meaning in parts)


formulas = st.recursive(
    comparisons,
    lambda inner: st.tuples(
        st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)
    ).map(lambda pair: joined(*pair)),
    max_leaves=6,
)
points = st.tuples(*[st.sampled_from([-3, -1, 0, 1, 3, "-1/2", "1/10", "1/4", "5/2"])] * 4).map(
    lambda p: [Fraction(x) for x in p]
)


def unsafe(prop: Property, point: Point) -> bool:
    """Whether some clause has the point."""

    def meets(c: Constraint) -> bool:
        value = sum(coefficient * point[v] for v, coefficient in c.terms)
        return value < c.bound if c.strict else value <= c.bound

    def inside(clause: Clause) -> bool:
        sides = zip(clause.lower, clause.upper, point, strict=False)
        return all(
            (low is None or low <= x) and (high is None or x <= high) for low, high, x in sides
        )

    return any(
        inside(clause) and all(map(meets, (*clause.strict, *clause.on_inputs, *clause.on_outputs)))
        for clause in prop.clauses
    )


@pytest.mark.soundness
@given(st.lists(formulas, max_size=3), st.lists(points, min_size=5, max_size=20))
def test_a_point_is_in_a_clause_exactly_where_the_file_is_met(
    asserted: list[Meaning], tried: list[Point]
) -> None:
    prop = read("".join(f"(assert {text})\n" for text, _ in asserted))
    for point in tried:
        assert unsafe(prop, point) == all(meaning(point) for _, meaning in asserted)


def outputs_of(text: str) -> list[list[tuple[int, int]]]:
    """Of each clause the constraints `Y_j <= b`, as pairs (j, b), in order."""
    return [
        [(c.terms[0][0] - 2, int(c.bound)) for c in clause.on_outputs]
        for clause in read(text).clauses
    ]


def atom(output: int, bound: int) -> str:
    return f"(<= Y_{output} {bound})"


def test_atoms_of_the_file_come_before_those_of_a_choice() -> None:
    text = f"(assert {atom(0, 1)})(assert (or {atom(0, 2)} {atom(0, 3)}))(assert {atom(1, 4)})"
    assert outputs_of(text) == [[(0, 1), (1, 4), (0, 2)], [(0, 1), (1, 4), (0, 3)]]


def test_the_last_disjunction_is_counted_fastest() -> None:
    one, two = (f"(assert (or {' '.join(atom(o, b) for b in (1, 2, 3))}))" for o in (0, 1))
    digits = itertools.product((1, 2, 3), repeat=2)
    assert outputs_of(one + two) == [[(0, a), (1, b)] for a, b in digits]


def test_inner_disjunctions_are_counted_within_their_part() -> None:
    inner = f"(and {atom(0, 1)} (or {atom(0, 2)} {atom(0, 3)}) {atom(0, 4)})"
    text = f"(assert (or {inner} (or {atom(0, 5)} {atom(0, 6)})))(assert {atom(1, 7)})"
    expected = [[(0, 1), (0, 4), (0, 2)], [(0, 1), (0, 4), (0, 3)], [(0, 5)], [(0, 6)]]
    assert outputs_of(text) == [[(1, 7), *ways] for ways in expected]


def test_a_disjunction_of_one_part_is_that_part() -> None:
    text = f"(assert {atom(0, 1)})(assert (or (and {atom(0, 2)} (or {atom(0, 3)}))))"
    assert outputs_of(text + f"(assert {atom(0, 4)})") == [[(0, 1), (0, 2), (0, 3), (0, 4)]]


def test_an_equation_is_two_atoms_and_an_inequation_two_parts() -> None:
    equal = only("(assert (= Y_0 1))").on_outputs
    assert equal == (constraint(1, Y_0=1), constraint(-1, Y_0=-1))
    first, second = read("(assert (!= Y_0 1))").clauses
    assert first.on_outputs == (constraint(1, True, Y_0=1),)
    assert second.on_outputs == (constraint(-1, True, Y_0=-1),)


def test_a_false_comparison_leaves_no_clause_and_a_true_one_says_nothing() -> None:
    assert read("(assert (<= 1 0))").clauses == ()
    assert read("(assert (< X_0 X_0))").clauses == ()
    assert len(read("(assert (or (<= 1 0) (<= Y_0 0)))").clauses) == 1
    assert only("(assert (<= X_0 X_0))(assert (!= 1 2))").on_inputs == ()
    assert only("").on_outputs == ()


def test_contradicting_bounds_stay_a_clause() -> None:
    clause = only("(assert (<= X_0 0))(assert (>= X_0 1))")
    assert clause.empty and clause.lower[0] == 1 and clause.upper[0] == 0


def test_bounds_of_an_input_are_met_whatever_their_coefficient() -> None:
    clause = only(
        "(assert (<= (* 2 X_0) 3))(assert (<= X_0 2))(assert (<= (- X_0) -0.1))(assert (> X_1 7))"
        "(assert (>= X_0 -4))(assert (>= (* 3 X_1) 6))"
    )
    assert clause.upper == (Fraction(3, 2), None)
    assert clause.lower == (Fraction(1, 10), 7)
    assert clause.on_inputs == clause.on_outputs == ()


def test_a_strict_bound_of_an_input_is_kept_beside_the_closed_box() -> None:
    strict = only("(assert (> X_1 7))(assert (>= X_1 6))")
    assert strict.lower[1] == 7 and strict.strict == (constraint(-7, True, X_1=-1),)
    assert only("(assert (>= X_1 7))(assert (> Y_0 7))").strict == ()


def test_coefficients_are_those_of_the_atom_written_as_at_most() -> None:
    clause = only(
        "(assert (<= (+ (* 2 Y_0) X_0) (+ Y_1 3 Y_1)))(assert (>= X_0 (- 5 X_1 X_1)))"
        "(assert (> Y_0 (* 1.5 (- Y_1))))"
    )
    assert clause.on_outputs == (
        constraint(3, X_0=1, Y_0=2, Y_1=-2),
        constraint(0, True, Y_0=-1, Y_1=Fraction(-3, 2)),
    )
    assert clause.on_inputs == (constraint(-5, X_0=-1, X_1=-2),)


def test_decimals_are_the_rationals_that_they_write() -> None:
    for text, value in [
        ("0.03", Fraction(3, 100)),
        ("1e-06", Fraction(1, 10**6)),
        ("-1.5E+2", Fraction(-150)),
        ("+.5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("0.1000000000000000055511151231257827", Fraction("0.1000000000000000055511151231257827")),
    ]:
        assert only(f"(assert (<= X_0 {text}))").upper[0] == value


def test_clauses_without_own_bounds_share_one_box() -> None:
    box = "(assert (<= X_0 1))"
    first, second = read(f"{box}(assert (or {atom(0, 1)} {atom(0, 2)}))").clauses
    assert first.lower is second.lower and first.upper is second.upper
    first, second = read(f"{box}(assert (or (<= X_0 0) (>= X_1 0)))").clauses
    assert (first.upper[0], second.upper[0], second.lower[1]) == (0, 1, 0)


def test_comments_and_white_space_say_nothing() -> None:
    text = "; (assert (<= 1 0))\n(assert ; )\n\t(<=\r\n Y_0;(\n1) ) ; end"
    assert only(text).on_outputs == (constraint(1, Y_0=1),)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("(assert (<= Y_0 1)", Broken, "line 5: the file ends within"),
        ("(assert (<= Y_0 1)))", Broken, "line 5: `\\)` stands outside"),
        ("\n\n(assert (<= Y_2 1))", Broken, "line 7: `Y_2` is neither"),
        ("(assert (<= Y_0 one))", Broken, "`one` is neither"),
        ("(assert (<= Y_0 1_0))", Broken, "`1_0` is neither"),
        ("(assert (<= Y_0 inf))", Broken, "`inf` is neither"),
        ("(assert (<= Y_0 nan))", Broken, "`nan` is neither"),
        ("(assert (<= Y_0 1e99999))", Broken, "neither a number"),
        ("(assert (<= Y_0 \u0663))", Broken, "neither a number"),
        ("(assert (<= Y_0 (<= Y_1 0)))", Broken, "neither a number"),
        ("(assert (<= Y_0 [1]))", Unsupported, "line 5: "),
        ("(<= Y_0 1)", Broken, "line 5: .* stands outside"),
        ("Y_0", Broken, "`Y_0` stands outside"),
        ("((assert (<= Y_0 1)))", Unsupported, "line 5: "),
        ("(and (assert (<= Y_0 1)))", Unsupported, "line 5: "),
        ("(assert (and (<= Y_0 1) Y_0))", Unsupported, "line 5: "),
        ("(assert (not (<= Y_0 1)))", Unsupported, "line 5: `\\(not"),
        ("(assert (=> (<= Y_0 1) (<= Y_0 1)))", Unsupported, "line 5: `\\(=>"),
        ("(assert (<= 0 Y_0 1))", Unsupported, "`\\(<= 0 Y_0 1"),
        ("(assert (<= (* Y_0 X_0) 1))", Unsupported, "line 5: `\\(\\* Y_0 X_0"),
        ("(assert (<= (/ Y_0 2) 1))", Unsupported, "line 5: "),
        ("(assert (<= (+) 1))", Unsupported, "line 5: "),
        ("(assert ())", Unsupported, "line 5: "),
        ("(check-sat)", Unsupported, "line 5: `\\(check-sat"),
        ("(assert (<= (* Y_0 2) 1))", Unsupported, "line 5: `\\(\\* Y_0 2"),
        ("(declare-const X_2 Real)", Unsupported, "const X_2 Real is declared where"),
        ("(declare-const Y_2 Real)", Unsupported, "const Y_2 Real is declared where"),
        ("(declare-const X_00 Real)", Unsupported, "const X_00 Real is declared where"),
        ("(declare-const Z_0 Real)", Unsupported, "const Z_0 Real is declared where"),
        ("(declare-const X_0 Int)", Unsupported, "const X_0 Int is declared where"),
        ("(declare-fun X_0 () Real)", Unsupported, "line 5: "),
    ],
)
def test_what_is_not_read_is_refused_with_its_line(
    text: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read(text)


def test_the_variables_are_those_of_the_network() -> None:
    with pytest.raises(Broken, match="3 variables are declared, the network has 2 inputs and 2"):
        read("", head=HEAD.replace("(declare-const Y_1 Real)", ""))


def test_a_formula_with_too_many_clauses_is_refused_before_it_is_expanded() -> None:
    with pytest.raises(Unsupported, match="more than 1048576 clauses"):
        read("(assert (!= Y_0 1))" * 300)


def test_a_formula_of_any_depth_is_read_or_refused() -> None:
    assert len(read(f"(assert {'(and ' * 50}{atom(0, 1)}{')' * 50})").clauses) == 1
    deep = 100_000
    nested = f"(or {atom(0, 1)} " * deep + atom(0, 2) + ")" * deep
    with pytest.raises(Unsupported, match="too deep"):
        read(f"(assert {nested})")


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(Unsupported, match="utf-8"):
        read_vnnlib(b"\xff\xfe", X, Y)


def declared(text: str, kind: str) -> int:
    return text.count(f"(declare-const {kind}_")


def test_public_properties_are_read(bench_folder: Path) -> None:
    paths = [p for p in sorted(bench_folder.rglob("*.vnnlib*")) if p.stat().st_size < 20_000]
    assert len(paths) > 50
    for path in paths:
        text = file_bytes(path).decode()
        inputs = [Tensor("x", (declared(text, "X"),), "float32")]
        outputs = [Tensor("y", (declared(text, "Y"),), "float32")]
        prop = read_vnnlib(text.encode(), inputs, outputs)
        assert prop.clauses, path
        for clause in prop.clauses:
            # Every public property bounds every input, and no bounds contradict each other.
            assert None not in (*clause.lower, *clause.upper) and not clause.empty, path


def test_equal_lists_of_a_large_file_are_understood_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    compare = reader._Reader._compare
    monkeypatch.setattr(
        reader._Reader, "_compare", lambda *args: calls.append(args) or compare(*args)
    )
    parts = " ".join(f"(and (<= X_0 1) (>= X_0 0) (<= Y_0 {i}))" for i in range(1000))
    assert len(read(f"(assert (or {parts}))").clauses) == 1000
    assert len(calls) == 1002
