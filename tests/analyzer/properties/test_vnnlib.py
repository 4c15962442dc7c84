"""Claims about reading VNN-LIB: every point is judged as the text says, and errors name a place."""

import gzip
import re
import time
from fractions import Fraction
from pathlib import Path

import pytest
import vnnlib
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from absolver.analyzer.errors import AbsolverError
from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.properties.errors import (
    ContradictionError,
    PropertyFileError,
    PropertyMismatchError,
    PropertySyntaxError,
    UnsupportedPropertyError,
)
from absolver.analyzer.properties.numerals import format_rational, parse_decimal
from absolver.analyzer.properties.vnnlib import parse_vnnlib, read_vnnlib
from absolver.analyzer.regions.errors import EmptyBoxError
from tests.analyzer.properties.formulas import (
    HEADER_1,
    HEADER_2,
    INPUTS,
    NAMES_2,
    OUTPUTS,
    SPECS,
    Expression,
    assertions,
    member,
    parse,
    points,
    truth,
    write,
)


@pytest.mark.soundness
@pytest.mark.precision
@settings(max_examples=60)
@given(formulas=assertions, points=st.lists(points, min_size=5, max_size=20))
@pytest.mark.parametrize("header", [HEADER_1, HEADER_2], ids=["1.0", "2.0"])
def test_a_point_meets_the_property_exactly_where_the_text_is_true(
    header: str, formulas: list[tuple], points: list[tuple[Fraction, ...]]
) -> None:
    names = NAMES_2 if header == HEADER_2 else {}
    body = "\n".join(f"(assert {write(formula, names)})" for formula in formulas)
    variables = [f"X_{i}" for i in range(INPUTS)] + [f"Y_{i}" for i in range(OUTPUTS)]
    expected = []
    for point in points:
        values = dict(zip(variables, point, strict=True))
        expected.append(all(truth(formula, values) for formula in formulas))
    try:
        prop = parse(body, header)
    except (EmptyBoxError, ContradictionError):
        assert not any(expected)
        return
    assert [member(prop, point) for point in points] == expected


def constant(node: object) -> object:
    """Take a tree of the official package apart, as nested tuples."""
    kinds = {
        vnnlib.LessEqual: "<=",
        vnnlib.LessThan: "<",
        vnnlib.GreaterEqual: ">=",
        vnnlib.GreaterThan: ">",
        vnnlib.Equal: "==",
        vnnlib.NotEqual: "!=",
    }
    match node:
        case vnnlib.Var():
            return f"{node.name}_{node.indices[-1]}"
        case vnnlib.Literal():
            return parse_decimal(node.lexeme)
        case vnnlib.Negate():
            return ("-", constant(node.expr))
        case vnnlib.Plus():
            return ("+", *map(constant, node.args))
        case vnnlib.Minus():
            return ("-", constant(node.head), *map(constant, node.rest))
        case vnnlib.Multiply():
            return ("*", *map(constant, node.args))
        case vnnlib.And():
            return ("and", *map(constant, node.args))
        case vnnlib.Or():
            return ("or", *map(constant, node.args))
    return (kinds[type(node)], constant(node.lhs), constant(node.rhs))


@settings(max_examples=60)
@given(formulas=assertions, points=st.lists(points, min_size=5, max_size=20))
def test_version_2_means_what_the_official_parser_reads(
    formulas: list[tuple], points: list[tuple[Fraction, ...]]
) -> None:
    def decimal(node: Expression) -> Expression:
        """Write integers as `2.0`: the official parser wants that beside a float variable."""
        if isinstance(node, Fraction):
            text = format_rational(node)
            return text if "." in text else text + ".0"
        return node if isinstance(node, str) else tuple(map(decimal, node))

    text = HEADER_2 + "\n".join(f"(assert {write(decimal(f), NAMES_2)})" for f in formulas)
    try:
        query = vnnlib.parse_query_string(text)
    except vnnlib.VNNLibException:
        # It refuses a comparison of two constants, among others.
        assume(False)
    trees = [constant(assertion.expr) for assertion in query.assertions]
    variables = [f"X_{i}" for i in range(INPUTS)] + [f"Y_{i}" for i in range(OUTPUTS)]
    expected = [
        all(truth(tree, dict(zip(variables, point, strict=True))) for tree in trees)
        for point in points
    ]
    try:
        prop = parse_vnnlib(text, "p.vnnlib", *SPECS)
    except (EmptyBoxError, ContradictionError):
        assert not any(expected)
        return
    assert [member(prop, point) for point in points] == expected


def test_a_box_and_a_disjunction_of_outputs() -> None:
    prop = parse(
        """
        (assert (<= X_0 0.5)) (assert (>= X_0 -0.5)) ; a comment (with a bracket
        (assert (>= X_1 1e-06)) (assert (<= X_1 +1)) (assert (== X_2 .5))
        (assert (or (and (<= Y_0 Y_1)) (and (>= Y_0 5.))))
        """
    )
    assert len(prop.boxes) == 1
    assert prop.boxes[0].lower == (Fraction(-1, 2), Fraction(1, 10**6), Fraction(1, 2))
    assert prop.boxes[0].upper == (Fraction(1, 2), 1, Fraction(1, 2))
    descriptions = [c.on_outputs[0].describe("Y_{}".format) for c in prop.clauses]
    assert descriptions == ["Y_0 <= Y_1", "Y_0 >= 5"]
    assert prop.semantics is None


def test_boxes_in_a_disjunction_are_shared_between_clauses() -> None:
    first = "(>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1) (>= X_2 0) (<= X_2 1)"
    # The same box, written otherwise and in another order.
    again = "(<= X_2 1.0) (>= X_2 0.0) (<= X_1 1) (>= X_1 0) (<= X_0 1e0) (>= X_0 0)"
    other = "(>= X_0 2) (<= X_0 3) (>= X_1 0) (<= X_1 1) (>= X_2 0) (<= X_2 1)"
    prop = parse(
        f"(assert (or (and {first} (<= Y_0 0)) (and {again} (>= Y_0 1)) (and {other} (<= Y_1 0))))"
    )
    assert [clause.box for clause in prop.clauses] == [0, 0, 1]


def test_version_2_joins_tensors_in_order_and_keeps_their_names() -> None:
    text = """(vnnlib-version <2.1>)
      (declare-network net
        (declare-input image float32 [1, 2, 2] "pixels")
        (declare-input age real [])
        (declare-output score float32 [2]))
      (assert (and (<= image [0,1,0] 0.25) (< age 3) (>= score[1] (* 2.0 score [0]))))
    """
    inputs = [TensorSpec("pixels", (1, 2, 2)), TensorSpec("age", ())]
    prop = parse_vnnlib(text, "p", inputs, [TensorSpec("score", (2,))])
    assert (prop.inputs, prop.outputs, prop.semantics) == (5, 2, "float32")
    assert prop.boxes[0].upper == (None, None, Fraction(1, 4), None, 3)
    assert prop.input_name(2) == "image[0,1,0]"
    assert prop.input_name(4) == "age"
    clause = prop.clauses[0]
    assert clause.on_inputs[0].strict
    assert clause.on_outputs[0].describe(prop.output_name) == "2 score[0] <= score[1]"


def test_an_inverted_box_in_a_disjunct_drops_the_disjunct_alone() -> None:
    good = "(and (>= X_0 0) (<= X_0 1) (<= Y_0 0))"
    prop = parse(f"(assert (or (and (>= X_0 2) (<= X_0 1) (<= Y_0 0)) {good}))")
    assert len(prop.clauses) == 1
    with pytest.raises(EmptyBoxError, match=r"empty at X_0: lower = 2 > upper = 1\. "):
        parse("(assert (>= X_0 2)) (assert (<= X_0 1)) (assert (<= Y_0 0))")


def test_strict_bounds_of_inputs_are_kept() -> None:
    prop = parse("(assert (and (< X_0 1) (>= X_0 0)))")
    assert member(prop, [Fraction(0)] * 5)
    assert not member(prop, [Fraction(1)] * 5)
    with pytest.raises(ContradictionError):
        parse("(assert (and (< X_0 1) (>= X_0 1)))")


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("(assert (<= X_0 1)\n", PropertySyntaxError, "p.vnnlib:6: this ( is never closed"),
        ("\n\n(assert (<= X_7 1))", PropertySyntaxError, "p.vnnlib:8: X_7 is not declared"),
        ("(assert (<= X_0 one))", PropertySyntaxError, "p.vnnlib:6: one is not declared"),
        ("(assert (<= X_0))", PropertySyntaxError, "<= takes two operands, here are 1"),
        ("(assert (not (<= X_0 1)))", PropertySyntaxError, "(not …) is not part of VNN-LIB"),
        ("(assert (<= X_0 1)))", PropertySyntaxError, "this ) closes nothing"),
        ("(assert X_0)", PropertySyntaxError, "assert takes formulas, not X_0"),
        ("(assert (<= X_0 (and)))", PropertySyntaxError, "not a formula"),
        ("(<= X_0 1)", PropertySyntaxError, "outside of every assertion"),
        ("", PropertySyntaxError, "nothing is asserted"),
        ("(declare-const X_0 Real)", PropertySyntaxError, "X_0 is declared twice"),
        ("(declare-const Z Real)", PropertySyntaxError, "neither an input X_i nor an output Y_i"),
        ("(declare-const X_3 Real)", PropertyMismatchError, "has 3 inputs: 'in' [1, 3]"),
        ("(assert (<= (/ X_0 X_1) 1))", UnsupportedPropertyError, "p.vnnlib:6: only division by"),
        ("(declare-hidden H float32 [1] \"a;(\")", PropertySyntaxError, "H is declared outside"),
        ("(vnnlib-version <9.9>)", UnsupportedPropertyError, "VNN-LIB <9.9> is not known"),
        (f"(assert (<= X_0 1e{'9' * 8}))", PropertySyntaxError, "more than 4000 digits"),
        ("(assert " + "(and " * 300 + ")" * 301, PropertySyntaxError, "nested deeper than 200"),
        ("(assert (<= 1 0))", ContradictionError, "false for every input and output"),
    ],
)  # fmt: skip
def test_errors_name_the_line_and_the_cause(
    body: str, error: type[AbsolverError], message: str
) -> None:
    with pytest.raises(error) as caught:
        parse(body)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "error", "message"),
    [
        (HEADER_2 + "(declare-network g)", UnsupportedPropertyError, "several networks (f, g)"),
        (HEADER_2.replace("[1,3]", "[3,2]"), PropertyMismatchError, "the shape [3, 2], but the"),
        (HEADER_2.replace("float32 [2]", "float64 [2]"), UnsupportedPropertyError, "float64"),
        (HEADER_2.replace("float32 [2]", "int64 [2]"), PropertyMismatchError, "type int64, but"),
        (HEADER_2.replace("(declare-output Y float32 [2])", ""), PropertyMismatchError, "0 output"),
        (HEADER_2.replace("X float32", "X float32 initialized"), UnsupportedPropertyError, "init"),
        (HEADER_2.replace('[2]', '[2] "other"'), PropertyMismatchError, "names the tensor 'other'"),
        (HEADER_2 + "(assert (<= X[0,3] 1.0))", PropertySyntaxError, "outside of the shape [1, 3]"),
        (HEADER_2 + "(assert (<= X[0] 1.0))", PropertySyntaxError, "has 1 indices"),
        (HEADER_2 + "(assert (<= Z[0] 1.0))", PropertySyntaxError, "Z is not declared"),
        ("(declare-const X_0 Real)", PropertyMismatchError, "1 input variables X_i are declared"),
    ],
)  # fmt: skip
def test_declarations_that_do_not_fit_are_errors(
    header: str, error: type[AbsolverError], message: str
) -> None:
    with pytest.raises(error) as caught:
        parse("(assert (<= Y[0] 0.0))" if "Y" in header and "assert" not in header else "", header)
    assert message in str(caught.value)


def test_an_exploding_normal_form_is_an_error_that_names_its_size() -> None:
    choice = "(assert (or (<= Y_0 0) (>= Y_0 1)))\n"
    with pytest.raises(UnsupportedPropertyError, match=f"has {2**30} clauses"):
        parse(choice * 30)


def test_files_are_read_gzipped_or_not_and_bad_ones_are_errors(tmp_path: Path) -> None:
    text = HEADER_1 + "(assert (<= Y_0 0))"
    plain, packed = tmp_path / "p.vnnlib", tmp_path / "p.vnnlib.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    assert read_vnnlib(plain, *SPECS) == read_vnnlib(packed, *SPECS)
    packed.write_bytes(gzip.compress(text.encode())[:-9])
    with pytest.raises(PropertySyntaxError, match="gzip data are damaged"):
        read_vnnlib(packed, *SPECS)
    plain.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PropertySyntaxError, match="not UTF-8"):
        read_vnnlib(plain, *SPECS)
    with pytest.raises(PropertyFileError, match="cannot be read: No such file"):
        read_vnnlib(tmp_path / "missing", *SPECS)
    with pytest.raises(PropertyFileError, match="cannot be read"):
        read_vnnlib(tmp_path, *SPECS)


@given(st.text(alphabet='()<>=X_Y01 assertandor\n\r;"[]e.-', max_size=60))
@example('"\n"')
@example("(assert (<= [\n] 1))")
@example("(assert (<= \x1b[2J 1))")
@example("(assert (<= \u2028 1))")
@settings(max_examples=120)
def test_any_text_is_a_property_or_one_line_of_error(body: str) -> None:
    try:
        parse(body)
    except AbsolverError as error:
        assert str(error).isprintable()


@pytest.mark.regression
def test_line_breaks_of_the_text_are_escaped_in_messages() -> None:
    with pytest.raises(PropertySyntaxError) as caught:
        parse('"\n"')
    assert str(caught.value) == r'p.vnnlib:6: outside of every assertion there is "\n"'


def test_reading_takes_little_more_than_splitting_into_tokens() -> None:
    box = " ".join(f"(>= X_{i} 0.{i}) (<= X_{i} 1.{i})" for i in range(INPUTS))
    lines = [f"(and {box} (<= Y_0 0.{n}))" for n in range(10_500)]
    text = HEADER_1 + "(assert (or " + "\n".join(lines) + "))"
    assert len(text) > 1_000_000

    def ratio() -> float:
        start = time.process_time()
        assert len(re.findall(r"[()]|[^\s()]+", text)) > 300_000
        split = time.process_time()
        prop = parse_vnnlib(text, "p", *SPECS)
        assert (len(prop.boxes), len(prop.clauses)) == (1, 10_500)
        return (time.process_time() - split) / (split - start)

    # 3 times is usual; both are lengthened alike by a busy machine.
    assert min(ratio() for _ in range(3)) < 12
