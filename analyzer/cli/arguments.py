"""Arguments that the commands share, checked as far as that needs neither files nor torch."""

import argparse
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from absolver.analyzer.cli.shell import UsageError
from absolver.analyzer.engines.names import BRANCH_AND_BOUND, ENGINES, NAMES, SOLVERS

SMALLEST_MEMORY = 16 << 20
_BYTES: Mapping[str, int] = {"MiB": 1 << 20, "GiB": 1 << 30, "MB": 10**6, "GB": 10**9}

if TYPE_CHECKING:
    from absolver.analyzer.certifier import Wishes
    from absolver.analyzer.decide import Execution


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how to compute: device, dtype, seed, memory, time."""
    group = parser.add_argument_group("how to compute")
    group.add_argument(
        "--timeout", type=seconds, metavar="S", help="stop after S seconds (default: never)"
    )
    group.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (default: cpu)"
    )
    group.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float64",
        help="precision of the bounds (default: float64); see docs/command-line.md, Rounding",
    )
    group.add_argument(
        "--seed", type=natural, default=0, metavar="N", help="seed of the attack (default: 0)"
    )
    group.add_argument(
        "--memory",
        type=gigabytes,
        default=2.0,
        metavar="SIZE",
        help="memory for the numbers that an analysis computes with, as 4GiB or 512MiB; GB where "
        "no unit is given (default: 2)",
    )


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what decides, and which solver it asks."""
    group = parser.add_argument_group("what decides")
    group.add_argument(
        "--engine",
        choices=NAMES,
        default=BRANCH_AND_BOUND,
        help="this engine alone, without the attack (default: bab, the analyzer's own branch and "
        "bound); docs/engines.md has them",
    )
    group.add_argument(
        "--solver",
        choices=SOLVERS,
        help="which solver an engine asks that knows several (default: highs, or z3)",
    )


def check_engine_arguments(arguments: argparse.Namespace) -> None:
    """Refuse what an engine other than the analyzer's own has no meaning for."""
    asking = [name for name, entry in ENGINES.items() if entry.solvers]
    if arguments.solver is not None and arguments.engine not in asking:
        raise UsageError(f"--solver says which one an --engine asks: {' or '.join(asking)}")
    if arguments.engine == BRANCH_AND_BOUND:
        return
    if arguments.property is None and arguments.input is None:
        raise UsageError("--engine needs something to decide: add a property or --input")
    if arguments.checkpoint is not None:
        raise UsageError(f"--checkpoint cannot hold what --engine {arguments.engine} does")
    if arguments.recurrent:
        raise UsageError("runs of many steps are decided by the analyzer's own --engine bab")


def execution(arguments: argparse.Namespace) -> "Execution":
    """Return what `add_run_arguments` has read."""
    from absolver.analyzer.decide import Execution

    return Execution(
        device=arguments.device,
        dtype=arguments.dtype,
        seed=arguments.seed,
        memory_bytes=round(arguments.memory * 1e9),
        engine=getattr(arguments, "engine", BRANCH_AND_BOUND),
        solver=getattr(arguments, "solver", None) or "",
    )


def add_certificate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a verdict is to be about, and where its certificate is kept."""
    group = parser.add_argument_group("what is shown")
    group.add_argument(
        "--semantics",
        choices=("real", "float32"),
        help="the numbers that the network computes with (default: what the query's types say, "
        "else float32 if that can be proved, else real)",
    )
    group.add_argument(
        "--certificate",
        type=Path,
        metavar="FILE",
        help="keep the certificate, which `audit` checks; without it, it is checked and deleted",
    )


def add_checkpoint_argument(parser: argparse.ArgumentParser) -> None:
    """Add where an undecided run is kept."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="keep a search in FILE every few seconds, and when it is cut short: the same command "
        "goes on from there; FILE is removed once there is a verdict",
    )


def wishes(arguments: argparse.Namespace, read: Iterable[Path | None]) -> "Wishes":
    """Return what `add_certificate_arguments` has read, once its files can be written.

    `read` are files that the run reads, which no certificate may replace.
    """
    record: Path | None = getattr(arguments, "query_record", None)
    named = {
        "--certificate": arguments.certificate,
        "--query-record": record,
        "--checkpoint": getattr(arguments, "checkpoint", None),
    }
    taken = {path.resolve(): str(path) for path in read if path is not None}
    for option, path in named.items():
        if path is None:
            continue
        if path.resolve() in taken:
            raise UsageError(f"{option} {path} would overwrite another file of this run")
        taken[path.resolve()] = option
    from absolver.analyzer.certifier import Wishes
    from absolver.analyzer.report import Semantics
    from absolver.analyzer.results import check_writable

    semantics = Semantics(arguments.semantics) if arguments.semantics else None
    wishes = Wishes(semantics=semantics, certificate=arguments.certificate, query_record=record)
    for path in wishes.files:
        check_writable(path)
    return wishes


def add_ball_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the input set around a point, which takes the place of a property file."""
    group = parser.add_argument_group("instead of a property file")
    group.add_argument("--input", type=Path, metavar="X.npy", help="the point at the centre")
    group.add_argument(
        "--epsilon",
        type=radius,
        metavar="E",
        help="radius: a decimal or a fraction such as 8/255; a count of pixels for --norm 0",
    )
    group.add_argument("--norm", choices=("inf", "2", "1", "0"), help="norm (default: inf)")
    group.add_argument(
        "--label",
        type=natural,
        metavar="K",
        help="the output that must stay the largest (default: onnxruntime's)",
    )
    group.add_argument(
        "--clip", nargs=2, type=rational, metavar=("LO", "HI"), help="the range of the data"
    )
    group.add_argument(
        "--query-record",
        type=Path,
        metavar="FILE",
        help="where to keep what was asked, for `audit --query` (default: beside the certificate)",
    )


def check_ball_arguments(arguments: argparse.Namespace) -> None:
    """Refuse combinations that mean nothing."""
    if arguments.property is not None and arguments.input is not None:
        raise UsageError("give a property file or --input, not both")
    if arguments.input is None:
        _check_without_input(arguments)
        return
    if arguments.epsilon is None:
        raise UsageError("--input needs a radius: add --epsilon E")
    if arguments.clip is not None and arguments.clip[0] > arguments.clip[1]:
        low, high = map(float, arguments.clip)
        raise UsageError(f"--clip {low:g} {high:g} is empty: give the smaller number first")
    if arguments.norm == "0":
        if arguments.clip is None:
            raise UsageError("--norm 0 changes pixels to any value of the data: add --clip LO HI")
        if arguments.epsilon.denominator != 1:
            raise UsageError("--norm 0 takes a whole number of pixels as --epsilon")


def _check_without_input(arguments: argparse.Namespace) -> None:
    for name in ("epsilon", "norm", "label", "clip", "query_record"):
        if getattr(arguments, name) is not None:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} says something about --input, which is missing")
    for name in ("certificate", "semantics", "checkpoint"):
        if arguments.property is None and getattr(arguments, name) is not None:
            raise UsageError(f"--{name} needs something to decide: add a property or --input")


def rational(text: str) -> Fraction:
    """Read a decimal or a fraction exactly."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number: write 0.03, 3e-2 or 8/255"
        ) from None


def radius(text: str) -> Fraction:
    """Read a radius."""
    value = rational(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"the radius {text} is negative")
    return value


def natural(text: str) -> int:
    """Read a whole number that is not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


def seconds(text: str) -> float:
    """Read a duration: a positive number, whole or not."""
    return float(_positive(text, "a number of seconds"))


def gigabytes(text: str) -> float:
    """Read an amount of memory as GB: a number of these, or one with another unit behind it."""
    unit = next((unit for unit in _BYTES if text.endswith(unit)), "")
    number = _positive(text.removesuffix(unit).strip(), "an amount of memory")
    size = number * _BYTES[unit or "GB"]
    if size < SMALLEST_MEMORY:
        raise argparse.ArgumentTypeError(f"{text} is too little memory: give 16MiB or more")
    return float(size / 10**9)


def _positive(text: str, what: str) -> Fraction:
    value = rational(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not {what} above 0")
    return value
