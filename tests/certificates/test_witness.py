"""The check of witnesses: each grade is accepted where it is true, and refused where it is not."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from absolver.certificates.network import Ball, Broken, Clause, Constraint, Property
from absolver.certificates.witness import check_witness
from tests.certificates.kernels import TIERS, dense
from tests.certificates.test_proof import ABSOLUTE, output_at_least, unsafe

GRADES = ["exact", "runtime", "all executions"]


def witness(x, y, *grades, clause=0, dtype=np.float32, **keys) -> dict:
    return {
        "record": "witness",
        "clause": clause,
        "input": np.array(x, dtype),
        "output": np.array(y, dtype),
        "runtime": "by hand",
        "grades": list(grades),
        **keys,
    }


@pytest.mark.parametrize("tier", TIERS)
def test_a_true_witness_has_all_grades(tier):
    prop = unsafe(["1/2"], [-1], [1])
    assert check_witness(ABSOLUTE, prop, witness([-0.75], [0.75], *GRADES), tier) == tuple(GRADES)


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("grade", GRADES)
def test_a_point_that_is_not_unsafe_has_no_grade(tier, grade):
    prop = unsafe(["0.8"], [-1], [1])
    with pytest.raises(Broken, match=f"clause 0, grade '{grade}': constraint 0 (is|may be) missed"):
        check_witness(ABSOLUTE, prop, witness([-0.75], [0.75], grade), tier)


@pytest.mark.parametrize("tier", TIERS)
def test_exactly_reaching_a_bound_is_enough_unless_it_is_strict(tier):
    prop = unsafe(["3/4"], [-1], [1])
    assert check_witness(ABSOLUTE, prop, witness([-0.75], [0.75], "exact"), tier) == ("exact",)
    prop = unsafe(["3/4"], [-1], [1], strict=True)
    with pytest.raises(Broken, match="constraint 0 may be missed by -?0"):
        check_witness(ABSOLUTE, prop, witness([-0.75], [0.75], "exact"), tier)


@pytest.mark.parametrize("tier", TIERS)
def test_a_kink_is_evaluated_exactly(tier):
    # relu(x) + relu(-x) at the kink, and behind two layers of it.
    prop = Property(
        (
            Clause(
                (Fraction(0),),
                (Fraction(0),),
                (),
                (Constraint(((1, Fraction(1)),), Fraction(0), strict=False),),
            ),
        )
    )
    twice = dense(
        (np.array([[1.0], [-1.0]]), np.zeros(2)),
        (np.array([[1.0, 1.0], [1.0, -1.0]]), np.zeros(2)),
        (np.array([[1.0, 3.0]]), np.zeros(1)),
    )
    for network in (ABSOLUTE, twice):
        assert check_witness(network, prop, witness([0], [0], *GRADES[:2]), tier)


def test_the_exact_grade_moves_the_input_into_the_decimal_box():
    # float32(0.1) is above 1/10; only the nearest point of the box is in it.
    prop = unsafe(["1/10"], [0], ["1/10"])
    record = witness([0.1], [0.1], "exact")
    assert check_witness(ABSOLUTE, prop, record, "fast") == ("exact",)
    for grade in GRADES[1:]:
        with pytest.raises(
            Broken, match="input 0 is 0.10000000149.*, outside of the box by 1.49e-09"
        ):
            check_witness(ABSOLUTE, prop, witness([0.1], [0.1], grade), "fast")


def test_a_ball_and_constraints_of_inputs_count():
    clause = unsafe(["1/2"], [-1, -1], [1, 1]).clauses[0]
    network = dense((np.ones((1, 2)), np.zeros(1)))
    center = (Fraction(0), Fraction(0))
    record = witness([0.75, 0.75], [1.5], *GRADES)
    for norm, radius, inside in (
        (2, "1.07", True),
        (2, "1.06", False),
        (1, "3/2", True),
        (1, "1.49", False),
    ):
        prop = Property((clause,), Ball(center, Fraction(radius), norm))
        if inside:
            assert check_witness(network, prop, record, "fast")
        else:
            with pytest.raises(Broken, match="outside of the ball of radius"):
                check_witness(network, prop, record, "fast")
    apart = Constraint(((0, Fraction(1)), (1, Fraction(-1))), Fraction(0), strict=True)
    prop = Property((Clause(clause.lower, clause.upper, (apart,), clause.on_outputs),))
    with pytest.raises(Broken, match="constraint 0 is missed by 0"):
        check_witness(network, prop, record, "fast")
    assert check_witness(network, prop, witness([0.5, 0.75], [1.25], *GRADES), "fast")


@pytest.mark.soundness
@pytest.mark.parametrize("grade", GRADES)
def test_the_end_of_a_strict_bound_is_no_witness(grade):
    clause = unsafe(["1/2"], [0], [1]).clauses[0]
    below_one = Constraint(((0, Fraction(1)),), Fraction(1), strict=True)
    prop = Property((replace(clause, strict=(below_one,)),))
    assert check_witness(ABSOLUTE, prop, witness([0.75], [0.75], grade), "fast")
    with pytest.raises(Broken, match="constraint 0 is missed by 0"):
        check_witness(ABSOLUTE, prop, witness([1], [1], grade), "fast")


@pytest.mark.soundness
def test_what_only_some_executions_do_is_not_called_all():
    # 2^24 x + x - 2^24 x: 3/2 exactly, 0 or 2 in float32, as the order is.
    layers = (np.ones((3, 1)), np.zeros(3)), (np.array([[2.0**24, 1.0, -(2.0**24)]]), np.zeros(1))
    prop = unsafe([1], [1], [2])
    network = dense(*layers)
    assert check_witness(network, prop, witness([1.5], [2.0], "exact", "runtime"), "fast")
    with pytest.raises(Broken, match="grade 'all executions': constraint 0 may be missed"):
        check_witness(network, prop, witness([1.5], [2.0], *GRADES), "fast")


def test_executions_of_deep_networks_are_bounded_by_rows():
    rng = np.random.default_rng(0)
    sizes = [4, 30, 30, 30, 30, 30, 1]
    layers = [
        (rng.standard_normal((m, n)).astype(np.float32) / 2, np.zeros(m))
        for n, m in zip(sizes, sizes[1:], strict=False)
    ]
    x = rng.random(4).astype(np.float32)
    value = x.astype(np.float64)
    for i, (weight, _) in enumerate(layers):
        value = weight.astype(np.float64) @ value
        value = np.maximum(value, 0) if i < len(layers) - 1 else value
    bound = Fraction(float(value[0])) - Fraction(1, 100)
    prop = Property(
        (Clause((Fraction(0),) * 4, (Fraction(1),) * 4, (), (output_at_least(bound, inputs=4),)),)
    )
    assert check_witness(dense(*layers), prop, witness(x, value, *GRADES), "fast")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (witness([0.75], [0.75]), "no witness of any grade"),
        (witness([0.75], [0.75], "exact", runtime=1), "no witness of any grade"),
        (witness([0.75], [0.75], "exact", record="leaf"), "no witness of any grade"),
        (witness([0.75], [0.75], "exact", more=1), "more"),
        (witness([0.75], [0.75], "some"), "grade 'some': there is no such grade"),
        (witness([0.75], [0.75], 1), "grade 1: there is no such grade"),
        (witness([0.75], [0.75], "exact", clause=1), "1 is not an integer from 0 to 0"),
        (witness([0.75, 1], [0.75], "exact"), "a witness has 2 numbers, the network 1"),
        (witness([0.75], [0.75, 1], "exact"), "a witness has 2 numbers, the network 1"),
        (witness([np.nan], [0.75], "exact"), "not finite"),
        (witness([0.75], [np.inf], "exact"), "not finite"),
        (witness([2], [2], "runtime"), "input 0 is 2.0, outside of the box by 1"),
        (witness([0.75], [0.75], "all executions", dtype=np.float64), "float64, not float32"),
    ],
)
def test_a_witness_that_makes_no_sense_is_refused(record, message):
    with pytest.raises(Broken, match=message):
        check_witness(ABSOLUTE, unsafe(["1/2"], [-1], [1]), record, "fast")


def test_a_clause_without_points_has_no_witness():
    for grade in GRADES:
        with pytest.raises(Broken, match="outside of the box|box is empty"):
            check_witness(ABSOLUTE, unsafe(["0"], [1], [0]), witness([0], [0], grade), "fast")


@pytest.mark.regression
@pytest.mark.parametrize("grade", GRADES)
def test_a_point_on_a_strict_bound_of_the_input_is_no_witness(grade):
    prop = unsafe(["1/2"], [-1], [1])
    below_1 = Constraint(((0, Fraction(1)),), Fraction(1), strict=True)
    prop = replace(prop, clauses=(replace(prop.clauses[0], strict=(below_1,)),))
    assert check_witness(ABSOLUTE, prop, witness([0.75], [0.75], grade), "fast")
    with pytest.raises(Broken, match="is missed by 0"):
        check_witness(ABSOLUTE, prop, witness([1], [1], grade), "fast")
