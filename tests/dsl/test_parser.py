"""The grammar: what is read, and how lines, comments and precedence are understood."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from absolver.dsl.errors import DomainError
from absolver.dsl.parser import parse
from absolver.dsl.syntax import (
    Binary,
    Call,
    Conditional,
    Declaration,
    Expression,
    Number,
    Rule,
    Source,
    Span,
    Unary,
    Word,
)

HERE = Span(Source("", ""), 1, 1, 1, 1)

OF_THE_DESIGN = {
    "interval": """domain interval
  "Interval bound propagation (IBP)."
  lower <= x <= upper over values
""",
    "zonotope": """domain zonotope
  "DeepZ: an affine form per neuron over shared noise symbols."
  x = affine over symbols
  relu, leaky_relu, abs:      both slope chord
  sigmoid, tanh:              both slope min(f'(l), f'(u))
""",
    "crown": """domain crown
  "Linear bounds substituted back to the input (CROWN, DeepPoly)."
  lower <= x <= upper over neurons
  relu:            upper slope chord
                   lower slope if u > -l then 1 else 0
  sigmoid, tanh:   upper slope if u <= 0 then chord else min(f'(l), f'(u))
                   lower slope if l >= 0 then chord else min(f'(l), f'(u))
""",
    "crown_ibp": """domain crown_ibp
  extends crown
  bounds from interval             # l and u of hidden layers come from another domain
""",
    "symbolic_interval": """domain symbolic_interval
  lower <= x <= upper over inputs  # forward linear bounds (Neurify, forward LiRPA)
  relu:            both slope chord
""",
}


def slope(text: str) -> Expression:
    """The expression that a rule with this text gives."""
    (rule,) = parse(f"domain d\n  relu: both slope {text}\n", "d.dom").statements
    assert isinstance(rule, Rule)
    return rule.sides[0].slope.entries[0]


def statements(body: str) -> Declaration:
    return parse(f"domain d\n{body}", "d.dom")


@pytest.mark.parametrize("text", OF_THE_DESIGN.values(), ids=OF_THE_DESIGN)
def test_the_examples_of_the_design_are_read_as_written(text: str) -> None:
    assert parse(text, "design.dom").statements


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("l + u * 2", "l + (u * 2)"),
        ("l - u - 1", "(l - u) - 1"),
        ("l / u / 2", "(l / u) / 2"),
        ("-l * u", "(-l) * u"),
        ("- l - u", "(-l) - u"),
        ("l--u", "l - (-u)"),
        ("l * -u", "l * (-u)"),
        ("1e-3*l", "0.001 * l"),
        (".5*l + 2.*u", "(0.5 * l) + (2 * u)"),
        (
            "if l < 0 or u > 0 and l > 1 then 1 else 0",
            "if (l<0) or ((u>0) and (l>1)) then 1 else 0",
        ),
        ("if not l < 0 and u > 0 then 1 else 0", "if (not (l < 0)) and (u > 0) then 1 else 0"),
        ("if l + 1 < u * 2 then 1 else 0", "if (l + 1) < (u * 2) then 1 else 0"),
        ("if l <= 0 <= u then 1 else 0", "if (l <= 0) and (0 <= u) then 1 else 0"),
        ("if l < 0 then 1 else u + 1", "if l < 0 then 1 else (u + 1)"),
        (
            "if l < 0 then 1 else if u > 0 then 2 else 3",
            "if l < 0 then 1 else (if u > 0 then 2 else 3)",
        ),
        ("f'(l)+f(u)", "(f'(l)) + (f(u))"),
        ("((l))", "l"),
    ],
)
def test_precedence_is_the_conventional_one(written: str, meant: str) -> None:
    assert slope(written) == slope(meant)


def test_a_line_that_is_indented_more_deeply_continues_the_one_above() -> None:
    one_line = statements("  relu: upper slope chord lower slope if u > -l then 1 else 0\n")
    assert one_line == statements(
        "  relu:   upper slope\n"
        "            chord\n"
        "    # a comment of its own, and an empty line\n"
        "\n"
        "          lower slope if u > -l   # why\n"
        "            then 1\n"
        "            else 0"
    )


def test_inside_parentheses_a_line_may_begin_anywhere() -> None:
    assert statements("  mul: both slope (l(y),\nl(x))\n  relu: both slope 0") == statements(
        "  mul: both slope (l(y), l(x))\n  relu: both slope 0"
    )


def test_line_ends_of_windows_and_a_missing_last_one_change_nothing() -> None:
    text = OF_THE_DESIGN["crown"]
    plain = parse(text, "d.dom")
    assert parse(text.replace("\n", "\r\n"), "d.dom") == plain
    assert parse("\n# first\n\n" + text.rstrip("\n"), "d.dom") == plain


def test_a_docstring_may_run_over_several_lines() -> None:
    doc = statements(
        '  "Two\n     lines, with a # in them."\n  lower <= x <= upper over values'
    ).doc
    assert doc == "Two lines, with a # in them."


def test_every_node_knows_where_it_stands() -> None:
    declaration = parse(OF_THE_DESIGN["crown"], "crown.dom")
    rule = declaration.statements[1]
    assert isinstance(rule, Rule)
    upper, lower = rule.sides
    assert (upper.head.line, upper.head.column, upper.head.end_column) == (4, 20, 31)
    assert (lower.slope.span.line, lower.slope.span.column) == (5, 32)


@st.composite
def numbers(draw: st.DrawFn, depth: int = 3) -> Expression:
    """Any expression that is a number."""
    if depth == 0 or draw(st.booleans()):
        if draw(st.booleans()):
            return Word(HERE, draw(st.sampled_from(["l", "u", "mid", "chord"])))
        return Number(HERE, float(draw(st.one_of(st.integers(0, 9), st.floats(0, 1e6)))))
    parts = numbers(depth - 1)
    match draw(st.sampled_from(["arithmetic", "sign", "extremum", "function", "conditional"])):
        case "arithmetic":
            return Binary(HERE, draw(st.sampled_from("+-*/")), draw(parts), draw(parts))
        case "sign":
            return Unary(HERE, "-", draw(parts))
        case "extremum":
            arguments = draw(st.lists(parts, min_size=1, max_size=3))
            return Call(HERE, draw(st.sampled_from(["min", "max"])), tuple(arguments))
        case "function":
            return Call(HERE, draw(st.sampled_from(["f", "f'", "abs"])), (draw(parts),))
    return Conditional(HERE, draw(conditions(depth - 1)), draw(parts), draw(parts))


@st.composite
def conditions(draw: st.DrawFn, depth: int) -> Expression:
    """Any expression that is a condition."""
    if depth > 0 and draw(st.booleans()):
        parts = conditions(depth - 1)
        if draw(st.booleans()):
            return Unary(HERE, "not", draw(parts))
        return Binary(HERE, draw(st.sampled_from(["and", "or"])), draw(parts), draw(parts))
    comparison = draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
    return Binary(HERE, comparison, draw(numbers(depth)), draw(numbers(depth)))


def written(expression: Expression) -> str:
    """An expression as text, with every parenthesis."""
    match expression:
        case Number(value=value):
            return repr(value)
        case Word(text=text):
            return text
        case Unary(operation=operation, operand=operand):
            return f"({operation} {written(operand)})"
        case Binary(operation=operation, left=left, right=right):
            return f"({written(left)} {operation} {written(right)})"
        case Call(function=function, arguments=arguments):
            return f"{function}({', '.join(map(written, arguments))})"
        case Conditional(condition=condition, then=then, otherwise=otherwise):
            return f"(if {written(condition)} then {written(then)} else {written(otherwise)})"


@given(numbers())
def test_what_is_written_is_what_is_read(expression: Expression) -> None:
    assert slope(written(expression)) == expression


@given(st.text(st.sampled_from("domain xlu:<=&,(if)then else\n  \"'f+-1.#|")))
def test_any_text_is_read_or_refused_with_its_place(text: str) -> None:
    try:
        parse(text, "d.dom")
    except DomainError as error:
        assert str(error).startswith("d.dom:")


def test_equal_expressions_are_equal_wherever_they_stand() -> None:
    word = Word(HERE, "l")
    assert replace(word, span=Span(HERE.source, 9, 9, 9, 9)) == word
