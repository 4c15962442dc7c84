"""Groups of neurons: their bounds hold, are tight, and prove what lines of one neuron cannot."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from absolver.certificates import groups as module
from absolver.certificates.arithmetic import arithmetic
from absolver.certificates.boxes import Lines
from absolver.certificates.groups import (
    GroupRequest,
    RowRequest,
    directions,
    groups_of,
)
from absolver.certificates.network import Broken, Operator
from absolver.certificates.rounding import Box
from tests.attack.mutants import Mutant, injected
from tests.certificates.kernels import (
    TIERS,
    adversarial_points,
    boxes_and_layers,
    dense,
    kernel_and_facts,
    network_of,
    output_bounds,
    run_exactly,
    run_float32,
)
from tests.certificates.polytopes import (
    ATTRIBUTES,
    FUNCTIONS,
    exact,
    grouped,
    polytopes,
    rational,
    solved,
)
from tests.certificates.test_proof import case, check, leaf, refute, split, unsafe
from tests.certificates.trees import tree

# relu(a + b) + relu(a - b) is at most 2 over [-1, 1]^2; the chords alone say 3.
CROSS = dense((np.array([[1.0, 1.0], [1.0, -1.0]]), np.zeros(2)), (np.ones((1, 2)), np.zeros(1)))
PAIR = {
    "operator": "h0#0",
    "members": np.array([[0, 1]], np.int32),
    "forms": np.array([[1, 0], [0, 1]], np.int32),
    "signs": np.array([[1, 1], [-1, 1]], np.int32),
    "below": True,
    "above": True,
    "use": np.array([[1, -2]], np.int32),
}


def lines(share=None, tilt=None) -> list[dict]:
    # The chords' slopes at the root, and below it.
    entry = {"operator": "h0#0", "lower": [0], "upper": [np.full(2, 0.5)]}
    given_ = {"share": share, "tilt": tilt}
    return [entry | {key: np.array(x) for key, x in given_.items() if x is not None}]


def facts(share=((1.0, 1.0),), tilt=None, **changes) -> dict:
    rows = [{"operand": ["h0#0", 0], "lower": True, "upper": True}]
    return {"lines": lines(share, tilt), "rows": rows, "groups": [PAIR | changes]}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("semantics", ["real", "float32"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_pair_proves_what_lines_cannot(tier, semantics, kind):
    prop, options = unsafe(["2.0001"], [-1, -1], [1, 1]), {"tier": tier, "semantics": semantics}
    record = leaf(refute(0), facts=facts(np.ones((1, 2), kind)))
    assert check(CROSS, prop, case((0, 1)), record, **options).leaves == 1
    plain = facts()
    plain["lines"] = lines()
    with pytest.raises(Broken, match=r"value is -0\.9999[0-9]*, not positive"):
        check(CROSS, prop, case((0, 1)), leaf(refute(0), facts=plain), **options)


@pytest.mark.precision
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_what_groups_leave_goes_by_lines(share):
    # The chords' bound is 3.
    bound = 3 - Fraction(share)
    for change, proved in ((Fraction(1, 10**6), True), (-Fraction(1, 10**6), False)):
        prop = unsafe([bound + change], [-1, -1], [1, 1])
        record = leaf(refute(0), facts=facts([[share, share]]))
        if proved:
            check(CROSS, prop, case((0, 1)), record)
        else:
            with pytest.raises(Broken, match="not positive"):
                check(CROSS, prop, case((0, 1)), record)


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("share", [-3.0, 0.0, 5e-324, 1e-3, 1.0, 7.0, 1e200, 1.7e308])
@pytest.mark.parametrize("tilt", [None, -1e300, -0.5, 1e-300, 2.0])
def test_shares_and_tilts_of_any_size_prove_nothing_that_is_false(tier, share, tilt):
    record = facts([[share, 1.0]], None if tilt is None else [[tilt, 0.1]])
    with pytest.raises(Broken, match="not positive"):
        prop = unsafe(["1.999"], [-1, -1], [1, 1])
        check(CROSS, prop, case((0, 1)), leaf(refute(0), facts=record), tier=tier)


@pytest.mark.parametrize("tier", TIERS)
def test_groups_stay_in_force_below_splits_and_trees(tier):
    prop = unsafe(["2.0001"], [-1, -1], [1, 1])
    above = facts() | {"lines": lines()}
    own = refute(0, lines=lines([[1.0, 1.0]]))
    # Where the first member is positive, its line has the slope 1; the tilt makes 1/2 of it.
    tilted = refute(0, lines=lines([[1.0, 1.0]], [[0.25, 0.0]]))
    records = [split(["h0#0", 0], 0, "1/2", above), leaf(own), leaf(tilted)]
    assert check(CROSS, prop, case((0, 1)), *records, tier=tier).leaves == 2
    share, tilt = np.ones((3, 1, 2), np.float32), np.zeros((3, 1, 2), np.float16)
    share[0], tilt[2] = 0, [[0.25, 0.0]]  # not at the root
    places = {"split": (0, -1, -1), "element": (0,), "threshold": (0.5,), "of": [["h0#0", 0]]}
    record = tree(**places, facts=above, lines=lines(share, tilt))
    assert check(CROSS, prop, case((0, 1)), record, tier=tier).leaves == 2
    with pytest.raises(Broken, match="node 2: clause 0"):
        record = tree(**places, facts=above, lines=lines(share))
        check(CROSS, prop, case((0, 1)), record, tier=tier)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operator": "z0"}, "not an operator"),
        ({"members": np.array([[0, 2]], np.int32)}, "does not exist"),
        ({"members": np.array([[-1, 1]], np.int32)}, "does not exist"),
        ({"members": np.array([[1, 1]], np.int32)}, "does not exist"),
        ({"members": np.array([[0]], np.int32)}, "shape"),
        ({"members": np.array([0, 1], np.int32)}, "shape"),
        ({"members": np.zeros((0, 2), np.int32)}, "shape"),
        ({"members": np.zeros((1, 4), np.int32)}, "shape"),
        ({"members": np.array([[0.0, 1.0]])}, "right type"),
        ({"forms": np.array([[1, 0], [0, 2]], np.int32)}, "does not exist"),
        ({"forms": np.array([[1, 0], [0, -1]], np.int32)}, "does not exist"),
        ({"forms": np.array([[1, 0]], np.int32)}, "shape"),
        ({"forms": np.array([[1, 1], [0, 1]], np.int32)}, "not the direction"),
        ({"signs": np.array([[1, 1], [-1, 2]], np.int32)}, "does not exist"),
        ({"signs": np.array([[1, 1], [-1, 0]], np.int32)}, "does not exist"),
        ({"signs": np.array([[1, 1], [1, 1]], np.int32)}, "not the direction"),
        ({"use": np.array([[1, 2]], np.int32)}, "not the direction"),
        ({"use": np.array([[2, 1]], np.int32)}, "not the direction"),
        ({"use": np.array([[-1, -2]], np.int32)}, "not the direction"),
        ({"use": np.array([[1, -3]], np.int32)}, "does not exist"),
        ({"use": np.array([[1, -(2**31)]], np.int32)}, "does not exist"),
        ({"use": np.array([[1]], np.int32)}, "shape"),
        ({"below": np.array([True])}, "shape"),
        ({"rows": []}, "unknown"),
    ],
)
def test_groups_that_make_no_sense_are_refused(changes, message):
    record = leaf(refute(0), facts=facts(**changes))
    with pytest.raises(Broken, match=message):
        check(CROSS, unsafe(["2.0001"], [-1, -1], [1, 1]), case((0, 1)), record)


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (np.ones((1, 3)), "shares"),
        (np.ones((2, 2)), "shares"),
        (np.ones(2), "shares"),
        (np.ones((1, 1, 2)), "shares"),
        (np.ones((0, 1, 2)), "shares"),
        (np.ones((1, 2), np.int32), "right type"),
        (np.array([[1.0, np.nan]]), "not finite"),
        (np.array([[1.0, np.inf]]), "not finite"),
    ],
)
def test_shares_and_tilts_that_make_no_sense_are_refused(share, message):
    prop = unsafe(["2.0001"], [-1, -1], [1, 1])
    for record in (facts(share), facts(tilt=share)):
        with pytest.raises(Broken, match=message):
            check(CROSS, prop, case((0, 1)), leaf(refute(0), facts=record))


def test_an_operator_without_groups_has_no_shares_and_none_has_groups_twice():
    prop = unsafe(["2.0001"], [-1, -1], [1, 1])
    with pytest.raises(Broken, match="no groups are in force"):
        check(CROSS, prop, case((0, 1)), leaf(refute(0), facts=facts() | {"groups": []}))
    with pytest.raises(Broken, match="twice"):
        check(CROSS, prop, case((0, 1)), leaf(refute(0), facts=facts() | {"groups": [PAIR] * 2}))


def test_operators_that_may_have_groups_are_exact_and_piecewise_linear():
    for function, semantics, message in (
        ("sigmoid", "real", "no groups of sigmoid"),
        ("leaky_relu", "float32", "not exact in float32"),
    ):
        attributes = {"alpha": 0.1} if function == "leaky_relu" else {}
        operator = Operator(function, (0,), attributes, function, "h0#0", 2)
        network = network_of(operator, inputs=2)
        prop = unsafe(["9"], [-1, -1], [1, 1], outputs=2)
        with pytest.raises(Broken, match=message):
            record = leaf(refute(0), facts=facts() | {"lines": lines()})
            check(network, prop, case((0, 1)), record, semantics=semantics)


def random_numbers(rng, shape) -> np.ndarray:
    kinds = [0.0, 1.0, -1.0, 0.3, 1e-20, -40.0, 1e12]
    return rng.choice(kinds, shape) * rng.choice([1.0, rng.standard_normal()], shape)


def holds(problem, tier="fast") -> bool:
    """Whether bounds of rows with random shares hold at points of the polytopes, exactly."""
    function, points, box, forms, request, rng = problem
    attributes, f, a = ATTRIBUTES.get(function, {}), FUNCTIONS[function], arithmetic(tier)
    node = Operator(function, (0,), attributes, function, "h#0", 4)
    groups = groups_of(node, request, box, forms, a, 1)
    share, tilt = (random_numbers(rng, request.members.shape) for _ in range(2))
    rows, slopes = random_numbers(rng, (6, 4)), rng.standard_normal((2, 1, 4))
    owner = np.zeros(6, np.int64)
    own = Lines([slopes[0]], [slopes[1]], share, tilt)
    sides = a.numbers(slopes[0]), a.numbers(slopes[1])
    found = groups.take(own, sides, a, a.numbers(np.asfortranarray(rows)), owner)
    number = a.below if tier != "rational" else lambda x: x
    left, moved, bounds = (number(np.ravel(x)).reshape(np.shape(x)) for x in found)
    weights = rng.dirichlet(np.ones(len(points)), 3)
    inner = [[Fraction(float(w)) for w in row] for row in weights]
    places = [exact(p) for p in points]
    places += [
        [sum(w * p[i] for w, p in zip(row, places, strict=True)) / sum(row) for i in range(4)]
        for row in inner
    ]
    for x in places:
        value = [f(q) for q in x]
        for r in range(6):
            if bounds[r] == -np.inf:
                continue
            rest = [Fraction(rows[r, i]) - rational(left[r, i]) for i in range(4)]
            gap = sum(
                c * y - rational(m) * q for c, y, m, q in zip(rest, value, moved[r], x, strict=True)
            )
            if Fraction(float(bounds[r])) > gap:
                return False
    return True


@pytest.mark.soundness
@settings(max_examples=100, deadline=None)
@given(polytopes(), st.sampled_from(TIERS))
def test_bounds_of_groups_hold_at_points_of_their_polytopes(problem, tier):
    assert holds(problem, tier)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("groups_of", "-forms.upper[0, ::-1]", "forms.lower[0, ::-1]"),
        ("groups_of", "-forms.lower[0, ::-1]", "forms.upper[0, ::-1]"),
        ("groups_of", "4 * steepest * unit + rounded * reach", "0.0"),
        ("_vertices", "np.rint(np.ldexp(bend, -exponent))", "high"),
        ("_vertices", "heights <= upper * scale", "heights < upper * scale"),
        ("_vertices", "_floor(directed.lower", "1 - 0 * _floor(directed.lower"),
        ("Groups.take", "rows - taken, moved", "rows - 0 * taken, moved"),
        ("Groups.take", "-slant], axis=1", "-slant * 0], axis=1"),
    ],
)
def test_bugs_put_into_groups_are_found(name, old, new):
    many = settings(max_examples=1000, deadline=None, database=None)
    with injected(Mutant(module, name, old, new)):
        find(polytopes(), lambda problem: not holds(problem), settings=many)


@pytest.mark.precision
@settings(max_examples=20, deadline=None)
@given(polytopes())
def test_bounds_of_groups_are_the_least_values_at_exact_vertices(problem):
    function, _, box, forms, request, rng = problem
    node = Operator(function, (0,), ATTRIBUTES.get(function, {}), function, "h#0", 4)
    groups, f, k = (
        groups_of(node, request, box, forms, arithmetic("fast"), 1),
        FUNCTIONS[function],
        request.members.shape[1],
    )
    bends = {"clip": [Fraction(-0.7), Fraction(0.3)]}.get(function, [Fraction(0)])
    for g, (own, use) in enumerate(zip(request.members[:1], request.use[:1], strict=True)):
        held = [
            (np.eye(k, dtype=int)[i], *(Fraction(end[0, e]) for end in box))
            for i, e in enumerate(own)
        ]
        for d, j in zip(directions(k), use.tolist(), strict=True):
            low, high = (Fraction(end[0, abs(j) - 1]) if j else None for end in forms)
            if j:
                held.append((d, low, high) if j > 0 else (d, -high, -low))
        planes = [(n, end) for n, *ends in held for end in ends]
        planes += [(n, bend) for n, _, _ in held[:k] for bend in bends]
        a, m = rng.standard_normal((2, k))
        found = []
        for chosen in combinations(planes, k):
            matrix = [[int(q) for q in n] for n, _ in chosen]
            z = solved(matrix, [end for _, end in chosen])
            if z is not None and all(
                low <= sum(int(c) * q for c, q in zip(n, z, strict=True)) <= high
                for n, low, high in held
            ):
                found.append(
                    sum(
                        Fraction(float(c)) * f(q) - Fraction(float(s)) * q
                        for c, s, q in zip(a, m, z, strict=True)
                    )
                )
        least = float(min(found))
        mine = (groups.points[g] @ np.concatenate([a, -m])).min()
        paid = groups.error[g] * np.abs([a, m]).sum()
        scale = np.abs(groups.points[g]).max()
        assert mine - paid <= least <= mine + paid + 1e-10 * scale + 1e-250


def test_a_polytope_that_is_empty_counts_as_its_box_and_an_infinite_box_has_no_bound():
    node = Operator("relu", (0,), {}, "relu", "h#0", 2)
    members, use = np.array([[0, 1]]), np.array([[1, 0]])
    request = GroupRequest(members, use, RowRequest((), {}))
    box = Box(-np.ones((1, 2)), np.ones((1, 2)))
    for ends in ((0.5, -0.5), (np.inf, -np.inf), (np.nan, np.nan), (-np.inf, np.inf)):
        forms = Box(*np.array(ends)[:, None, None])
        groups = groups_of(node, request, box, forms, arithmetic("fast"), 1)
        corners = {tuple(z) for z in groups.points[0][:, 2:].tolist()}
        assert {(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0), (0.0, 0.0)} <= corners
    forms = Box(-np.ones((1, 1)), np.ones((1, 1)))
    own = Lines([np.zeros(2)], [np.zeros(2)], np.array([[1.0, 0.0]]))
    for lower in (-np.inf, np.nan, -1e200):
        box = Box(np.array([[-1.0, lower]]), np.ones((1, 2)))
        groups = groups_of(node, request, box, forms, arithmetic("fast"), 1)
        rows = np.array([[1.0, 0.0], [0.0, 1.0]])
        *_, bounds = groups.take(own, None, arithmetic("fast"), rows, np.zeros(2, np.int64))
        # The second row gives the group nothing.
        assert bounds[0] == -np.inf
        assert -1e-300 < bounds[1] <= 0


@pytest.mark.soundness
@settings(max_examples=80, deadline=None)
@given(boxes_and_layers(), st.sampled_from(TIERS), st.booleans())
def test_bounds_with_random_groups_are_sound(problem, tier, own_rows):
    layers, lower, upper, rng = problem
    network = dense(*layers)
    given_ = grouped(network, rng, own_rows=own_rows)
    kernel, known = kernel_and_facts(network, (lower, upper), tier, given_)
    below, above = output_bounds(kernel, known)
    for point in adversarial_points(layers, lower, upper, rng):
        for low, y, high in zip(below, run_exactly(layers, point), above, strict=True):
            assert low == -np.inf or Fraction(low) <= y
            assert high == np.inf or y <= Fraction(high)


@pytest.mark.soundness
@settings(max_examples=40, deadline=None)
@given(boxes_and_layers(kinds=("mixed", "cancellation")), st.sampled_from(TIERS))
def test_bounds_with_random_groups_hold_for_executions(problem, tier):
    layers, lower, upper, rng = problem
    network = dense(*layers)
    ends = np.array([lower, upper], np.float64).astype(np.float32).astype(np.float64)
    box = [[Fraction(q) for q in end] for end in ends.tolist()]
    given_ = grouped(network, rng, own_rows=False)
    kernel, known = kernel_and_facts(network, box, tier, given_, semantics="float32")
    below, above = output_bounds(kernel, known)
    for _ in range(6):
        x = rng.uniform(*ends).astype(np.float32).clip(*ends)
        for low, y, high in zip(below, run_float32(layers, x, rng), above, strict=True):
            assert low == -np.inf or Fraction(low) <= Fraction(y)
            assert high == np.inf or Fraction(y) <= Fraction(high)
