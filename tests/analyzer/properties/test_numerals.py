"""Claims about numerals: they are read and written exactly."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from absolver.analyzer.properties.numerals import format_rational, parse_decimal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-5", Fraction(1, 10**5)),
        ("+1", Fraction(1)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("-0.10", Fraction(-1, 10)),
        ("1E+2", Fraction(100)),
        (".", None),
        ("e5", None),
        ("1_0", None),
        ("٣", None),
        ("-", None),
    ],
)
def test_numerals_are_exact(text: str, expected: Fraction | None) -> None:
    assert parse_decimal(text) == expected


@given(st.fractions())
def test_rationals_are_written_exactly(value: Fraction) -> None:
    text = format_rational(value)
    assert (parse_decimal(text) or Fraction(text)) == value
