"""The command `absolver`: the VNN-LIB standard's interface, and everything about domains."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib.metadata import version

from absolver.analyzer.cli import bench, domain, smooth, standard, supports, train
from absolver.analyzer.cli.shell import Parser, guard


def main(argv: Sequence[str] | None = None) -> int:
    """Run `absolver` and return its exit code."""
    return guard("absolver", lambda: _run(argv))


def parser() -> ArgumentParser:
    """Build the argument parser, without importing anything that computes."""
    parser: ArgumentParser = Parser(
        prog="absolver",
        description="An abstract-interpretation analyzer for neural networks. "
        "`analyze` is the command for one network and one property.",
    )
    parser.add_argument("--name", action="version", version="Absolver", help="print the name")
    parser.add_argument("--version", action="version", version=version("absolver"))
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    verify = commands.add_parser("verify", help="answer a VNN-LIB query with sat or unsat")
    standard.add_arguments(verify)
    verify.set_defaults(run=standard.run)

    answer = commands.add_parser("supports", help="say which queries and networks are supported")
    supports.add_arguments(answer)
    answer.set_defaults(run=supports.run)

    domain.add_parser(commands)
    train.add_parsers(commands)

    smoothing = commands.add_parser("smooth", help="certify inputs under noise, with samples")
    smooth.add_arguments(smoothing)
    smoothing.set_defaults(run=smooth.run)

    benchmark = commands.add_parser(
        "bench", help="run all instances of a folder", conflict_handler="resolve"
    )
    bench.add_arguments(benchmark)
    benchmark.set_defaults(run=bench.run)
    return parser


def _run(argv: Sequence[str] | None) -> int:
    arguments = parser().parse_args(argv)
    code: int = arguments.run(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
