"""`absolver verify`: the solver interface of the VNN-LIB 2 standard, section 5.3."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from absolver.analyzer.cli import arguments as shared
from absolver.analyzer.cli.shell import UsageError, complain
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.errors import EXIT_CANNOT_CREATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from absolver.analyzer.report import Report

    Assignment = dict[str, NDArray[np.generic]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that the standard names, and those of `analyze` that say how."""
    parser.add_argument("query", type=Path, help="a VNN-LIB file")
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        type=_assignment,
        metavar="NAME=FILE",
        help="the ONNX file of a network that the query declares; once for each that is not "
        "declared equal to another one",
    )
    parser.add_argument(
        "--serialise-assignments",
        type=Path,
        metavar="DIR",
        help="write a satisfying assignment as TensorProto files instead of printing it",
    )
    parser.add_argument("--domain", metavar="D", help="as for analyze")
    shared.add_certificate_arguments(parser)
    shared.add_run_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print `sat`, `unsat`, `unknown` or `timed-out` and, for `sat`, the assignment."""
    (name, network), *others = _networks(arguments.network)
    deadline = Deadline.after(arguments.timeout)
    read = (network, *(path for _, path in others), arguments.query)
    wishes = shared.wishes(arguments, read)
    from absolver.analyzer.executions import answer
    from absolver.analyzer.problem import NamedQuery
    from absolver.analyzer.properties.errors import ContradictionError
    from absolver.analyzer.regions.errors import EmptyBoxError
    from absolver.analyzer.verify import Session

    query = NamedQuery(arguments.query, name, tuple(others))
    try:
        report = answer(
            network,
            query,
            domain=arguments.domain,
            execution=shared.execution(arguments),
            wishes=wishes,
            session=Session(deadline),
        )
    except (ContradictionError, EmptyBoxError) as error:
        # For `analyze` a mistake; a query whose assertions exclude each other is unsatisfiable.
        complain("absolver", str(error))
        print("unsat")
        return 0
    complain("absolver", "; ".join(_remarks(report)))
    _publish(report, arguments.serialise_assignments)
    if report.unwritten:
        complain("absolver", report.unwritten)
        return EXIT_CANNOT_CREATE
    return 0


def _networks(given: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    if not given:
        raise UsageError("the query's network is missing: add --network NAME=FILE")
    names = [name for name, _ in given]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two files were given for the network {twice}")
    return given


def _assignment(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=FILE")
    return name, Path(file)


def _remarks(report: "Report") -> Iterator[str]:
    """Say what an answer rests on, and which executions it is about."""
    from absolver.analyzer.cli.text import qualifiers

    yield report.verdict.value
    yield from qualifiers(report)
    yield from report.notes


def _publish(report: "Report", folder: Path | None) -> None:
    from absolver.analyzer.report import Verdict
    from absolver.analyzer.results import write_tensors

    match report.verdict:
        case Verdict.VERIFIED:
            lines = ["unsat"]
        case Verdict.FALSIFIED:
            lines = ["sat"]
        case Verdict.TIMEOUT:
            lines = ["timed-out"]
        case _:
            lines = ["unknown"]
    assignment = _in_the_querys_words(report)
    if folder is not None:
        write_tensors(folder, assignment)
    else:
        for name, array in assignment.items():
            shape = ",".join(str(length) for length in array.shape)
            lines.append(f"{name} {array.dtype.name} [{shape}]")
            lines.extend(str(value) for value in array.reshape(-1))
    print("\n".join(lines))
    sys.stdout.flush()


def _in_the_querys_words(report: "Report") -> "Assignment":
    """Name and shape the tensors of a counterexample as the query declares them."""
    witness = report.counterexample
    if witness is None:
        return {}
    if not report.declared:  # VNN-LIB 1.0 knows one flat input and one flat output
        return {"X": witness.flat_inputs, "Y": witness.flat_outputs}
    inputs, outputs = list(witness.inputs.values()), list(witness.outputs.values())
    return {
        one.name: (inputs if one.kind == "input" else outputs)[one.tensor].reshape(one.shape)
        for one in sorted(report.declared, key=lambda one: one.position)
    }
