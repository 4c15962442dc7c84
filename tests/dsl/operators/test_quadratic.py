"""The quadratic constraints of the operators that have them."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.dsl.operators.abs import Abs
from absolver.dsl.operators.clip import Clip
from absolver.dsl.operators.leaky_relu import LeakyRelu
from absolver.dsl.operators.max import Max
from absolver.dsl.operators.min import Min
from absolver.dsl.operators.mul import Mul
from absolver.dsl.operators.reciprocal import Reciprocal
from absolver.dsl.operators.record import Interval, Operator
from absolver.dsl.operators.relu import Relu
from absolver.dsl.operators.square import Square
from tests.strategies import cases

OPERATORS = {
    "relu": Relu(),
    "abs": Abs(),
    "leaky": LeakyRelu(0.1),
    "steeper below": LeakyRelu(3.0),
    "clip": Clip(-1.0, 2.0),
    "clip below": Clip(min=-1.0),
    "clip to nothing": Clip(2.0, -1.0),
    "square": Square(),
    "reciprocal": Reciprocal(),
    "max": Max(),
    "min": Min(),
    "mul": Mul(),
}
PAIRS = {"max", "min", "mul"}


@pytest.mark.soundness
@pytest.mark.parametrize("name", OPERATORS)
@settings(max_examples=6)
@given(data=st.data())
def test_quadratics_hold_between_every_point_and_its_value(name: str, data: st.DataObject) -> None:
    operator: Operator = OPERATORS[name]
    case = data.draw(cases(2 if name in PAIRS else 1))
    y = operator(*case.points)
    far = torch.stack([y, *case.points]).nan_to_num(0, 0, 0).abs().amax((0, 1))
    slack = 1e-13 * (1 + far) ** 2
    for quadratic in operator.quadratics(case.box):
        value = quadratic.at(case.points, y)
        value = torch.where(y.isfinite(), value, 0.0)
        assert (value >= -slack).all()
        assert (value <= slack).all() or not quadratic.equality


@pytest.mark.soundness
def test_on_unbounded_boxes_no_constraint_is_on_the_wrong_side() -> None:
    whole = partial(torch.full, (1,), dtype=torch.float64)
    box = Interval(whole(-torch.inf), whole(torch.inf))
    for x in (whole(-3.0), whole(2.0)):
        for quadratic in Relu().quadratics([box]):
            assert (quadratic.at((x,), Relu()(x)) >= 0).all()


@pytest.mark.precision
def test_a_clip_that_meets_one_kink_lies_on_one_of_two_lines() -> None:
    box = Interval(*(torch.tensor([x], dtype=torch.float64) for x in (-3.0, 1.0)))
    equalities = [q for q in Clip(-1.0, 2.0).quadratics([box]) if q.equality]
    x, off = torch.tensor([0.0], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    assert any(bool((q.at((x,), off) != 0).any()) for q in equalities)
