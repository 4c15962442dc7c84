"""Counterexamples are repaired into the exact set, by the numbers of the input's own type."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.properties.property import InputBox
from absolver.analyzer.replay import numbers_inside

FLOAT_TYPES = {"float32": np.float32, "float64": np.float64}


def ends() -> st.SearchStrategy[Fraction]:
    """Bounds near floats of either type, between them, beyond the largest and below the least."""
    near = st.floats(width=32, allow_nan=False, allow_infinity=False).map(Fraction)
    tiny = st.integers(-3, 3).map(lambda n: Fraction(n, 2 * 2**149))
    huge = st.integers(-400, 400).map(lambda n: Fraction(10) ** abs(n) * (1 if n > 0 else -1))
    shift = st.sampled_from([Fraction(0), Fraction(1, 10**60), -Fraction(1, 10**60)])
    return st.builds(lambda x, d: x + d, near | tiny | huge | st.fractions(), shift)


@pytest.mark.soundness
@pytest.mark.regression  # a bound beyond the largest float32 was an overflow
@given(kind=st.sampled_from(sorted(FLOAT_TYPES)), first=ends(), second=ends())
def test_the_numbers_inside_are_the_least_and_the_largest_of_their_type(
    kind: str, first: Fraction, second: Fraction
) -> None:
    low, high = sorted((first, second))
    spec = TensorSpec("x", (1,), kind)
    (lower,), (upper,) = numbers_inside(InputBox((low,), (high,)), [spec])
    dtype = FLOAT_TYPES[kind]
    with np.errstate(over="ignore"):
        below = np.nextafter(dtype(lower), dtype(-np.inf))
        above = np.nextafter(dtype(upper), dtype(np.inf))
    assert float(dtype(lower)) == lower and float(dtype(upper)) == upper
    assert float(lower) >= low and float(upper) <= high
    assert float(below) < low and float(above) > high


def test_an_interval_between_two_numbers_holds_none() -> None:
    tenth = Fraction(1, 10)
    spec = TensorSpec("x", (1,), "float32")
    (lower,), (upper,) = numbers_inside(InputBox((tenth,), (tenth,)), [spec])
    assert upper < tenth < lower and np.nextafter(np.float32(upper), np.float32(1)) == lower
