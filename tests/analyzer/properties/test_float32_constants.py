"""Claims about VNN-LIB 2 queries that declare float32: constants are numbers of that type."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.properties.numerals import parse_decimal
from absolver.analyzer.properties.vnnlib import parse_vnnlib

HEADER = """(vnnlib-version <2.0>)
(declare-network f
  (declare-input X float32 [1,3])
  (declare-output Y float32 [2]))
"""
SPECS = ([TensorSpec("in", (1, 3))], [TensorSpec("out", (2,))])


@pytest.mark.regression
@given(st.floats(-1e30, 1e30).map(lambda x: f"{x:.12e}"))
@example("0.1")
@example("0.3")
@example("0.0")
def test_a_constant_of_a_float32_query_counts_in_both_of_its_readings(decimal: str) -> None:
    body = f"""(assert (and (>= X[0,0] {decimal}) (<= X[0,0] {decimal}) (<= X[0,1] 1) (>= X[0,1] 0)
      (<= X[0,2] 1) (>= X[0,2] 0) (<= Y[0] {decimal})))"""
    both = {parse_decimal(decimal), Fraction(float(np.float32(decimal)))}
    loose = parse_vnnlib(HEADER + body, "p", *SPECS)
    assert (loose.boxes[0].lower[0], loose.boxes[0].upper[0]) == (min(both), max(both))
    assert loose.clauses[0].on_outputs[0].bound == max(both)
    exact = parse_vnnlib(HEADER.replace("float32", "real") + body, "p", *SPECS)
    assert exact.boxes[0].lower[0] == exact.boxes[0].upper[0] == parse_decimal(decimal)
