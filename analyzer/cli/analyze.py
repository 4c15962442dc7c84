"""The command `analyze`: a network and a property in, a verdict out."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from absolver.analyzer.cli import arguments as shared
from absolver.analyzer.cli.shell import Parser, UsageError, complain, guard
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_FALSIFIED,
    EXIT_INTERRUPTED,
    EXIT_UNCHECKED,
    EXIT_UNKNOWN,
    EXIT_VERIFIED,
)

if TYPE_CHECKING:
    from absolver.analyzer.loops.verify import RunsQuery
    from absolver.analyzer.report import Report
    from absolver.analyzer.verify import Query

EXIT_CODES = """\
exit code:
  0    verified, and the checker has accepted the certificate; or bounds, without a property
  1    falsified: the counterexample is printed
  2    unknown or timeout
  3    verified, but unchecked: the second line says why
  64   the arguments are wrong              65   a file's content is wrong
  66   a file is missing or unreadable      70   our fault
  73   a file cannot be written             130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `analyze` and return its exit code."""
    return guard("analyze", lambda: _run(parser().parse_args(argv)))


def parser() -> Parser:
    """Build the argument parser, without importing anything that computes."""
    parser = Parser(
        prog="analyze",
        description="Verify a property of a neural network by abstract interpretation.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("network", type=Path, help="an ONNX file, gzipped or not")
    parser.add_argument(
        "property",
        type=Path,
        nargs="?",
        help="a VNN-LIB file (1.0 or 2.x, gzipped or not): the unsafe set; without it and without "
        "--input the outputs are bounded over the unit box",
    )
    parser.add_argument(
        "--domain",
        metavar="D",
        help="exactly this domain: a name, `A & B`, or a .dom file; `absolver domain list` names "
        "them (default: the analyzer's choice, crown met with interval)",
    )
    parser.add_argument(
        "--recurrent",
        action="append",
        default=[],
        metavar="OUT=IN",
        help="the network is a step, whose output OUT is its input IN in the next step, and the "
        "property is about every step of every run; once for each state",
    )
    shared.add_ball_arguments(parser)
    shared.add_certificate_arguments(parser)
    shared.add_run_arguments(parser)
    shared.add_engine_arguments(parser)
    shared.add_checkpoint_argument(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print one JSON object instead")
    output.add_argument(
        "--results", type=Path, metavar="FILE", help="also write a VNN-COMP result file"
    )
    output.add_argument(
        "--explain", action="store_true", help="also show what ran when, and what it gained"
    )
    output.add_argument("--quiet", action="store_true", help="print the verdict's line only")
    parser.add_argument("--version", action="version", version=version("absolver"))
    return parser


def _run(arguments: argparse.Namespace) -> int:
    shared.check_ball_arguments(arguments)
    _check_recurrent(arguments)
    shared.check_engine_arguments(arguments)
    deadline = Deadline.after(arguments.timeout)
    wishes = shared.wishes(arguments, (arguments.network, arguments.property, arguments.input))
    from absolver.analyzer.cli.progress import progress
    from absolver.analyzer.executions import answer
    from absolver.analyzer.session import Interrupted, Session

    with progress(quiet=arguments.quiet) as watch:
        try:
            report = answer(
                arguments.network,
                _query(arguments),
                domain=arguments.domain,
                execution=shared.execution(arguments),
                wishes=wishes,
                session=Session(deadline, watch, arguments.checkpoint),
            )
        except Interrupted as interrupt:
            report, interrupted = interrupt.report, True
        else:
            interrupted = False
    _publish(report, arguments)
    if interrupted:
        complain("analyze", "interrupted")
        return EXIT_INTERRUPTED
    if report.unwritten:
        complain("analyze", report.unwritten)
        return EXIT_CANNOT_CREATE
    return exit_code(report)


def _check_recurrent(arguments: argparse.Namespace) -> None:
    """Refuse what has no meaning for runs of many steps."""
    if not arguments.recurrent:
        return
    if arguments.property is None:
        raise UsageError("--recurrent needs a property file, which says where runs begin")
    for name in ("checkpoint", "results"):
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name} cannot hold runs of many steps: leave it out")


def exit_code(report: "Report") -> int:
    """Return what the shell is told of a verdict."""
    from absolver.analyzer.report import Verdict

    match report.verdict:
        case Verdict.VERIFIED:
            return EXIT_VERIFIED if report.checked else EXIT_UNCHECKED
        case Verdict.FALSIFIED:
            return EXIT_FALSIFIED
        case Verdict.BOUNDS:
            return EXIT_VERIFIED
    return EXIT_UNKNOWN


def _query(arguments: argparse.Namespace) -> "Query | RunsQuery | None":
    from absolver.analyzer.loops.verify import RunsQuery
    from absolver.analyzer.verify import Ball

    if arguments.recurrent:
        return RunsQuery(arguments.property, tuple(arguments.recurrent))
    if arguments.input is None:
        property_file: Path | None = arguments.property
        return property_file
    clip = tuple(arguments.clip) if arguments.clip is not None else None
    return Ball(
        center=arguments.input,
        epsilon=arguments.epsilon,
        norm=arguments.norm or "inf",
        label=arguments.label,
        clip=clip,
    )


def _publish(report: "Report", arguments: argparse.Namespace) -> None:
    """Print, and write the result file; neither costs the other where it fails."""
    from absolver.analyzer.cli import machine, text
    from absolver.analyzer.cli.timeline import explain
    from absolver.analyzer.results import write_results

    try:
        if arguments.json:
            print(machine.text(report, timeline=arguments.explain))
        elif arguments.quiet:
            print(report.verdict.value)
        else:
            print("\n".join(text.lines(report)))
            if arguments.explain:
                explain(report.timeline)
        sys.stdout.flush()
    finally:
        if arguments.results is not None:
            write_results(arguments.results, report)


if __name__ == "__main__":
    sys.exit(main())
