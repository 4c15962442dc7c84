"""Hidden tensors, several networks, polynomials, missing bounds: answers, and what is unchecked."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from absolver.analyzer.certifier import Wishes
from absolver.analyzer.certify.errors import NotCertifiable
from absolver.analyzer.certify.produce import Target, certify, write_witness
from absolver.analyzer.checker import Statement
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.executions import answer
from absolver.analyzer.problem import NamedQuery, Safety, pose
from absolver.analyzer.properties.errors import PropertyMismatchError, PropertySyntaxError
from absolver.analyzer.report import Report, Verdict
from absolver.analyzer.verify import Session, verify
from absolver.certificates.format import CertificateWriter, file_bytes, read_records
from absolver.domains import load
from tests.checking import audit_here

Write = Callable[..., Path]
ONE = """(vnnlib-version <2.0>)
(declare-network f
  (declare-input X {type} [1,2])
  {hidden}
  (declare-output Y {type} [1,2]))
"""
HIDDEN = '(declare-hidden H {type} [1,2] "h0")'
TWO = """(declare-network g {relation}
  (declare-input U {type} [1,2])
  (declare-output V {type} [1,2]))
"""
# f is y = relu(x), with h0 = x before it.
HOLDS = {
    "hidden": "(assert (>= H[0,0] 1.5))",
    "hidden and output": "(assert (<= Y[0,0] (- H[0,0] 1.25)))",
    "equal": "(assert (>= (+ Y[0,0] V[0,1]) 2.5))",
    "polynomial": "(assert (>= (* X[0,0] X[0,1]) 1.5))",
    "square": "(assert (<= (+ (* Y[0,0] Y[0,0]) 0.5) 0.0))",
}
FAILS = {
    "hidden": "(assert (<= H[0,0] -0.5))",
    "hidden and output": "(assert (>= (* Y[0,0] H[0,1]) 0.5))",
    "equal": "(assert (>= (- Y[0,0] V[0,0]) 0.5))",
    "polynomial": "(assert (>= (* X[0,0] X[0,1]) 0.75))",
    "square": "(assert (>= (* Y[0,0] Y[0,0] Y[0,1]) 0.5))",
}


def reply(network: Path, query: NamedQuery | Path, seconds: float = 20.0) -> Report:
    session = Session(Deadline.after(seconds))
    return answer(network, query, wishes=Wishes(checker=audit_here), session=session)


def text(kind: str, unsafe: str, element: str = "float32") -> str:
    hidden = HIDDEN if kind.startswith("hidden") else ""
    other = TWO.format(relation="(equal-to f)", type=element) if kind == "equal" else ""
    box = "".join(
        f"(assert (>= {x}[0,{i}] -1.0))(assert (<= {x}[0,{i}] 1.0))\n"
        for x in ("XU" if kind == "equal" else "X")
        for i in (0, 1)
    )
    return ONE.replace("{hidden}", hidden).replace("{type}", element) + other + box + unsafe


@pytest.fixture
def network(write_network: Write) -> Path:
    unit = np.eye(2).tolist()
    return write_network((unit, [0.0, 0.0]), (unit, [0.0, 0.0]))


@pytest.fixture
def two_files(network: Path, write_network: Write) -> tuple[Path, Path]:
    other = ([[2.0, 0.0], [0.0, -1.0]], [0.0, 0.5])
    return network, write_network(other, name="other.onnx")


@pytest.fixture
def ask(network: Path, tmp_path: Path) -> Callable[..., tuple[Report, Path]]:
    def ask(kind: str, unsafe: str, element: str = "float32") -> tuple[Report, Path]:
        path = tmp_path / "query.vnnlib"
        path.write_text(text(kind, unsafe, element))
        return reply(network, NamedQuery(path, "f")), path

    return ask


@pytest.mark.parametrize("element", ["float32", "real"])
@pytest.mark.parametrize("kind", HOLDS)
def test_what_holds_is_verified_and_unchecked(
    kind: str, element: str, ask: Callable[..., tuple[Report, Path]]
) -> None:
    report, _ = ask(kind, HOLDS[kind], element)
    assert report.verdict is Verdict.VERIFIED and report.semantics == element
    assert not report.checked and "no rule yet" in report.unchecked


@pytest.mark.parametrize("element", ["float32", "real"])
@pytest.mark.parametrize("kind", FAILS)
def test_what_fails_is_falsified_by_a_run_that_is_judged_exactly(
    kind: str, element: str, ask: Callable[..., tuple[Report, Path]]
) -> None:
    report, _ = ask(kind, FAILS[kind], element)
    assert report.verdict is Verdict.FALSIFIED
    witness = report.counterexample
    assert witness is not None and not report.checked
    x, y = witness.flat_inputs.reshape(-1, 2), witness.flat_outputs.reshape(-1, 2)
    # Each network's own output comes first; x is what is hidden before its relu.
    assert np.array_equal(np.maximum(x, 0), y[:: 2 if kind.startswith("hidden") else 1])


@pytest.mark.soundness
@pytest.mark.parametrize("kind", HOLDS)
def test_no_certificate_of_such_a_query_is_valid(
    kind: str, network: Path, ask: Callable[..., tuple[Report, Path]], tmp_path: Path
) -> None:
    report, query = ask(kind, HOLDS[kind])
    execution, proof = Execution(), tmp_path / "proof.cert"
    problem = pose(network, NamedQuery(query, "f"), execution)
    assert isinstance(problem, Safety) and report.verdict is Verdict.VERIFIED
    with pytest.raises(NotCertifiable, match="no rule yet"):
        certify(problem, load("crown"), execution, Target(path=proof, query=query))
    # A valid certificate of another query about the network, under this one's name.
    other = tmp_path / "other.vnnlib"
    other.write_text(text("plain", "(assert (>= Y[0,0] 1.5))"))
    known = pose(network, other, execution)
    assert isinstance(known, Safety)
    target = Target(path=proof, query=other, semantics="float32")
    certify(known, load("crown"), execution, target)
    assert audit_here(Statement(network, other), proof, Deadline()).valid
    forged = tmp_path / "forged.cert"
    digest = hashlib.sha256(file_bytes(query)).hexdigest()
    with proof.open("rb") as stream, CertificateWriter(forged) as writer:
        for record in read_records(stream):
            claims = record["record"] == "claim"
            writer.write({**record, "property": digest} if claims else record)
    assert audit_here(Statement(network, query), forged, Deadline()).answer == "incomplete"


def test_a_counterexample_of_such_a_query_is_not_written(
    network: Path, ask: Callable[..., tuple[Report, Path]], tmp_path: Path
) -> None:
    report, query = ask("hidden", FAILS["hidden"])
    problem = pose(network, NamedQuery(query, "f"), Execution())
    assert isinstance(problem, Safety) and report.counterexample is not None
    target = Target(path=tmp_path / "witness.cert", query=query)
    with pytest.raises(NotCertifiable):
        write_witness(problem, report.counterexample, ("runtime",), target)
    assert not target.path.exists()


@pytest.mark.parametrize("element", ["float32", "real"])
@pytest.mark.parametrize(
    ("unsafe", "verdict"),
    [
        ("(assert (<= Y[0,0] (- X[0,0] 2.5)))", Verdict.VERIFIED),
        ("(assert (>= Y[0,0] (+ X[0,0] 0.5)))", Verdict.FALSIFIED),
    ],
)
def test_comparisons_of_inputs_with_outputs_are_checked(
    unsafe: str, verdict: Verdict, element: str, ask: Callable[..., tuple[Report, Path]]
) -> None:
    report, _ = ask("plain", unsafe, element)
    assert report.verdict is verdict and report.checked


def test_networks_of_several_files_are_run_each(
    two_files: tuple[Path, Path], tmp_path: Path
) -> None:
    network, other = two_files
    query = tmp_path / "query.vnnlib"
    both = text("equal", "(assert (>= V[0,0] (+ Y[0,0] 1.75)))").replace("(equal-to f)", "")
    query.write_text(both)
    named = NamedQuery(query, "f", (("g", other),))
    report = reply(network, named)
    witness = report.counterexample
    assert report.verdict is Verdict.FALSIFIED and witness is not None
    assert list(witness.inputs) == ["f/x", "g/x"] and list(witness.outputs) == ["f/y", "g/y"]
    assert witness.outputs["g/y"][0, 0] == 2 * witness.inputs["g/x"][0, 0]
    query.write_text(both.replace("1.75", "2.25"))
    assert reply(network, named).verdict is Verdict.VERIFIED


@pytest.mark.parametrize(
    ("change", "others", "error", "message"),
    [
        (("(equal-to f)", ""), (), PropertyMismatchError, "declares the network g, but"),
        (("(equal-to f)", "(equal-to h)"), (), PropertySyntaxError, "no network declared before"),
        (("network g", "network f"), (), PropertySyntaxError, "f is declared twice"),
        (("f", "f"), ("g",), PropertyMismatchError, "declared equal to f, but"),
        (("f", "f"), ("k",), PropertyMismatchError, "but a file was given for k"),
        (("(equal-to f)", "(equal-to f)(equal-to f)"), (), PropertySyntaxError, "two networks"),
    ],
)
def test_networks_that_do_not_fit_the_query_are_errors(
    change: tuple[str, str],
    others: tuple[str, ...],
    error: type[Exception],
    message: str,
    two_files: tuple[Path, Path],
) -> None:
    network, other = two_files
    query = network.with_name("query.vnnlib")
    query.write_text(text("equal", HOLDS["equal"]).replace(*change))
    with pytest.raises(error, match=message):
        verify(network, NamedQuery(query, "f", tuple((name, other) for name in others)))


# The clock may strike inside of a destructor, which cannot raise; it strikes again.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_unbounded_inputs_are_searched_and_nothing_is_proved_of_a_part_of_them(
    network: Path, tmp_path: Path
) -> None:
    def ask(unsafe: str, element: str, seconds: float) -> Verdict:
        query = tmp_path / "query.vnnlib"
        query.write_text(ONE.replace("{hidden}", "").replace("{type}", element) + unsafe)
        return reply(network, query, seconds).verdict

    triangle = "(assert (and (>= X[0,0] 0.0) (>= X[0,1] 0.0) (<= (+ X[0,0] X[0,1]) 1.0)))"
    undecided = (Verdict.UNKNOWN, Verdict.TIMEOUT)
    for element in ("real", "float32"):
        assert ask("(assert (>= Y[0,0] 5.0))", element, 20.0) is Verdict.FALSIFIED
        assert ask(triangle + "(assert (>= Y[0,0] 1.5))", element, 20.0) is Verdict.VERIFIED
        # Over the reals nothing bounds the inputs; in float32 the largest ones overflow.
        assert ask("(assert (<= Y[0,0] -1.0))", element, 1.5) in undecided
        # Violated only beyond the numbers that are searched.
        assert ask("(assert (>= Y[0,0] 1000000.0))", element, 1.5) is not Verdict.VERIFIED
