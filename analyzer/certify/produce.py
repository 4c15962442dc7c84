"""The files: certificates of what was verified, and of what was falsified."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from absolver.analyzer.certify.cases import Cases, Counts
from absolver.analyzer.certify.encoding import Entry
from absolver.analyzer.certify.errors import NotCertifiable
from absolver.analyzer.decide import Execution
from absolver.analyzer.frontends.joined import JoinedNetwork
from absolver.analyzer.graph.graph import Nonlinear
from absolver.analyzer.problem import Safety
from absolver.analyzer.properties.query import Neighbourhood
from absolver.analyzer.properties.simplices import without_impossible
from absolver.analyzer.report import Counterexample
from absolver.analyzer.results import unwritable
from absolver.analyzer.search.proof import TreeProof
from absolver.certificates.format import CertificateWriter, file_bytes, read_records
from absolver.dsl.domain import Domain


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a certificate goes, and what it says that it is about.

    `query` is the file that states the property, VNN-LIB or the record of a neighbourhood.
    """

    path: Path
    query: Path
    semantics: str = "real"


@dataclass(frozen=True)
class Production:
    """A certificate that was written: its size in bytes, and what it holds."""

    path: Path
    size: int
    counts: Counts
    narrow: bool
    """Whether some margin of a pass is so small that executions in float32 may take it up."""


def certify(
    problem: Safety,
    domain: Domain,
    execution: Execution,
    target: Target,
    trees: Sequence[TreeProof] = (),
) -> Production:
    """Write the certificate of a problem whose every clause a domain refutes.

    `trees` refute what a search has refuted; of the other clauses one pass is enough.

    Guarantee: `target.path` is untouched, or a certificate from which exact arithmetic refutes
    every clause over the reals, as far as rounding in this run did not deceive.
    """
    _refuse(problem)
    # The checker knows no simplices: bounds have to refute what they exclude.
    problem = replace(problem, around=without_impossible(problem.around))
    with _writer(target.path) as writer:
        writer.write(_claim(problem, target, "verified"))
        if problem.loop is not None:
            writer.write(problem.loop.record())
        cases = Cases(problem, domain, execution, writer, trees)
        cases.write()
    return Production(target.path, target.path.stat().st_size, cases.counts, cases.narrow)


def with_semantics(source: Path, target: Path, semantics: str) -> None:
    """Copy a certificate's proposals under a claim about another semantics."""
    with source.open("rb") as stream, CertificateWriter(target) as writer:
        for record in read_records(stream):
            claims = record["record"] == "claim"
            writer.write({**record, "semantics": semantics} if claims else record)


def write_witness(
    problem: Safety, counterexample: Counterexample, grades: Sequence[str], target: Target
) -> None:
    """Write the certificate of a counterexample that is claimed to have some grades."""
    witness: Entry = {
        "record": "witness",
        "clause": problem.around.clauses[counterexample.clause].number,
        "input": _plain(counterexample.flat_inputs),
        "output": _plain(counterexample.flat_outputs),
        "runtime": f"onnxruntime {version('onnxruntime')}",
        "grades": [str(grade) for grade in grades],
    }
    with _writer(target.path) as writer:
        writer.write(_claim(problem, target, "falsified"))
        writer.write(witness)


def _plain(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return numbers in a type that a record can hold."""
    if values.dtype.kind == "f":
        return values
    narrow = values.astype(np.int32)
    if not (narrow == values).all():
        raise NotCertifiable("certificates hold integers of 32 bits, and one here is larger")
    return narrow


def _claim(problem: Safety, target: Target, verdict: str) -> Entry:
    """Return the first record of a certificate about a problem."""
    if _of_several_parts(problem):
        raise NotCertifiable(
            "certificates are about the inputs and outputs of one network, compared linearly: "
            "there is no rule yet for hidden tensors, several networks and products of variables"
        )
    network = file_bytes(problem.network.path)
    if network != problem.network.file:
        raise NotCertifiable(
            f"{problem.network.path}: weights in files of their own are not hashed with it; save "
            "the network as one file"
        )
    return {
        "record": "claim",
        "version": 1,
        "producer": f"absolver {version('absolver')}",
        "network": hashlib.sha256(network).hexdigest(),
        "property": hashlib.sha256(file_bytes(target.query)).hexdigest(),
        "verdict": verdict,
        "semantics": str(target.semantics),
    }


def _of_several_parts(problem: Safety) -> bool:
    """Say whether the query is about more than inputs and outputs of one network.

    Inputs that are compared with outputs are products of one factor.
    """
    network = problem.network
    if not isinstance(network, JoinedNetwork):
        return False
    hidden = any(part.exposed for part in network.parts.values())
    return hidden or len(network.parts) > 1 or any(len(p) > 1 for p in problem.around.products)


@contextmanager
def _writer(path: Path) -> Iterator[CertificateWriter]:
    """Open a certificate; what cannot be certified leaves no part of one."""
    writer = CertificateWriter(path)
    try:
        with writer:
            yield writer
    except NotCertifiable:
        writer.partial.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise unwritable(Path(error.filename or path), error) from error


def _refuse(problem: Safety) -> None:
    """Raise where the certificate's claim would not be the one that was decided."""
    if isinstance(problem.claim, Neighbourhood):
        _refuse_neighbourhood(problem.claim)
    for spec in problem.network.graph.inputs:
        if not spec.element_type.startswith("float"):
            raise NotCertifiable(
                f"the input '{spec.name}' is of type {spec.element_type}: certificates are about "
                "real or float inputs"
            )
    if problem.around.impossible:
        raise NotCertifiable(
            f"no input meets the constraints of clause {problem.around.impossible[0]}, though its "
            "closed box is not empty; certificates cannot say so yet"
        )
    for node in problem.network.graph.nodes:
        if isinstance(node, Nonlinear) and node.label.startswith("#"):
            raise NotCertifiable(
                f"{node.origin}: certificates name an operator by its node's first output, which "
                "has no name here"
            )


def _refuse_neighbourhood(claim: Neighbourhood) -> None:
    if claim.norm == "0":
        raise NotCertifiable(
            "certificates have no rule for norm 0 yet: a change of few pixels is not certified"
        )
    single = claim.center.astype(np.float32)
    if not np.array_equal(single.astype(claim.center.dtype), claim.center):
        raise NotCertifiable(
            f"the input is of type {claim.center.dtype} with numbers that float32 cannot hold; "
            "certificates are about float32 inputs"
        )
