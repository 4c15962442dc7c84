"""Certificates of counterexamples: the record is the run, and the checker grades it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from absolver.analyzer.certify.errors import NotCertifiable
from absolver.analyzer.certify.produce import Target, write_witness
from absolver.analyzer.decide import Execution
from absolver.analyzer.problem import Safety, pose
from absolver.analyzer.report import Counterexample
from absolver.certificates.format import file_bytes, read_records
from absolver.certificates.network import Broken
from absolver.certificates.onnx_reader import read_network
from absolver.certificates.vnnlib import read_vnnlib
from absolver.certificates.witness import check_witness

Write = Callable[..., Path]
GRADES = ("exact", "runtime", "all executions")


@pytest.fixture
def network(write_network: Write) -> Path:
    return write_network(([[1.0, -2.0]], [0.5]), ([[3.0]], [0.0]))


def posed(network: Path, query: Path) -> Safety:
    problem = pose(network, query, Execution())
    assert isinstance(problem, Safety)
    return problem


def run(problem: Safety, point: list[float], clause: int) -> Counterexample:
    x = np.array([point], np.float32)
    (result,) = problem.network.runtime.tensors(x.ravel().astype(np.float64))
    return Counterexample(inputs={"x": x}, outputs={"y": result}, clause=clause)


def checked(network: Path, query: Path, path: Path) -> list[str]:
    read = read_network(file_bytes(network))
    prop = read_vnnlib(file_bytes(query), read.inputs, read.outputs)
    with path.open("rb") as stream:
        claim, witness = read_records(stream)
    assert (claim["verdict"], claim["semantics"]) == ("falsified", "real")
    return [str(grade) for grade in check_witness(read, prop, witness, "fast")]


def test_a_counterexample_is_accepted_with_all_grades(
    network: Path, write_property: Write, tmp_path: Path
) -> None:
    # The first clause has an empty box: the second one keeps its number, 1.
    unsafe = "(or (and (<= X_0 -5) (>= Y_0 0)) (>= Y_0 4))"
    query = write_property((("0", "1"), ("0", "1")), unsafe)
    problem = posed(network, query)
    path = tmp_path / "witness"
    target = Target(path=path, query=query)
    write_witness(problem, run(problem, [1.0, 0.0], 0), GRADES, target)
    with path.open("rb") as stream:
        _, witness = read_records(stream)
    assert witness["clause"] == 1 and witness["output"].tolist() == [4.5]
    assert "onnxruntime" in witness["runtime"]
    assert sorted(checked(network, query, path)) == sorted(GRADES)


def test_a_safe_run_is_rejected(network: Path, write_property: Write, tmp_path: Path) -> None:
    query = write_property((("0", "1"), ("0", "1")), "(>= Y_0 4)")
    problem = posed(network, query)
    target = Target(path=tmp_path / "witness", query=query)
    write_witness(problem, run(problem, [0.5, 0.0], 0), ("exact",), target)
    with pytest.raises(Broken):
        checked(network, query, target.path)


def test_integers_that_a_record_cannot_hold_are_refused(
    network: Path, write_property: Write, tmp_path: Path
) -> None:
    query = write_property((("0", "1"), ("0", "1")), "(>= Y_0 4)")
    problem = posed(network, query)
    large = {"y": np.array([[2**40]])}
    found = Counterexample(inputs={"x": np.zeros((1, 2), np.int64)}, outputs=large, clause=0)
    with pytest.raises(NotCertifiable, match="integers of 32 bits"):
        write_witness(problem, found, GRADES, Target(path=tmp_path / "witness", query=query))
