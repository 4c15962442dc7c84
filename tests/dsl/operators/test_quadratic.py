"""The quadratic constraints of the operators that have them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.dsl.operators.abs import Abs
from absolver.dsl.operators.relu import Relu
from absolver.dsl.operators.square import Square
from tests.strategies import cases


@pytest.mark.soundness
@pytest.mark.parametrize("operator", [Relu(), Abs(), Square()], ids=["relu", "abs", "square"])
@settings(max_examples=6)
@given(data=st.data())
def test_quadratics_hold_between_every_point_and_its_value(
    operator: Relu | Abs | Square, data: st.DataObject
) -> None:
    case = data.draw(cases())
    (x,) = case.points
    y = operator(x)
    (box,) = case.box
    slack = 1e-13 * (1 + x.abs().amax(0)) ** 2
    for quadratic in operator.quadratics(box):
        value = quadratic.at(x, y)
        assert (value >= -slack).all()
        assert (value <= slack).all() or not quadratic.equality
