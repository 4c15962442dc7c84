"""What the tests of compiled rules share: domains from a few lines, random rules and boxes."""

from collections.abc import Sequence

import torch
from hypothesis import settings
from hypothesis import strategies as st

from absolver.dsl.checker import CheckedDomain, Surroundings, check
from absolver.dsl.compiler import compile_domain
from absolver.dsl.domain import Domain
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Interval, Operator
from absolver.dsl.parser import parse

# Torch's sum, product, quotient and maximum round as Python's do; its transcendental functions
# may differ in the last place between one element and many, so they are compared with a margin.
EXACT = ("relu", "leaky_relu", "abs", "square")
OPERANDS = {name: operator.operands for name, operator in OPERATORS.items()}
ATTRIBUTES = {"pow": {"exponent": 3}}
NEURONS = "lower <= x <= upper over neurons"

Box = list[list[tuple[float, float]]]
"""For each operand the intervals of a batch of neurons."""


def checked(*statements: str) -> CheckedDomain:
    text = "\n  ".join(("domain d", *statements))
    return check(parse(text, "d.dom"), Surroundings({}, OPERANDS))


def compiled(*statements: str) -> Domain:
    return compile_domain(checked(*statements))


def operator(name: str) -> Operator:
    return OPERATORS[name](**ATTRIBUTES.get(name, {}))


def tensors(box: Box) -> list[Interval]:
    double = torch.tensor(box, dtype=torch.float64)
    return [Interval(operand[:, 0], operand[:, 1]) for operand in double]


# Random rules on random boxes.

# A test's time is no claim: other work may run on the machine.
patient = settings(deadline=None)

ends = st.one_of(
    st.integers(-3, 3).map(float), st.floats(-100, 100), st.sampled_from([0.0, -0.0, 1e-300])
)
intervals = st.tuples(ends, ends).map(lambda ends: (min(ends), max(ends)))


def boxes(operands: int) -> st.SearchStrategy[Box]:
    return st.integers(1, 5).flatmap(
        lambda size: st.lists(
            st.lists(intervals, min_size=size, max_size=size),
            min_size=operands,
            max_size=operands,
        )
    )


def expressions(atoms: Sequence[str], extrema: Sequence[str] = ()) -> st.SearchStrategy[str]:
    leaves = st.one_of(
        st.sampled_from(list(atoms)), st.sampled_from(["0", "1", "2", "0.5", "1e-3"])
    )

    def composed(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        arguments = st.one_of(parts, st.sampled_from([*extrema, *atoms]))
        comparison = st.tuples(parts, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), parts)
        facts = ["convex", "concave", "s_shaped", "smooth", "monotone", "piecewise_linear"]
        simple = st.one_of(comparison.map(" ".join), st.sampled_from(facts))
        condition = st.one_of(
            simple,
            simple.map("not ({})".format),
            st.tuples(simple, st.sampled_from(["and", "or"]), simple).map(" ".join),
        )
        return st.one_of(
            st.tuples(parts, st.sampled_from("+-*/"), parts).map(lambda p: f"({' '.join(p)})"),
            parts.map("(-{})".format),
            parts.map("abs({})".format),
            st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), arguments, arguments),
            st.builds("(if {} then {} else {})".format, condition, parts, parts),
        )

    return st.recursive(leaves, composed, max_leaves=10)


of_one = expressions(
    ["l", "u", "mid", "chord", "f(l)", "f'(l)", "f'(u)", "f(0)", "f'(mid)", "min(f')", "max(f', 1)"]
)
of_two = expressions(["l(x)", "u(x)", "l(y)", "u(y)", "mid(x)", "mid(y)"])
of_each = expressions(
    ["l", "u", "mid"], ["l(others)", "u(others)", "l(earlier)", "u(earlier)", "mid(others)"]
)
