"""The command audit: what it answers, says and returns."""

import gzip
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from absolver.certificates import audit
from absolver.certificates.format import CertificateWriter
from absolver.certificates.network import Broken, Unsupported

Audit = Callable[..., tuple[int, str]]
CASE: Mapping[str, Any] = {"record": "case", "clauses": [[0, 1]]}


def leaf(constraint: int = 0) -> dict[str, Any]:
    """A leaf that refutes clause 0 by one of its constraints, with no facts but intervals."""
    numbers = {"clause": 0, "row": 0, "constraint": constraint}
    return {
        "record": "leaf",
        "refutations": [{key: np.array([n], np.int32) for key, n in numbers.items()}],
    }


class Files:
    """A network `y = relu(x)`, the property that y_0 is never below -1/2, and a proof of it."""

    def __init__(self, network: Path, prop: Path) -> None:
        self.network, self.property, self.proof = network, prop, network.with_name("proof")
        self.prove()

    def prove(self, *records: Mapping[str, Any], **changes: Any) -> None:
        """Write a certificate with another claim, or with other records."""
        claim = {
            "record": "claim",
            "version": 1,
            "producer": "a test",
            "network": hashlib.sha256(self.network.read_bytes()).hexdigest(),
            "property": hashlib.sha256(self.property.read_bytes()).hexdigest(),
            "verdict": "verified",
            "semantics": "float32",
        }
        with CertificateWriter(self.proof) as writer:
            writer.write({k: v for k, v in (claim | changes).items() if v is not None})
            for record in records or (CASE, leaf()):
                writer.write(record)

    def paths(self) -> list[str]:
        return [str(self.network), str(self.property), str(self.proof)]


@pytest.fixture
def files(write_network: Callable[..., Path], write_property: Callable[..., Path]) -> Files:
    identity = np.eye(2).tolist()
    network = write_network((identity, [0, 0]), (identity, [0, 0]))
    return Files(network, write_property([("-1", "1")] * 2, "(<= Y_0 -0.5)", outputs=2))


@pytest.fixture
def run(files: Files, capsys: pytest.CaptureFixture[str]) -> Audit:
    """Calls the command; the default arguments are the three files."""

    def call(*arguments: str) -> tuple[int, str]:
        code = audit.main([*(arguments or files.paths())])
        captured = capsys.readouterr()
        # The answer goes to standard output, everything else to standard error.
        assert bool(captured.out) == (code in audit.EXIT_CODES.values())
        assert bool(captured.err) == (code not in audit.EXIT_CODES.values())
        return code, captured.out or captured.err

    return call


def checker(monkeypatch: pytest.MonkeyPatch, check: Callable[..., Any]) -> None:
    """Put a function in the place of `check_proof`, or of `check_witness` by its name."""
    name = "check_witness" if check.__name__ == "check_witness" else "check_proof"
    monkeypatch.setattr(audit, name, check)


def accept(network: Any, prop: Any, records: Iterator[Any], *_: Any) -> Any:
    list(records)
    return SimpleNamespace(cases=1, leaves=2, rows=3, empty=0)


@pytest.mark.parametrize("tier", ["fast", "exact", "rational"])
def test_a_proof_is_valid_in_every_tier(files: Files, run: Audit, tier: str) -> None:
    code, text = run(*files.paths(), "--tier", tier)
    lines = text.splitlines()
    assert (code, lines[0]) == (0, "valid")
    assert "no input of the property's input set makes the network's output unsafe" in text
    assert hashlib.sha256(files.network.read_bytes()).hexdigest() in text
    assert hashlib.sha256(files.property.read_bytes()).hexdigest() in text
    assert "every float32 execution" in text
    assert f"tier {tier}" in text and "cases 1, leaves 1, rows" in text


def test_a_false_claim_is_invalid(files: Files, run: Audit) -> None:
    files.property.write_text(files.property.read_text().replace("-0.5", "0.5"))
    files.prove()
    code, text = run()
    assert code == 1 and text.startswith("invalid\nreason ")
    assert "claim      not proved: no input" in text


def test_one_json_object_says_the_same(files: Files, run: Audit) -> None:
    code, text = run(*files.paths(), "--json")
    report = json.loads(text)
    assert code == 0 and report["answer"] == "valid" and "reason" not in report
    assert report["network"] == str(files.network) and report["tier"] == "fast"
    assert report["cases"] == report["leaves"] == 1 and report["seconds"] >= 0
    files.proof.write_bytes(files.proof.read_bytes()[:-1])
    code, text = run(*files.paths(), "--json")
    report = json.loads(text)
    assert code == 2 and report["answer"] == "incomplete" and "stopped" in report["reason"]


def test_a_changed_file_is_named(files: Files, run: Audit) -> None:
    for name in ("network", "property", "proof"):
        path = getattr(files, name)
        before = path.read_bytes()
        path.write_bytes(before[:-40] + bytes([before[-40] ^ 1]) + before[-39:])
        code, text = run()
        assert (code, text.splitlines()[0]) == (1, "invalid")
        if name == "proof":
            assert "the hash at the end of the file" in text
        else:
            assert f"the {name} is not the one that was proved: its SHA-256 is" in text
            for content in (before, path.read_bytes()):
                assert hashlib.sha256(content).hexdigest() in text
        path.write_bytes(before)


def test_gzipped_files_are_hashed_by_their_content(files: Files, run: Audit) -> None:
    zipped = []
    for path in (files.network, files.property):
        zipped.append(path.with_name(path.name + ".gz"))
        zipped[-1].write_bytes(gzip.compress(path.read_bytes()))
    code, _ = run(*map(str, zipped), str(files.proof))
    assert code == 0


def test_a_stopped_run_left_something_incomplete(files: Files, run: Audit) -> None:
    content = files.proof.read_bytes()
    for length in (0, 10, 24, 200, len(content) - 1):
        files.proof.write_bytes(content[:length])
        code, text = run()
        assert code == 2 and text.startswith(
            "incomplete\nreason     the run that wrote it was stopp"
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": True},
        {"version": np.array([1], np.int32)},
        {"record": "case"},
        {"verdict": "unknown"},
        {"verdict": "falsified"},  # its semantics is real
        {"semantics": "float64"},
        {"semantics": None},
        {"network": np.array([1], np.int32)},
        {"producer": 7},
        {"more": "text"},
    ],
)
def test_a_claim_that_the_format_does_not_know_is_invalid(
    files: Files, run: Audit, changes: dict[str, Any]
) -> None:
    files.prove(**changes)
    assert run()[0] == 1


def test_no_claim_is_invalid(files: Files, run: Audit) -> None:
    with CertificateWriter(files.proof):
        pass
    assert run()[0] == 1


def test_records_after_the_proof_are_invalid(
    files: Files, run: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_proof(*arguments: Any) -> Any:
        return accept(*arguments[:2], iter(()))

    checker(monkeypatch, check_proof)
    code, text = run()
    assert code == 1 and "a record follows the proof" in text


QUERY = """(vnnlib-version <2.0>)
(declare-network f (declare-input X {0} [1,2]) (declare-output Y {0} [1,2]))
(assert (<= Y[0,0] -0.5))
"""


@pytest.mark.parametrize(
    ("declared", "claimed", "code"),
    [
        ("float32", "float32", 0),
        ("real", "float32", 0),
        ("real", "real", 0),
        ("float32", "real", 1),
        ("float32", "tf32", 1),
        ("real", "bf16", 1),
    ],
)
def test_the_declared_semantics_must_be_covered(
    files: Files,
    run: Audit,
    monkeypatch: pytest.MonkeyPatch,
    declared: str,
    claimed: str,
    code: int,
) -> None:
    checker(monkeypatch, accept)
    files.property.write_text(QUERY.format(declared))
    files.prove(semantics=claimed)
    found, text = run()
    assert found == code
    if code:
        assert f"the property declares {declared}, the claim is over {claimed}" in text


def query(files: Files) -> Path:
    array = {"dtype": "float32", "shape": [2], "data": "AAAAAAAAgD8="}  # 0 and 1
    record = {"query": 1, "array": array, "norm": "inf", "epsilon": "1/4"}
    path = files.network.with_name("q.json")
    path.write_text(json.dumps(record | {"label": 1, "clip": None, "outputs": 2}))
    return path


def test_a_query_record_takes_the_place_of_the_property(files: Files, run: Audit) -> None:
    files.property = query(files)
    files.prove()
    network, prop, proof = files.paths()
    for arguments in ([network, "--query", prop, proof], ["--query", prop, network, proof]):
        code, text = run(*arguments)
        assert code == 0, text
        assert "q.json, SHA-256" in text and "label 1, kept within 1/4 in norm inf" in text


def witness(monkeypatch: pytest.MonkeyPatch, *grades: str) -> None:
    def check_witness(network: Any, prop: Any, record: Mapping[str, Any], tier: str) -> Any:
        if record.get("record") != "witness":
            raise Broken("no witness")
        return grades

    checker(monkeypatch, check_witness)


def test_the_grades_of_a_counterexample_are_told(
    files: Files, run: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness(monkeypatch, "exact", "all executions")
    files.prove({"record": "witness"}, verdict="falsified", semantics="real")
    code, text = run()
    assert code == 0 and "an input of the property's input set makes" in text
    assert "shown exact over the real numbers" in text
    assert "shown all executions in every float32 execution" in text
    assert "runtime" not in text and "rounding" not in text
    for other in {"semantics": "float32"}, {"verdict": "verified"}:
        files.prove(
            {"record": "witness"}, **({"verdict": "falsified", "semantics": "real"} | other)
        )
        assert run()[0] == 1
    files.prove({"record": "case"}, verdict="falsified", semantics="real")
    assert run()[0] == 1


def test_a_counterexample_over_the_reals_is_none_of_float32(
    files: Files, run: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.property.write_text(QUERY.format("float32"))
    files.prove({"record": "witness"}, verdict="falsified", semantics="real")
    for grades, code in ((), 1), (("exact",), 1), (("exact", "runtime"), 0):
        witness(monkeypatch, *grades)
        assert run()[0] == code


@pytest.mark.regression
def test_a_counterexample_on_a_strict_bound_is_not_accepted(files: Files, run: Audit) -> None:
    numbers = np.ones(2, np.float32)
    record = {"record": "witness", "clause": 0, "input": numbers, "output": numbers}
    files.property.write_text(files.property.read_text().replace("(<= Y_0 -0.5)", "(>= Y_0 0.5)"))
    for relation, code in ("<=", 0), ("<", 1):
        text = files.property.read_text()
        files.property.write_text(text.replace("<= X_0", f"{relation} X_0"))
        files.prove(
            record | {"runtime": "none", "grades": ["exact"]}, verdict="falsified", semantics="real"
        )
        assert run()[0] == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Broken("step 3, node y#0: -1 < 0"), 1),
        (Unsupported("no rule for y#0"), 2),
        (ZeroDivisionError("float division by zero"), 70),
        (AssertionError(), 70),
        (MemoryError(), 70),
        (RecursionError("maximum recursion depth exceeded"), 70),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_checker_that_stops_never_says_valid(
    run: Audit, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def check_proof(*_: Any) -> Any:
        raise error

    checker(monkeypatch, check_proof)
    found, text = run()
    assert found == code
    answers = {1: "invalid", 2: "incomplete"}
    assert text.splitlines()[0] == answers[code] if code in answers else text.count("\n") == 1
    if code in answers:
        assert str(error) in text


def test_names_cannot_forge_an_answer(run: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_proof(*_: Any) -> Any:
        raise Broken("node \nvalid\n\x1b[2Jvalid \udc80")

    checker(monkeypatch, check_proof)
    code, text = run()
    assert code == 1 and "valid" not in text.splitlines() and "\x1b" not in text


@pytest.mark.parametrize("position", range(3))
def test_a_missing_file_is_no_answer(files: Files, run: Audit, position: int) -> None:
    arguments = files.paths()
    arguments[position] += ".absent"
    code, text = run(*arguments)
    assert code == 66 and arguments[position] in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["n"],
        ["n", "proof"],
        ["n", "p", "proof", "--query", "q"],
        ["n", "p", "c", "--tier", "x"],
    ],
)
def test_wrong_arguments_end_with_64(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        audit.main(arguments)
    assert stop.value.code == 64
    captured = capsys.readouterr()
    assert not captured.out and "usage: audit" in captured.err


def test_no_part_of_it_imports_torch(files: Files) -> None:
    program = (
        "import sys; from absolver.certificates import audit\n"
        "code = audit.main(sys.argv[1:])\n"
        "print(code, {'torch', 'lark', 'onnxruntime'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", program, *files.paths()]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.stdout.endswith("0 set()\n"), found.stdout + found.stderr
