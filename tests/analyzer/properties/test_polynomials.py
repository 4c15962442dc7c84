"""Polynomials, and inputs beside outputs, are judged exactly as the text says."""

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.properties.errors import ContradictionError
from absolver.analyzer.regions.errors import EmptyBoxError
from tests.analyzer.properties.formulas import (
    HEADER_1,
    HEADER_2,
    INPUTS,
    NAMES_2,
    OUTPUTS,
    RELATIONS,
    Expression,
    formulas,
    linear,
    member,
    numbers,
    parse,
    points,
    truth,
    write,
)


def polynomials(names: Sequence[str]) -> st.SearchStrategy[Expression]:
    variable = st.sampled_from(names)
    factor = st.one_of(variable, linear(names))
    product = st.tuples(st.just("*"), factor, st.one_of(factor, variable))
    return st.one_of(product, st.tuples(st.sampled_from("+-*"), product, factor))


every = [f"X_{i}" for i in range(INPUTS)] + [f"Y_{i}" for i in range(OUTPUTS)]
polynomial_atoms = st.tuples(
    st.sampled_from(list(RELATIONS)), polynomials(every), st.one_of(polynomials(every), numbers)
)


@pytest.mark.soundness
@pytest.mark.precision
@settings(max_examples=60)
@given(
    formulas=st.lists(st.one_of(polynomial_atoms, formulas), min_size=1, max_size=3),
    points=st.lists(points, min_size=5, max_size=20),
)
@pytest.mark.parametrize("header", [HEADER_1, HEADER_2.replace("float32", "real")])
def test_polynomials_and_comparisons_of_inputs_with_outputs_are_judged_exactly(
    header: str, formulas: list[tuple], points: list[tuple[Fraction, ...]]
) -> None:
    names = {} if header == HEADER_1 else NAMES_2
    text = "".join(f"(assert {write(formula, names)})\n" for formula in formulas)
    try:
        prop = parse(text, header)
    except (ContradictionError, EmptyBoxError):
        prop = None
    for point in points:
        named = dict(zip(every, point, strict=True))
        assert (prop is not None and member(prop, point)) == all(truth(f, named) for f in formulas)
