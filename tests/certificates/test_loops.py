"""Certificates about runs of recurrent networks: what the checker accepts, and what it must not."""

import hashlib
import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.certificates import audit
from absolver.certificates.format import CertificateWriter
from absolver.certificates.loops import feedback, step_property
from absolver.certificates.network import (
    Ball,
    Broken,
    Clause,
    Constraint,
    Network,
    Property,
    Tensor,
    Unsupported,
)
from absolver.certificates.onnx_reader import read_network
from absolver.certificates.proof import check_proof
from tests.recurrent import PAIR, write_runs, write_step

# h' = h A + x: from |h| <= 1 and |x| <= 1 all runs stay in |h_0| <= 2, |h_1| <= 2.5.
STATE = [[0.5, 0.125], [0.0, 0.5]]
INPUT = [[1.0, 0.0], [0.0, 1.0]]
UNSAFE = "(or (>= Y_0 2.5) (<= Y_1 -3))"
BOX = [("-1", "1")] * 2
NONE = np.zeros((0, 2))


def loop(lower: Any, upper: Any, rows: Any = NONE, bound: Any = ()) -> dict[str, Any]:
    arrays = {"lower": lower, "upper": upper, "rows": rows, "bound": bound}
    return {"record": "loop"} | {key: np.array(x, np.float64) for key, x in arrays.items()}


INVARIANT = loop([-2.25, -2.75], [2.25, 2.75])


class Question:
    """A network, a property of its runs, and a certificate that the tests write."""

    def __init__(self, folder: Path, unsafe: str = UNSAFE) -> None:
        self.folder = folder
        self.network = write_step(folder / "step.onnx", STATE, INPUT)
        self.property = write_runs(folder / "runs.vnnlib", BOX, BOX, unsafe, outputs=2)

    def prove(self, *before: Mapping[str, Any], clauses: int = 6, **changes: Any) -> Path:
        """Write a certificate whose one leaf refutes each clause by intervals."""
        files = {"network": self.network, "property": self.property}
        hashes = {k: hashlib.sha256(path.read_bytes()).hexdigest() for k, path in files.items()}
        claim = {"record": "claim", "version": 1, "producer": "a test", **hashes}
        row = np.arange(clauses, dtype=np.int32)
        used = [{"clause": row, "row": row, "constraint": 0 * row}]
        with CertificateWriter(self.folder / "proof") as writer:
            writer.write(claim | {"verdict": "verified", "semantics": "float32"} | changes)
            for record in before:
                writer.write(record)
            writer.write({"record": "case", "clauses": [[0, clauses]]})
            writer.write({"record": "leaf", "refutations": used})
        return self.folder / "proof"

    def answer(
        self, proof: Path, capsys: pytest.CaptureFixture[str], *options: str
    ) -> tuple[str, str]:
        """What `audit` answers, and why."""
        files = map(str, (self.network, self.property, proof))
        audit.main([*files, *(options or ("--recurrent", PAIR)), "--json"])
        report = json.loads(capsys.readouterr().out)
        return report["answer"], report.get("reason", "")


@pytest.fixture
def question(tmp_path: Path) -> Question:
    return Question(tmp_path)


Printed = pytest.CaptureFixture[str]


@pytest.mark.parametrize("tier", ["fast", "exact", "rational"])
def test_an_invariant_proves_a_property_of_all_runs(
    question: Question, capsys: Printed, tier: str
) -> None:
    proof = question.prove(INVARIANT)
    options = ("--recurrent", PAIR, "--tier", tier)
    assert question.answer(proof, capsys, *options) == ("valid", "")


def test_the_claim_says_what_a_run_is(question: Question, capsys: Printed) -> None:
    files = map(str, (question.network, question.property, question.prove(INVARIANT)))
    assert audit.main([*files, "--recurrent", PAIR]) == 0
    text = capsys.readouterr().out
    assert "no step of any run, of whatever length, makes the network's output unsafe" in text
    assert "recurrent  h_next=h" in text


@pytest.mark.soundness
@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (loop([-1.5, -2.75], [2.25, 2.75]), "clause 0: the row's value"),
        (loop([-2.25, -2.25], [2.25, 2.75]), "clause 1: the row's value"),
        (loop([-2.25, -2.75], [1.5, 2.75]), "clause 2: the row's value"),
        (loop([-2.25, -2.75], [0.75, 2.75]), "facet 2: a first state is outside by 0.25"),
        (loop([-0.5, -2.75], [2.25, 2.75]), "facet 0: a first state is outside by 0.5"),
        (loop([1.0, 1.0], [-1.0, -1.0]), "a first state is outside"),
        (loop([-3.25, -4.0], [3.25, 4.0]), "clause 4: the row's value"),
        (loop([-2.25, -4.0], [2.25, 4.0]), "clause 5: the row's value"),
        (loop([-3, -3], [3, 3], [[1.0, 0.0]], [0.5]), "facet 4: a first state is outside by 0.5"),
        (loop([-3, -3], [3, 3], [[0.0, 0.0]], [-1.0]), "facet 4: a first state is outside by 1"),
    ],
)
def test_what_is_no_invariant_or_keeps_no_property_is_invalid(
    question: Question, capsys: Printed, record: Mapping[str, Any], reason: str
) -> None:
    proof = question.prove(record, clauses=6 + len(record["bound"]))
    answer, why = question.answer(proof, capsys)
    assert answer == "invalid" and reason in why


@pytest.mark.soundness
def test_a_row_that_a_step_leaves_is_no_invariant(question: Question, capsys: Printed) -> None:
    record = loop([-2.25, -2.75], [2.25, 2.75], [[1.0, 0.0]], [1.25])
    answer, why = question.answer(question.prove(record, clauses=7), capsys)
    assert answer == "invalid" and "clause 4: the row's value" in why


@pytest.mark.soundness
@pytest.mark.parametrize(
    ("records", "options"),
    [
        ((), ("--recurrent", PAIR)),
        ((INVARIANT, INVARIANT), ("--recurrent", PAIR)),
        ((INVARIANT,), ()),
        ((INVARIANT,), ("--recurrent", "h=h_next")),
        ((INVARIANT,), ("--recurrent", "h_next")),
        ((INVARIANT,), ("--recurrent", PAIR, "--recurrent", PAIR)),
        ((INVARIANT,), ("--recurrent", "before=h")),
        ((loop([-2.0], [2.0], np.zeros((0, 1))),), ("--recurrent", PAIR)),
        ((loop([-2, -2], [2, 2], np.zeros((0, 3))),), ("--recurrent", PAIR)),
        ((loop([-2, -2], [2, 2], np.zeros((1, 2))),), ("--recurrent", PAIR)),
        ((loop(-2.0, 2.0),), ("--recurrent", PAIR)),
        (({**INVARIANT, "more": 1},), ("--recurrent", PAIR)),
        (({k: v for k, v in INVARIANT.items() if k != "rows"},), ("--recurrent", PAIR)),
        (({**INVARIANT, "lower": [-2, -2]},), ("--recurrent", PAIR)),
        (({**INVARIANT, "lower": np.array([-2, -2], np.int32)},), ("--recurrent", PAIR)),
    ],
)
def test_records_and_states_that_do_not_fit_are_invalid(
    question: Question, capsys: Printed, records: Any, options: tuple[str, ...]
) -> None:
    proof = question.prove(*records)
    arguments = options or ("--tier", "fast")
    assert question.answer(proof, capsys, *arguments)[0] == "invalid"


def test_an_unproved_facet_is_in_no_case(question: Question, capsys: Printed) -> None:
    proof = question.prove(INVARIANT, clauses=5)
    assert question.answer(proof, capsys) == ("invalid", "clause 5 is in none of the 1 cases")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", ["lower", "upper", "rows", "bound"])
def test_numbers_that_are_not_finite_are_refused(key: str, value: float) -> None:
    record = loop([-2, -2], [2, 2], [[1.0, 0.0]], [9.0])
    record[key] = np.full_like(record[key], value)
    with pytest.raises(Broken, match="not finite"):
        step_property(simple(), {0: 3, 1: 4}, record)


def simple(**changes: Any) -> Property:
    """A state of 2 and an input, all within 1; the outputs 3 and 4 are next, 5 is unsafe from 5."""
    one = Fraction(1)
    unsafe = (Constraint(((5, -one),), Fraction(-5), strict=False),)
    clause = Clause((-one,) * 3, (one,) * 3, (), unsafe)
    return Property((Clause(**{**vars(clause), **changes}),))


@pytest.mark.parametrize(
    "prop",
    [
        simple(on_inputs=(Constraint(((0, Fraction(1)), (1, Fraction(1))), Fraction(1), False),)),
        simple(on_outputs=(Constraint(((2, Fraction(1)), (5, Fraction(1))), Fraction(1), False),)),
        Property((*simple().clauses, *simple(lower=(Fraction(0),) * 3).clauses)),
        Property(()),
        Property(simple().clauses, Ball((Fraction(0),) * 3, Fraction(1), 2)),
    ],
)
def test_properties_without_one_box_of_inputs_are_not_covered(prop: Property) -> None:
    with pytest.raises(Unsupported, match="property of runs"):
        step_property(prop, {0: 3, 1: 4}, INVARIANT)


def test_a_state_without_a_bound_in_the_first_step_is_refused() -> None:
    with pytest.raises(Broken, match="no bounds in the first step"):
        step_property(simple(upper=(None, Fraction(1), Fraction(1))), {0: 3, 1: 4}, INVARIANT)


def test_a_counterexample_of_runs_is_not_covered(question: Question, capsys: Printed) -> None:
    proof = question.prove(verdict="falsified", semantics="real")
    answer, why = question.answer(proof, capsys)
    assert answer == "incomplete" and "several steps" in why


def test_states_are_inputs_of_the_shape_and_type_of_their_outputs() -> None:
    tensors = [Tensor("a", (2, 1), "float32"), Tensor("b", (2,), "float32")]
    outputs = [Tensor("y", (1,), "float32"), *tensors, Tensor("c", (2,), "float64")]
    network = Network((), tuple(tensors), tuple(outputs), 0, (4,))
    assert feedback(network, ["b=b"]) == {2: 7, 3: 8}
    assert feedback(network, ["b=b", "a=a"]) == {2: 7, 3: 8, 0: 5, 1: 6}
    for pair in ("a=b", "c=b", "y=a"):
        with pytest.raises(Broken):
            feedback(network, [pair])


@pytest.mark.soundness
@pytest.mark.regression
def test_a_pair_that_can_be_read_in_two_ways_names_no_state() -> None:
    tensors = {name: Tensor(name, (2,), "float32") for name in ("a", "b=c", "a=b", "c")}
    sides = (tensors["b=c"], tensors["c"]), (tensors["a"], tensors["a=b"])
    with pytest.raises(Broken, match="names no output and input"):
        feedback(Network((), *sides, 0, (4,)), ["a=b=c"])


def test_the_clauses_are_the_facets_turned_outwards_and_the_property() -> None:
    record = loop([-2, -3], [4, 5], [[0.5, -1.0]], [7.0])
    prop = step_property(simple(), {0: 3, 1: 4}, record)
    found = [(c.on_outputs[0].terms, c.on_outputs[0].bound) for c in prop.clauses]
    assert found == [
        (((3, 1),), -2),
        (((4, 1),), -3),
        (((3, -1),), -4),
        (((4, -1),), -5),
        (((3, Fraction(-1, 2)), (4, 1)), -7),
        (((5, -1),), -5),
    ]
    assert [c.on_outputs[0].strict for c in prop.clauses] == [True] * 5 + [False]
    for clause in prop.clauses:
        assert (clause.lower, clause.upper) == ((-2, -3, -1), (4, 5, 1))
        assert [(c.terms, c.bound) for c in clause.on_inputs] == [(((0, 0.5), (1, -1)), 7)]


EIGHTHS = st.integers(-8, 8).map(lambda k: k / 8)


@pytest.mark.soundness
@settings(max_examples=60)
@given(
    st.lists(EIGHTHS, min_size=8, max_size=8),
    st.sampled_from(["Identity", "Relu", "Abs"]),
    st.lists(st.integers(8, 24).map(lambda k: k / 8), min_size=4, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_no_run_of_an_accepted_network_leaves_its_invariant(
    tmp_path_factory: pytest.TempPathFactory,
    numbers: list[float],
    function: str,
    ends: list[float],
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    state, inputs = np.array(numbers[:4]).reshape(2, 2), np.array(numbers[4:]).reshape(2, 2) / 2
    path = write_step(folder / "step.onnx", state, inputs, function=function)
    network = read_network(path.read_bytes())
    free = (Fraction(-1),) * 4, (Fraction(1),) * 4
    prop = Property((Clause(*free, (), (Constraint(((4, Fraction(-1)),), Fraction(-3), True),)),))
    lower, upper = -np.array(ends[:2]), np.array(ends[2:])
    row = np.arange(5, dtype=np.int32)
    records = [
        {"record": "case", "clauses": [[0, 5]]},
        {
            "record": "leaf",
            "refutations": [{"clause": row, "row": row, "constraint": 0 * row}],
            "facts": {},
        },
    ]
    states = feedback(network, [PAIR])
    asked = step_property(prop, states, loop(lower, upper))
    try:
        check_proof(network, asked, iter(records), "real", "fast")
    except Broken:
        return
    generator = np.random.default_rng(seed)
    h = generator.choice([-1.0, 1.0], (200, 2))
    for _ in range(30):  # eighths of eighths: some steps are exact, the rest nearly so
        h = h @ state + generator.choice([-1.0, 1.0], (200, 2)) @ inputs
        h = {"Identity": h, "Relu": np.maximum(h, 0), "Abs": np.abs(h)}[function]
        assert (lower <= h + 1e-9).all() and (h <= upper + 1e-9).all() and (h[:, 0] <= 3).all()
