"""Records of proofs that make no sense are refused, with the reason."""

import numpy as np
import pytest

from absolver.certificates.network import Broken, Property
from tests.certificates.test_proof import (
    ABSOLUTE,
    CHORDS,
    case,
    check,
    integers,
    leaf,
    refute,
    split,
    unsafe,
)


def changed(record: dict, **keys) -> dict:
    return {**record, **keys}


ROW = CHORDS["rows"][0]
LINE = CHORDS["lines"][0]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"record": "witness"}, "a record 'witness' stands where a tree begins"),
        (changed(leaf(), more=1), "more"),
        ({"record": "leaf"}, "refutations"),
        (leaf(facts={"rules": []}), "rules"),
        (leaf(facts=[]), r"\[\] is not an object"),
        (leaf(facts={"lines": {}}), r"\{\} is not a list"),
        (leaf(facts={"lines": [changed(LINE, operator="h1#0")]}), "'h1#0' is not an operator"),
        (leaf(facts={"lines": [changed(LINE, operator=[1])]}), r"\[1\] is not an operator"),
        (leaf(facts={"lines": [changed(LINE, lower=[0, 0])]}), "2 slopes for the 1 operands"),
        (leaf(facts={"lines": [changed(LINE, lower=[1])]}), "1 is not an array"),
        (leaf(facts={"lines": [changed(LINE, lower=[np.zeros(3)])]}), r"shape \(3,\), not \(2,\)"),
        (leaf(facts={"lines": [changed(LINE, lower=[np.full(2, np.nan)])]}), "not finite"),
        (leaf(facts={"lines": [changed(LINE, upper=[np.full(2, np.inf)])]}), "not finite"),
        (leaf(facts={"lines": [changed(LINE, upper=["chords"])]}), "'chords' is not an array"),
        (leaf(facts={"rows": [changed(ROW, operand=["h0#0"])]}), "is not an operand"),
        (leaf(facts={"rows": [changed(ROW, operand=["h0#0", 1])]}), "1 is not an integer"),
        (leaf(facts={"rows": [changed(ROW, operand=["h0#0", True])]}), "True is not an integer"),
        (leaf(facts={"rows": [changed(ROW, lower=1)]}), "1 is not an array"),
        (leaf(facts={"rows": [changed(ROW, lower=np.zeros(2))]}), "is not an array of the right"),
        (split("output", 0, "0"), "'output' is not an operand"),
        (split("input", 1, "0"), "1 is not an integer from 0 to 0"),
        (split("input", -1, "0"), "-1 is not an integer from 0 to 0"),
        (split("input", 0, 0), "'0' is not a number written as p/q"),
        (split("input", 0, "1/0"), "1/0"),
        (leaf({}), "clause"),
        (leaf(refute(0, margin=1)), "margin"),
        (leaf(refute(1)), "a row is for clause 1, not of this case"),
        (leaf(refute(-2)), "a row is for clause -2, not of this case"),
        (leaf(refute(0, constraint=integers(1))), "1 is not an integer from 0 to 0"),
        (leaf(refute(0, constraint=integers(-1))), "-1 is not an integer from 0 to 0"),
        (leaf(refute(0, constraint=integers())), "1 rows are given for 0 constraints"),
        (leaf(refute(0, row=integers(1))), "1 is not an integer from 0 to 0"),
        (leaf(refute(0, row=np.zeros((1, 1), np.int32))), r"shape \(1, 1\)"),
        (leaf(refute(0, row=[0])), r"\[0\] is not an array"),
        (leaf(refute(0, multiplier=np.array([-1.0]))), "a multiplier is -1.0, negative"),
        (leaf(refute(0, multiplier=np.array([np.nan]))), "not finite"),
        (leaf(refute(0, multiplier=np.ones(2))), r"shape \(2,\), not \(1,\)"),
        (leaf(refute(0, multiplier=integers(1))), "is not an array of the right type"),
        (leaf(refute(0, split_multiplier=np.ones((1, 1)))), r"shape \(1, 1\), not \(1, 0\)"),
        (leaf(refute(0, input_row=integers(0))), "None is not an array"),
        (
            leaf(refute(0, input_row=integers(0), input_constraint=integers(0))),
            "0 is not an integer from 0 to -1",
        ),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(record, message):
    prop = Property((*unsafe(["3/2"], [-1], [1]).clauses, *unsafe(["3/2"], [1], [-1]).clauses))
    with pytest.raises(Broken, match=message):
        check(ABSOLUTE, prop, case((0, 1)), record)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (leaf(), "case 0, a record 'leaf' stands where a case begins"),
        (case(), "case 0, leaf 0: the tree has no end"),
        (case((0, 1)), "case 0, leaf 0: the tree has no end"),
        (case((0, 2)), "2 is not an integer from 1 to 1"),
        (case((1, 1)), "1 is not an integer from 0 to 0"),
        (case((0,)), r"\[0\] is not a range of clauses"),
        ({"record": "case", "clauses": 0}, "0 is not a list"),
        ({"record": "case"}, "clauses"),
        (changed(case((0, 1)), facts={}), "facts"),
    ],
)
def test_a_case_that_makes_no_sense_is_refused(record, message):
    with pytest.raises(Broken, match=message):
        check(ABSOLUTE, unsafe(["3/2"], [-1], [1]), record)
