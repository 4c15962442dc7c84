"""Trees in one record: what they prove is true, and what the same splits and leaves prove."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.certificates import tree as module
from absolver.certificates.network import Broken, Clause, Constraint, Operator, Property
from tests.certificates.kernels import (
    TIERS,
    adversarial_points,
    boxes_and_layers,
    dense,
    network_of,
    run_exactly,
)
from tests.certificates.test_proof import ABSOLUTE, CHORDS, case, check, unsafe
from tests.certificates.trees import Random, tree

ONE = Fraction(1)
TWO = {"split": (0, -1, -1), "element": (0,), "threshold": (0.0,)}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_a_split_of_the_input_proves_what_lines_cannot(tier, semantics):
    # |x| <= 3/5 over [-1/2, 1/2]: the chords meet above it, each half is exact.
    prop, options = unsafe(["3/5"], ["-1/2"], ["1/2"]), {"tier": tier, "semantics": semantics}
    with pytest.raises(Broken, match="node 0: clause 0: the row's value is -[0-9.e-]+, not"):
        check(ABSOLUTE, prop, case((0, 1)), tree(), **options)
    for bounded in (True, np.array([False, True, True])):
        record = tree(**TWO, bounded=bounded)
        assert check(ABSOLUTE, prop, case((0, 1)), record, **options).leaves == 2


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
def test_the_sides_of_a_split_are_in_order(tier):
    # On the first side y = x is at most 1/4, on the second one at least.
    network = dense((np.eye(1), np.zeros(1)), (np.eye(1), np.zeros(1)))
    prop = unsafe(["1/2"], [0], [1])
    weights = np.ones((3, 1), np.float32)
    record = tree((0, -1, -1), (0,), (0.25,), multipliers=weights, lines=CHORDS["lines"])
    with pytest.raises(Broken, match="node 2: clause 0"):
        check(network, prop, case((0, 1)), record, tier=tier)


@pytest.mark.parametrize("tier", TIERS)
def test_multipliers_of_splits_prove_what_the_boxes_cannot(tier):
    # z = x0 - x1 <= 0 is no box: y = x0 - x1 is at most 1 by boxes, but 0 on that side.
    first = np.array([[1.0, -1.0], [1.0, 0.0], [0.0, 1.0]])
    network = dense((first, np.zeros(3)), (np.array([[0.0, 1.0, -1.0]]), np.zeros(1)))
    prop = unsafe(["1/2"], [0, 0], [1, 1])
    lines = [{"operator": "h0#0", "lower": [np.ones(3)], "upper": ["chord"]}]
    record = tree(**TWO | {"of": [["h0#0", 0]]}, lines=lines)
    with pytest.raises(Broken, match="node 1: clause 0"):
        check(network, prop, case((0, 1)), record, tier=tier)
    record["multipliers"] = np.ones((3, 1), np.float32)
    with pytest.raises(Broken, match="node 2: clause 0"):  # true there: x0 = 1, x1 = 0
        check(network, prop, case((0, 1)), record, tier=tier)


@pytest.mark.soundness
@settings(max_examples=60)
@given(boxes_and_layers(kinds=("integers", "decimals")), st.sampled_from(TIERS), st.data())
def test_no_tree_proves_what_a_point_contradicts(drawn, tier, data):
    """Random splits, slopes, rows and multipliers, for a bound that some point reaches."""
    layers, lower, upper, rng = drawn
    points = list(adversarial_points(layers, lower, upper, rng))
    reached = max(run_exactly(layers, x)[0] for x in points)
    network = dense(*layers)
    other = reached + data.draw(st.sampled_from([0, 1, 100]))
    random = Random(network, rng, data.draw(st.integers(0, 4)))
    record = random.record(rows=data.draw(st.sampled_from(["none", "undecided"])), clip=True)
    if data.draw(st.booleans()):
        record["lines"] = [
            {"operator": name, "lower": ["adaptive"], "upper": ["chord"]} for name in random.slopes
        ]
    # Half-spaces of inputs on whose boundary the point lies.
    at = max(points, key=lambda x: run_exactly(layers, x)[0])
    halves = [half_space(rng.integers(-2, 3, len(at)).tolist(), at) for _ in range(2)]
    for bounds in ([reached], [other, reached]):
        prop = unsafe(bounds, lower, upper)
        cut = Property(tuple(replace(clause, on_inputs=tuple(halves)) for clause in prop.clauses))
        for asked in (prop, cut):
            with pytest.raises(Broken, match="clause [01]: the row's value is -?[0-9.e-]+, not"):
                check(network, asked, case((0, len(bounds))), record, tier=tier)


@settings(max_examples=60)
@given(boxes_and_layers(kinds=("integers", "decimals")), st.sampled_from(TIERS), st.data())
def test_a_tree_proves_what_the_same_splits_and_leaves_prove(drawn, tier, data):
    layers, lower, upper, rng = drawn
    network = dense(*layers)
    random = Random(network, rng, data.draw(st.integers(0, 3)), clauses=2)
    random.bounded[:] = True
    points = adversarial_points(layers, lower, upper, rng)
    reached = max(run_exactly(layers, x)[0] for x in points)
    size = (1 + abs(reached)) / 4
    bounds = [reached + size * data.draw(st.integers(0, 8)) for _ in range(2)]
    prop, record = unsafe(bounds, lower, upper), random.record()
    answers = []
    for records in ([record], random.records({})):
        try:
            check(network, prop, case((0, 2)), *records, tier=tier)
            answers.append(True)
        except Broken:
            answers.append(False)
    # Rows at inner nodes close clauses that leaves with other slopes may leave open.
    assert answers[0] >= answers[1]


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
def test_a_combination_refutes_what_no_constraint_refutes_alone(tier):
    # y0 = x and y1 = -x are not both positive.
    network = dense((np.array([[1.0], [-1.0]]), np.zeros(2)))
    both = tuple(Constraint(((1 + i, -ONE),), -Fraction(1, 10), strict=False) for i in range(2))
    prop = Property((Clause((-ONE,), (ONE,), (), both),))
    with pytest.raises(Broken, match="node 0: clause 0"):
        check(network, prop, case((0, 1)), tree(), tier=tier)
    half = tree(combination=np.array([[0.5, 0.5]], np.float32))
    assert check(network, prop, case((0, 1)), half, tier=tier).leaves == 1
    for weights in ((0.0, 0.0), (1.0, 0.0), (0.5, 1.0)):
        record = tree(combination=np.array([weights], np.float32))
        with pytest.raises(Broken, match="node 0: clause 0"):
            check(network, prop, case((0, 1)), record, tier=tier)


def test_equality_refutes_strict_constraints_in_rationals_only():
    # Over x = 1 the output is 1: y > 1 is refuted, y >= 1 is true.
    for keys in ({}, {"combination": np.ones((1, 1), np.float32)}):
        record = tree(**keys, facts=CHORDS)
        open_ = unsafe([1], [1], [1], strict=True)
        assert check(ABSOLUTE, open_, case((0, 1)), record, tier="rational").leaves == 1
        with pytest.raises(Broken, match="the row's value is 0, not positive"):
            check(ABSOLUTE, unsafe([1], [1], [1]), case((0, 1)), record, tier="rational")
        with pytest.raises(Broken, match=r"value is -[0-9.e-]+, not positive"):
            check(ABSOLUTE, open_, case((0, 1)), record)


# y0 = x0 + x1 and y1 = |x1| by two ReLUs.
SUM = dense(
    (np.array([[1.0, 1.0], [0.0, 1.0], [0.0, -1.0]]), np.array([4.0, 0.0, 0.0])),
    (np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]), np.array([-4.0, 0.0])),
)


def half_space(coefficients, through) -> Constraint:
    """The points where a form is at most what it is at one of them."""
    terms = tuple((i, Fraction(c)) for i, c in enumerate(coefficients))
    return Constraint(terms, sum((c * through[i] for i, c in terms), Fraction(0)), strict=False)


def above(**bounds) -> Clause:
    """Outputs of SUM that are at least these bounds, over x in [-1, 1]^2."""
    constraints = tuple(
        Constraint(((2 + int(name[1]), -ONE),), -Fraction(bound), strict=False)
        for name, bound in bounds.items()
    )
    return Clause((-ONE,) * 2, (ONE,) * 2, (), constraints)


def clipped(monkeypatch, clauses, tier) -> list:
    """The boxes of the input that the children of the root of a tree get."""
    seen, enter = [], module.TreeCheck._enter

    def watched(self, batch):
        children = enter(self, batch)
        seen.extend(child.facts.boxes[0] for child in children)
        return children

    monkeypatch.setattr(module.TreeCheck, "_enter", watched)
    with pytest.raises(Broken):
        check(SUM, Property(clauses), case((0, len(clauses))), tree(**TWO, clip=True), tier=tier)
    return seen


@pytest.mark.parametrize("tier", TIERS)
def test_clipping_leaves_what_a_row_leaves(monkeypatch, tier):
    # x0 + x1 >= 3/2 leaves [1/2, 1]^2.
    ((lower, upper),) = clipped(monkeypatch, (above(y0="3/2"),), tier)
    np.testing.assert_allclose(lower[0], 0.5, atol=1e-12)
    assert (lower[0] <= 0.5).all() and (upper[0] == 1).all()


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
def test_clipping_keeps_the_hull_over_open_clauses(monkeypatch, tier):
    ((lower, _),) = clipped(monkeypatch, (above(y0="3/2"), above(y0="1/2")), tier)
    np.testing.assert_allclose(lower[0], -0.5, atol=1e-12)
    assert (lower[0] <= -0.5).all()
    ((lower, _),) = clipped(monkeypatch, (above(y0="3/2"), above(y1="1/2")), tier)
    assert (lower[0] == -1).all()
    ((lower, _),) = clipped(monkeypatch, (above(y0="3/2"), above()), tier)
    assert (lower[0] == -1).all()
    ((lower, _),) = clipped(monkeypatch, (above(y0="1/2"), above(y0="5/2")), tier)
    np.testing.assert_allclose(lower[0], -0.5, atol=1e-12)


@pytest.mark.parametrize("tier", TIERS)
def test_clipping_proves_what_boxes_cannot(tier):
    # Where y0 >= 3/2, x1 is positive: a second look finds |x1| at most 1.
    clause = above(y0="3/2", y1="21/20")
    with pytest.raises(Broken, match="node 1: clause 0"):
        check(SUM, Property((clause,)), case((0, 1)), tree((0, -1, -1), (1,), (2.0,)), tier=tier)
    record = tree((0, -1, -1), (1,), (2.0,), clip=True)
    assert check(SUM, Property((clause,)), case((0, 1)), record, tier=tier).leaves == 2


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
def test_half_spaces_of_inputs_clip_as_rows_do(monkeypatch, tier):
    corner = half_space((-1, -1), (Fraction(1, 2), ONE))  # x0 + x1 >= 3/2
    there = replace(above(y0="-3"), on_inputs=(corner,))
    ((lower, upper),) = clipped(monkeypatch, (there,), tier)
    np.testing.assert_allclose(lower[0], 0.5, atol=1e-12)
    assert (lower[0] <= 0.5).all() and (upper[0] == 1).all()
    # The other clause may be met anywhere.
    ((lower, _),) = clipped(monkeypatch, (there, above(y0="-3")), tier)
    assert (lower[0] == -1).all()


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
def test_a_node_beyond_a_half_space_of_inputs_is_closed_for_its_clause(tier):
    low = replace(above(y0="-3"), on_inputs=(half_space((1, 1), (-ONE, Fraction(-1, 2))),))
    high = replace(above(y0="-3"), on_inputs=(half_space((-1, -1), (ONE, Fraction(1, 2))),))
    nowhere = replace(low, on_inputs=(*low.on_inputs, *high.on_inputs))
    record = tree((0, -1, -1), (1,), (0.0,), clip=True)
    assert check(SUM, Property((nowhere,)), case((0, 1)), record, tier=tier).leaves == 2
    for clauses in ((low,), (nowhere, high)):
        with pytest.raises(Broken, match=f"node [12]: clause {len(clauses) - 1}"):
            check(SUM, Property(clauses), case((0, len(clauses))), record, tier=tier)
    # A combination is one of constraints on outputs: with it half-spaces do not count.
    with pytest.raises(Broken, match="node 1: clause 0"):
        ones = np.ones((3, 1), np.float32)
        check(SUM, Property((nowhere,)), case((0, 1)), {**record, "combination": ones}, tier=tier)


def test_a_batch_proves_what_its_nodes_prove_alone(monkeypatch):
    rng = np.random.default_rng(5)
    sizes = (2, 6, 6, 1)
    layers = [
        (rng.standard_normal((m, n)).astype(np.float32), rng.standard_normal(m).astype(np.float32))
        for n, m in zip(sizes, sizes[1:], strict=False)
    ]
    network, depth = dense(*layers), 6
    splits = 2**depth - 1
    levels = np.log2(np.arange(1, splits + 1)).astype(int)
    split = np.full(2 * splits + 1, -1)
    split[:splits] = 0
    lower, upper = np.full((2 * splits + 1, 2), -1.0), np.full((2 * splits + 1, 2), 1.0)
    threshold = np.zeros(splits)
    for k, axis in enumerate(levels % 2):
        threshold[k] = (lower[k, axis] + upper[k, axis]) / 2
        for child in (2 * k + 1, 2 * k + 2):
            lower[child], upper[child] = lower[k], upper[k]
        upper[2 * k + 1, axis] = lower[2 * k + 2, axis] = threshold[k]
    lines = [{"operator": f"h{i}#0", "lower": ["adaptive"], "upper": ["chord"]} for i in range(2)]
    record = tree(split, levels % 2, threshold, rows="undecided", lines=lines)
    grid = np.linspace(-1, 1, 41)
    values = [
        run_exactly(layers, [Fraction(a), Fraction(b)])[0] for a in grid[::8] for b in grid[::8]
    ]
    prop = unsafe([max(values) + Fraction(1, 2)], [-1, -1], [1, 1])
    tallies = []
    for batch in (1, 30 * sum(network.sizes), 2**19):
        monkeypatch.setattr(module, "BATCH", batch)
        tallies.append(check(network, prop, case((0, 1)), record))
    assert tallies[0] == tallies[1] == tallies[2]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_trees_of_smooth_operators_and_products(tier, semantics):
    """y = sigmoid(x) x over [-2, 2] is below 1.9; rows bound all elements of curves."""
    curve = Operator("sigmoid", (0,), {}, "sigmoid", "s#0", 1)
    network = network_of(curve, Operator("mul", (0, 1), {}, "mul", "y#0", 1), inputs=1)
    lines = [{"operator": "s#0", "lower": ["adaptive"], "upper": ["chord"]}]
    split, threshold = (0, 0, 0, -1, -1, -1, -1), (0.0, -1.0, 1.0)
    for clip in (False, True):
        record = tree(split, (0, 0, 0), threshold, rows="undecided", clip=clip, lines=lines)
        options = {"tier": tier, "semantics": semantics}
        prop = unsafe(["19/10"], [-2], [2])
        assert check(network, prop, case((0, 1)), record, **options).leaves == 4
        with pytest.raises(Broken, match="node 6: clause 0"):
            check(network, unsafe(["7/4"], [-2], [2]), case((0, 1)), record, **options)


@pytest.mark.soundness
@pytest.mark.parametrize("bounded", [True, np.array([False, True, True])])
def test_a_side_without_points_does_not_hide_what_may_overflow_before_it(bounded):
    layers = [(np.array([[3e38]]), np.zeros(1)), (np.array([[1e-38]]), np.zeros(1))]
    record = tree((0, -1, -1), (0,), (-1.0,), of=[["h0#0", 0]], bounded=bounded)
    prop = unsafe([100], [0], [2])
    assert check(dense(*layers), prop, case((0, 1)), record).leaves == 2
    with pytest.raises(Broken, match="z0: its values may reach 6e\\+38, which overflows"):
        check(dense(*layers), prop, case((0, 1)), record, semantics="float32")


def test_deep_trees_are_no_recursion():
    depth = 600
    split = [0] + [-1, 0] * (depth - 1) + [-1, -1]
    record = tree(split, [0] * depth, [-5.0] * depth)
    prop = unsafe(["3/2"], [-1], [1])
    with pytest.raises(Broken, match=f"node {2 * depth}: clause 0"):
        check(ABSOLUTE, prop, case((0, 1)), record)
    record["facts"] = CHORDS
    assert check(ABSOLUTE, prop, case((0, 1)), record).leaves == depth + 1


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (tree(more=1), "more"),
        ({"record": "tree"}, "split"),
        (tree((0,), (0,), (0.0,)), "1 splits make no tree of 1 nodes"),
        (tree((-1, 0, -1), (0,), (0.0,)), "1 splits make no tree of 3 nodes"),
        (tree((0, -1, -1, -1), (0,), (0.0,)), "1 splits make no tree of 4 nodes"),
        (tree((-2,)), "0 splits make no tree of 1 nodes"),
        (tree(()), "0 splits make no tree of 0 nodes"),
        (tree(split=np.zeros((1, 1), np.int32)), r"shape \(1, 1\), not \(1,\)"),
        (tree((1, -1, -1), (0,), (0.0,)), "1 is not an integer from -1 to 0"),
        (tree((0, -1, -1), (1,), (0.0,)), "1 is not an element"),
        (tree((0, -1, -1), (-1,), (0.0,)), "-1 is not an element"),
        (tree((0, -1, -1), (), (0.0,)), r"shape \(0,\), not \(1,\)"),
        (tree((0, -1, -1), (0,), ()), r"shape \(0,\), not \(1,\)"),
        (tree((0, -1, -1), (0,), (np.inf,)), "not finite"),
        (tree((0, -1, -1), (0,), (np.nan,)), "not finite"),
        (tree(of=["output"]), "'output' is not an operand"),
        (tree(of=[np.zeros(2)]), "is not an operand"),
        (tree(rows="some"), "rows are 'some'"),
        (tree(rows=np.zeros(2)), "rows are array"),
        (tree(clip=1), "clip is 1"),
        (tree(bounded=False), "a leaf is not bounded"),
        (tree(bounded=np.ones(2, np.bool_)), r"shape \(2,\), not \(1,\)"),
        (tree(**TWO, bounded=np.array([True, True, False])), "a leaf is not bounded"),
        (tree(multipliers=np.ones((1, 1))), r"shape \(1, 1\), not \(1, 0\)"),
        (tree(**TWO, multipliers=np.ones((3, 2))), r"shape \(3, 2\), not \(3, 1\)"),
        (tree(**TWO, multipliers=-np.ones((3, 1))), "a multiplier is -1.0, negative"),
        (tree(**TWO, multipliers=np.full((3, 1), np.nan)), "not finite"),
        (tree(combination=np.ones((1, 2))), "constraints of 2 clauses are combined"),
        (tree(lines=[{"operator": "h0#0", "lower": [np.ones((2, 2))], "upper": [0]}]), "shape"),
        (tree(lines=[{"operator": "h0#0", "lower": [np.ones((1, 3))], "upper": [0]}]), "shape"),
        (tree(facts={"lines": [{"operator": "h0#0", "lower": [np.ones((1, 2))], "upper": [0]}]}),
         r"shape \(1, 2\), not \(2,\)"),
    ],
)  # fmt: skip
def test_a_tree_that_makes_no_sense_is_refused(record, message):
    prop = unsafe(["3/2", "2"], [-1], [1])
    with pytest.raises(Broken, match=message):
        check(ABSOLUTE, prop, case((0, 2)), record)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.array([[-1.0]]), "negative"),
        (np.array([[np.inf]]), "not finite"),
        (np.ones((1, 2)), r"shape \(1, 2\), not \(1, 1\)"),
        (np.ones((1, 1), np.int32), "is not an array of the right type"),
    ],
)
def test_a_combination_that_makes_no_sense_is_refused(weights, message):
    with pytest.raises(Broken, match=message):
        record = tree(combination=weights)
        check(ABSOLUTE, unsafe(["3/2"], [-1], [1]), case((0, 1)), record)


def test_a_tree_stands_in_place_of_a_whole_tree_only():
    prop = unsafe(["3/2"], [-1], [1])
    split = {"record": "split", "of": "input", "element": 0, "threshold": "0"}
    with pytest.raises(Broken, match="a record 'tree' stands where a tree begins"):
        check(ABSOLUTE, prop, case((0, 1)), split, tree(), tree())
    with pytest.raises(Broken, match="a record 'tree' stands where a case begins"):
        check(ABSOLUTE, prop, case((0, 1)), tree(facts=CHORDS), tree())
