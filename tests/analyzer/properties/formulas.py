"""Formulas of VNN-LIB: random ones, their text, and their truth at a point."""

import operator
from collections.abc import Sequence
from fractions import Fraction

from hypothesis import strategies as st

from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.properties.numerals import format_rational
from absolver.analyzer.properties.property import Property
from absolver.analyzer.properties.vnnlib import parse_vnnlib

INPUTS, OUTPUTS = 3, 2
HEADER_1 = "".join(f"(declare-const X_{i} Real)\n" for i in range(INPUTS)) + "".join(
    f"(declare-const Y_{i} Real)\n" for i in range(OUTPUTS)
)
HEADER_2 = """(vnnlib-version <2.0>)
(declare-network f
  (declare-input X float32 [1,3])
  (declare-output Y float32 [2]))
"""
SPECS = ([TensorSpec("in", (1, INPUTS))], [TensorSpec("out", (OUTPUTS,))])
RELATIONS = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}

Expression = str | Fraction | tuple["Expression", ...]


def parse(body: str, header: str = HEADER_1) -> Property:
    return parse_vnnlib(header + body, "p.vnnlib", *SPECS)


def value(expression: Expression, point: dict[str, Fraction]) -> Fraction:
    match expression:
        case str():
            return point[expression]
        case Fraction():
            return expression
        case ("+", *parts):
            return sum((value(p, point) for p in parts), Fraction(0))
        case ("-", single):
            return -value(single, point)
        case ("-", first, *parts):
            return value(first, point) - sum(value(p, point) for p in parts)
        case ("*", first, second):
            return value(first, point) * value(second, point)
    raise AssertionError(expression)


def truth(formula: tuple, point: dict[str, Fraction]) -> bool:
    """Evaluate a formula directly: what the property is compared with."""
    head, *parts = formula
    if head == "and":
        return all(truth(part, point) for part in parts)
    if head == "or":
        return any(truth(part, point) for part in parts)
    return RELATIONS[head](*(value(part, point) for part in parts))


def write(node: Expression, names: dict[str, str]) -> str:
    match node:
        case Fraction():
            return format_rational(node)
        case str():
            return names.get(node, node)
    return "(" + " ".join(write(part, names) for part in node) + ")"


# Few distinct numbers, so that bounds meet, cross and coincide with the points.
numbers = st.integers(-4, 4).map(lambda n: Fraction(n, 2))


def linear(names: Sequence[str]) -> st.SearchStrategy[Expression]:
    variable = st.sampled_from(names)
    scaled = st.tuples(st.just("*"), numbers, variable)
    term = st.one_of(variable, scaled, numbers, st.tuples(st.just("-"), variable))
    sums = st.tuples(st.sampled_from("+-"), term, term)
    return st.one_of(term, sums)


def comparisons(names: Sequence[str]) -> st.SearchStrategy[tuple]:
    return st.tuples(st.sampled_from(list(RELATIONS)), linear(names), linear(names))


atoms = st.one_of(
    comparisons([f"X_{i}" for i in range(INPUTS)]), comparisons([f"Y_{i}" for i in range(OUTPUTS)])
)
formulas = st.recursive(
    atoms,
    lambda inner: st.tuples(st.sampled_from(["and", "or"]), inner, inner, inner),
    max_leaves=8,
)
points = st.tuples(*[numbers] * (INPUTS + OUTPUTS))
assertions = st.lists(formulas, min_size=1, max_size=3)
NAMES_2 = {f"X_{i}": f"X[0,{i}]" for i in range(INPUTS)} | {
    f"Y_{i}": f"Y[{i}]" for i in range(OUTPUTS)
}


def member(prop: Property, point: Sequence[Fraction]) -> bool:
    return prop.violated_by(point[:INPUTS], point[INPUTS:]) is not None
