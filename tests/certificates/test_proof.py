"""The check of proofs: what it accepts is proved, and what it refuses it refuses for a reason."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.certificates.network import (
    Affine,
    Broken,
    Clause,
    Constraint,
    Move,
    Network,
    Operator,
    Product,
    Property,
    Tensor,
    Unsupported,
)
from absolver.certificates.onnx_reader import read_network
from absolver.certificates.proof import Tally, check_proof
from tests.certificates.kernels import (
    TIERS,
    adversarial_points,
    boxes_and_layers,
    dense,
    run_exactly,
)

ONE = Fraction(1)


def output_at_least(bound, *, inputs=1, outputs=1, output=0, strict=False) -> Constraint:
    """The constraint `-y <= -bound`: unsafe is an output of at least the bound."""
    return Constraint(((inputs + output, -ONE),), -Fraction(bound), strict)


def unsafe(bounds, lower, upper, **options) -> Property:
    """One clause for each bound, over one box."""
    lower, upper = ([None if q is None else Fraction(q) for q in ends] for ends in (lower, upper))
    return Property(
        tuple(
            Clause(
                tuple(lower),
                tuple(upper),
                (),
                (output_at_least(bound, inputs=len(lower), **options),),
            )
            for bound in bounds
        )
    )


def integers(*numbers) -> np.ndarray:
    return np.array(numbers, np.int32)


def case(*ranges) -> dict:
    return {"record": "case", "clauses": [list(r) for r in ranges]}


def leaf(*refutations, facts=None) -> dict:
    record = {"record": "leaf", "refutations": list(refutations)}
    return record if facts is None else {**record, "facts": facts}


def split(of, element, threshold, facts=None) -> dict:
    record = {"record": "split", "of": of, "element": element, "threshold": threshold}
    return record if facts is None else {**record, "facts": facts}


def refute(*clauses, **keys) -> dict:
    """One row for each clause, with the only constraint of each."""
    count = len(clauses)
    return {
        "clause": integers(*clauses),
        "row": integers(*range(count)),
        "constraint": integers(*[0] * count),
        **keys,
    }


# |x| = relu(x) + relu(-x), which is at most 1 for x in [-1, 1]; and, for its rows, all of them.
ABSOLUTE = dense((np.array([[1.0], [-1.0]]), np.zeros(2)), (np.array([[1.0, 1.0]]), np.zeros(1)))
CHORDS = {
    "lines": [{"operator": "h0#0", "lower": [0], "upper": ["chord"]}],
    "rows": [{"operand": ["h0#0", 0], "lower": True, "upper": True}],
}


def check(network, prop, *records, tier="fast", semantics="real") -> Tally:
    return check_proof(network, prop, records, semantics, tier)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_a_proof_by_one_row_is_accepted(tier, semantics):
    prop = unsafe(["3/2"], [-1], [1])
    tally = check(
        ABSOLUTE, prop, case((0, 1)), leaf(refute(0), facts=CHORDS), tier=tier, semantics=semantics
    )
    assert tally == Tally(cases=1, leaves=1, rows=tally.rows, empty=0)


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
def test_what_is_false_is_not_proved(tier):
    message = r"case 0, leaf 0: clause 0: the row's value is -[0-9.e-]+, not positive"
    with pytest.raises(Broken, match=message):
        check(
            ABSOLUTE,
            unsafe(["0.999"], [-1], [1]),
            case((0, 1)),
            leaf(refute(0), facts=CHORDS),
            tier=tier,
        )


def test_equality_refutes_a_strict_constraint_only_and_only_in_rationals():
    # Over x = 1 the output is 1: y > 1 is refuted, y >= 1 is true.
    records = case((0, 1)), leaf(refute(0), facts=CHORDS)
    open_ = unsafe([1], [1], [1], strict=True)
    assert check(ABSOLUTE, open_, *records, tier="rational").leaves == 1
    with pytest.raises(Broken, match="the row's value is 0, not positive"):
        check(ABSOLUTE, unsafe([1], [1], [1]), *records, tier="rational")
    with pytest.raises(Broken, match=r"value is -[0-9.e-]+, not positive"):
        check(ABSOLUTE, open_, *records)
    none = refute(0, multiplier=np.zeros(1))
    with pytest.raises(Broken, match="the row's value is 0, not positive"):
        check(ABSOLUTE, open_, case((0, 1)), leaf(none, facts=CHORDS), tier="rational")


@pytest.mark.parametrize("tier", TIERS)
def test_a_split_of_the_input_proves_what_lines_cannot(tier):
    # |x| <= 3/5 over [-1/2, 1/2]: the chords meet above it, each half is exact.
    prop = unsafe(["3/5"], ["-1/2"], ["1/2"])
    with pytest.raises(Broken, match="clause 0"):
        check(ABSOLUTE, prop, case((0, 1)), leaf(refute(0)), tier=tier)
    halves = leaf(refute(0)), leaf(refute(0))
    assert (
        check(ABSOLUTE, prop, case((0, 1)), split("input", 0, "0"), *halves, tier=tier).leaves == 2
    )


def parts(*clauses, facts=None) -> dict:
    record = {"record": "parts", "clauses": [[list(r) for r in ranges] for ranges in clauses]}
    return record if facts is None else {**record, "facts": facts}


@pytest.mark.parametrize("tier", TIERS)
def test_parts_share_facts_and_each_shows_its_own_clauses(tier):
    prop = unsafe(["3/2", "5/4", "2"], [-1], [1])
    shared = parts([(0, 1), (2, 3)], [(1, 2)], facts=CHORDS)
    trees = leaf(refute(0, 2)), split("input", 0, "0"), leaf(refute(1)), leaf(refute(1))
    tally = check(ABSOLUTE, prop, case((0, 3)), shared, *trees, tier=tier)
    assert (tally.cases, tally.leaves) == (1, 3)


@pytest.mark.soundness
@pytest.mark.parametrize(
    ("divided", "message"),
    [
        (parts([(0, 1)]), "not those of the tree"),
        (parts([(0, 1)], []), "not those of the tree"),
        (parts(), "not those of the tree"),
        (parts([(0, 1)], [(1, 3)]), "not those of the tree"),
        (parts([(0, 1)], [(1, 2)]), "clause 1: the row's value"),
        (parts([(1, 2)], [(0, 1)]), "clause 1: the row's value"),
        ({**parts([(0, 1)], [(1, 2)]), "more": 0}, "unknown"),
    ],
)
def test_parts_leave_no_clause_out(divided, message):
    # The second clause is met.
    prop = unsafe(["3/2", "1/2", "2"], [-1], [1])
    order = (
        (refute(0), refute(1)) if divided["clauses"][:1] != [[[1, 2]]] else (refute(1), refute(0))
    )
    trees = [leaf(row, facts=CHORDS) for row in order]
    with pytest.raises(Broken, match=message):
        check(ABSOLUTE, prop, case((0, 2)), divided, *trees)


@pytest.mark.parametrize("tier", TIERS)
def test_multipliers_of_splits_prove_what_the_boxes_cannot(tier):
    # z = x0 - x1 <= 0 is no box: y = x0 - x1 is at most 1 by boxes, but 0 on that side.
    first = np.array([[1.0, -1.0], [1.0, 0.0], [0.0, 1.0]])
    network = dense((first, np.zeros(3)), (np.array([[0.0, 1.0, -1.0]]), np.zeros(1)))
    prop = unsafe(["1/2"], [0, 0], [1, 1])
    sides = leaf(refute(0, split_multiplier=np.array([[1.0]]))), leaf(refute(0))
    lines = [{"operator": "h0#0", "lower": [np.ones(3)], "upper": ["chord"]}]
    tree = case((0, 1)), split(["h0#0", 0], 0, "0", {"lines": lines})
    with pytest.raises(Broken, match="case 0, leaf 1: clause 0"):  # true there: x0 = 1, x1 = 0
        check(network, prop, *tree, *sides, tier=tier)
    with pytest.raises(Broken, match="case 0, leaf 0: clause 0"):
        check(network, prop, *tree, leaf(refute(0)), sides[1], tier=tier)
    smaller = Property(
        (
            Clause(
                (Fraction(0),) * 2,
                (ONE,) * 2,
                (Constraint(((0, ONE), (1, -ONE)), Fraction(1, 4), strict=False),),
                prop.clauses[0].on_outputs,
            ),
        )
    )
    both = refute(0, input_row=integers(0), input_constraint=integers(0))
    assert (
        check(network, smaller, case((0, 1)), leaf(both, facts={"lines": lines}), tier=tier).cases
        == 1
    )


@pytest.mark.soundness
def test_the_sides_of_a_split_are_not_exchanged():
    # On x <= 0 only y <= 0 holds, on x >= 0 only y >= 0: y = x.
    network = dense((np.eye(1), np.zeros(1)), (np.eye(1), np.zeros(1)))
    prop = unsafe(["1/2"], [0], [1])
    tree = case((0, 1)), split("input", 0, "1/4", CHORDS)
    # On the first side 1/2 - y + (x - 1/4) is 1/4; so it would be on the second one.
    for row in (refute(0), refute(0, split_multiplier=np.ones((1, 1)))):
        with pytest.raises(Broken, match="leaf 1: clause 0"):
            check(network, prop, *tree, leaf(row), leaf(row))


def test_an_empty_side_proves_everything():
    prop = unsafe(["3/2"], [-1], [1])
    tree = split("input", 0, "5"), leaf(refute(0), facts=CHORDS), leaf()
    assert check(ABSOLUTE, prop, case((0, 1)), *tree).leaves == 2
    with pytest.raises(Broken, match="leaf 1: a record 'case' stands where a tree begins"):
        check(ABSOLUTE, prop, case((0, 1)), *tree[:-1], case((0, 1)))


def test_every_clause_whose_box_is_not_empty_needs_a_case():
    prop = unsafe(["3/2", "2"], [-1], [1])
    refuted = leaf(refute(0), facts=CHORDS)
    with pytest.raises(Broken, match="clause 1 is in none of the 1 cases"):
        check(ABSOLUTE, prop, case((0, 1)), refuted)
    with pytest.raises(Broken, match="leaf 0: clause 1: the row's value is -inf, not positive"):
        check(ABSOLUTE, prop, case((0, 2)), refuted)
    with pytest.raises(Broken, match="clause 0 is in none of the 0 cases"):
        check(ABSOLUTE, prop)
    assert check(ABSOLUTE, prop, case((0, 2)), leaf(refute(0, 1), facts=CHORDS)).cases == 1
    both = case((0, 1)), refuted, case((1, 2)), leaf(refute(1), facts=CHORDS)
    assert check(ABSOLUTE, prop, *both).cases == 2
    empty = unsafe(["0"], [1], [-1])
    assert check(ABSOLUTE, empty) == Tally(cases=0, leaves=0, rows=0, empty=1)
    assert check(ABSOLUTE, empty, case((0, 1)), leaf()).leaves == 1


def test_the_box_of_a_case_holds_the_boxes_of_all_its_clauses():
    near, far = unsafe(["3/2"], [0], [1]).clauses, unsafe(["3/2"], [5], [6]).clauses
    prop = Property(near + far)
    with pytest.raises(Broken, match="clause 0"):  # and 1, whose box is unsafe
        check(ABSOLUTE, prop, case((0, 2)), leaf(refute(0, 1), facts=CHORDS))


def test_a_row_for_all_clauses_uses_no_constraint():
    # The side x >= 5 of a box up to 1 is empty by multipliers too, were it not by the box.
    prop = unsafe(["3/2", "2"], [-1], [1])
    everything = {"clause": integers(-1), "row": integers(), "constraint": integers()}
    record = {**everything, "split_multiplier": np.ones((1, 1))}
    tree = case((0, 2)), split(["h0#0", 0], 0, "5"), leaf(refute(0, 1), facts=CHORDS)
    assert check(ABSOLUTE, prop, *tree, leaf(record)).leaves == 2
    with pytest.raises(Broken, match="0 is not an integer from 0 to -1"):
        check(ABSOLUTE, prop, case((0, 2)), leaf(refute(-1)))


def test_deep_trees_are_no_recursion():
    prop = unsafe(["3/2"], [-1], [1])
    depth = 3000
    records = [case((0, 1)), split("input", 0, "-5", facts=CHORDS)]
    records += [leaf(), split("input", 0, "-5")] * depth
    assert check(ABSOLUTE, prop, *records, leaf(), leaf(refute(0))).leaves == depth + 2


def test_rows_and_splits_name_the_tensor_before_data_is_moved():
    move = Move(np.array([1, -1, 0, 1]), 2)
    weight = Product(np.ones((1, 4, 1)), 1)
    nodes = (
        None,
        Affine(((0, Product(np.eye(2)[None], 1)),), None, 3, "z", 2),
        Affine(((1, move),), None, 0, "moved", 4),
        Operator("relu", (2,), {}, "relu", "h#0", 4),
        Affine(((3, weight),), None, 5, "y", 1),
    )
    ends = (Tensor("x", (2,), "float32"),), (Tensor("y", (1,), "float32"),)
    network = Network(nodes, *ends, 4, (2, 2, 4, 4, 1))
    prop = unsafe(["4"], [-1, -1], [1, 1])
    facts = {"rows": [{"operand": ["h#0", 0], "lower": np.array([True, False]), "upper": True}]}
    tree = split(["h#0", 0], 1, "0", facts), leaf(refute(0)), leaf(refute(0))
    assert check(network, prop, case((0, 1)), *tree).leaves == 2
    with pytest.raises(Broken, match="2 is not an integer from 0 to 1"):
        check(network, prop, case((0, 1)), split(["h#0", 0], 2, "0"))
    facts["rows"][0]["upper"] = np.ones(4, np.bool_)
    with pytest.raises(Broken, match=r"shape \(4,\), not \(2,\)"):
        check(network, prop, case((0, 1)), leaf(refute(0), facts=facts))


def test_an_unknown_semantics_or_tier_is_not_answered():
    prop = unsafe(["3/2"], [-1], [1])
    for options in ({"semantics": "float64"}, {"tier": "slow"}):
        with pytest.raises(Unsupported):
            check(ABSOLUTE, prop, **options)


def test_overflow_leaves_the_claim_unproved():
    network = dense((np.full((1, 1), 3e38), np.zeros(1)), (np.eye(1), np.zeros(1)))
    prop = unsafe([10**39], [0], [2])
    assert check(network, prop, case((0, 1)), leaf(refute(0))).leaves == 1
    with pytest.raises(Broken, match=r"leaf 0: z0: its values may reach 6e\+38, which overflows"):
        check(network, prop, case((0, 1)), leaf(refute(0)), semantics="float32")


@pytest.mark.soundness
@settings(max_examples=60)
@given(boxes_and_layers(kinds=("integers", "decimals")), st.sampled_from(TIERS), st.data())
def test_no_tree_proves_what_a_point_contradicts(drawn, tier, data):
    """Random splits, slopes, rows and multipliers, for a bound that some point reaches."""
    layers, lower, upper, rng = drawn
    points = list(adversarial_points(layers, lower, upper, rng))
    reached = max(run_exactly(layers, x)[0] for x in points)
    network = dense(*layers)
    prop = unsafe([reached], lower, upper)
    operators = [node for node in network.nodes if isinstance(node, Operator)]
    records, depth = [case((0, 1))], data.draw(st.integers(0, 3))

    def facts():
        lines = [
            {"operator": node.name, "lower": [rng.random(node.size)], "upper": ["chord"]}
            for node in operators
        ]
        rows = [{"operand": [node.name, 0], "lower": True, "upper": True} for node in operators]
        return {"lines": lines, "rows": rows}

    def grow(levels):
        if levels:
            node = operators[rng.integers(len(operators))] if operators else None
            of = [node.name, 0] if node is not None and rng.random() < 0.5 else "input"
            element = int(rng.integers(len(lower) if of == "input" else node.size))
            records.append(split(of, element, str(Fraction(int(rng.integers(-3, 4)), 2)), facts()))
            grow(levels - 1)
            grow(levels - 1)
        else:
            weights = rng.random((1, depth)) * rng.integers(0, 2, (1, depth))
            records.append(leaf(refute(0, split_multiplier=weights), facts=facts()))

    grow(depth)
    with pytest.raises(Broken, match="clause 0: the row's value is -?[0-9.e-]+, not positive"):
        check(network, prop, *records, tier=tier)


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("semantics", ["real", "float32"])
@pytest.mark.parametrize(("name", "inputs"), [("absorb", 1), ("hidden", 30)])
def test_the_networks_that_fool_others_do_not_fool_the_checker(
    bench_folder: Path, name, inputs, tier, semantics
):
    network = read_network((bench_folder / f"violations/{name}.onnx").read_bytes())
    ends = ([1], [2]) if name == "absorb" else ([0] * inputs, [1] * inputs)
    bound = Fraction(1, 2)  # reached: 3/2 and 9/2 are values of the networks
    names = [node.name for node in network.nodes if isinstance(node, Operator)]
    facts = {
        "lines": [{"operator": n, "lower": ["chord"], "upper": ["chord"]} for n in names],
        "rows": [{"operand": [n, 0], "lower": True, "upper": True} for n in names],
    }
    records = case((0, 1)), leaf(refute(0), facts=facts)
    with pytest.raises(Broken, match="clause 0"):
        check(network, unsafe([bound], *ends), *records, tier=tier, semantics=semantics)
    high = 40 if semantics == "float32" or name == "hidden" else 4
    check(network, unsafe([high], *ends), *records, tier=tier, semantics=semantics)
