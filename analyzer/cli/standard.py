"""`absolver verify`: the solver interface of the VNN-LIB 2 standard, section 5.3."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absolver.analyzer.cli import arguments as shared
from absolver.analyzer.cli.shell import UsageError, complain
from absolver.analyzer.deadline import Deadline

if TYPE_CHECKING:
    from absolver.analyzer.report import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that the standard names, and `--domain`."""
    parser.add_argument("query", type=Path, help="a VNN-LIB file")
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        type=_assignment,
        metavar="NAME=FILE",
        help="the ONNX file of a network that the query declares; may be given several times",
    )
    parser.add_argument(
        "--serialise-assignments",
        type=Path,
        metavar="DIR",
        help="write a satisfying assignment as TensorProto files instead of printing it",
    )
    parser.add_argument("--domain", metavar="D", help="as for analyze")
    shared.add_run_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print `sat`, `unsat`, `unknown` or `timed-out` and, for `sat`, the assignment."""
    if not arguments.network:
        raise UsageError("the query's network is missing: add --network NAME=FILE")
    if len(arguments.network) > 1:
        raise UsageError(
            f"{len(arguments.network)} networks were given; one query is answered about one "
            "network (`absolver supports --multiple-network-theories` says SNET)"
        )
    deadline = Deadline.after(arguments.timeout)
    from absolver.analyzer.verify import Execution, verify

    _, network = arguments.network[0]
    execution = Execution(
        device=arguments.device,
        dtype=arguments.dtype,
        seed=arguments.seed,
        memory_bytes=int(arguments.memory * 1e9),
    )
    report = verify(
        network, arguments.query, domain=arguments.domain, execution=execution, deadline=deadline
    )
    _explain_on_stderr(report)
    _publish(report, arguments.serialise_assignments)
    return 0


def _assignment(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=FILE")
    return name, Path(file)


def _explain_on_stderr(report: "Report") -> None:
    complain(
        "absolver",
        "; ".join(
            text
            for text in (
                f"{report.verdict.value} over the reals; no claim about float execution"
                if report.counterexample is None
                else "the assignment is reproduced by onnxruntime in float32",
                report.reason,
                *report.notes,
            )
            if text
        ),
    )


def _publish(report: "Report", folder: Path | None) -> None:
    from absolver.analyzer.report import Verdict

    words = {
        Verdict.VERIFIED: "unsat",
        Verdict.FALSIFIED: "sat",
        Verdict.TIMEOUT: "timed-out",
    }
    witness = report.counterexample
    lines = [words.get(report.verdict, "unknown")]
    if witness is not None and folder is None:
        for name, array in (witness.inputs | witness.outputs).items():
            shape = ",".join(str(axis) for axis in array.shape)
            lines.append(f"{name} {array.dtype.name} [{shape}]")
            lines.extend(str(value) for value in array.reshape(-1))
    if witness is not None and folder is not None:
        from absolver.analyzer.results import write_tensors

        write_tensors(folder, witness.inputs | witness.outputs)
    print("\n".join(lines))
    sys.stdout.flush()
