"""`absolver domain prove`: what a domain and the operators owe, proved, refuted or undecided."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from absolver import domains
from absolver.analyzer.cli.pictures import drawn, plotted
from absolver.analyzer.cli.shell import UsageError

if TYPE_CHECKING:
    from absolver.dsl.prover.obligations import Outcome

Subparsers = argparse._SubParsersAction
EXIT_PROVED, EXIT_REFUTED, EXIT_UNDECIDED = 0, 1, 2
_STYLES: Mapping[str, str] = {"proved": "green", "refuted": "bold red", "undecided": "yellow"}


def add_parser(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """Add the subcommand `prove`."""
    parser = commands.add_parser("prove", help="prove that domains and operators are sound")
    parser.add_argument("name", metavar="NAME", nargs="?", help="a domain, a .dom file, or `A & B`")
    parser.add_argument("--all", action="store_true", help="the whole library")
    parser.add_argument("--verbose", action="store_true", help="show what is proved one by one")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw the first refuted line")
    parser.add_argument("--smt2", metavar="DIR", type=Path, help="write each question to z3 there")
    parser.add_argument(
        "--jobs", metavar="N", type=int, default=os.cpu_count() or 1, help="processes at a time"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prove, print, and return the worst of the answers as the exit code."""
    if bool(arguments.name) == arguments.all:
        raise UsageError("name a domain, or give --all (`absolver domain prove --help`)")
    start = perf_counter()
    names = [*domains.names(), *domains.noise_names()] if arguments.all else [arguments.name]
    paths = [path for name in names for path in domains.locate(name)]
    noise = [path for path in paths if domains.declares_noise(path)]
    outcomes = _proved_neurons([path for path in paths if path not in noise], arguments.jobs)
    outcomes += _proved_noise(noise)
    seconds = perf_counter() - start
    if arguments.smt2 is not None:
        _write_queries(outcomes, arguments.smt2)
    pictures = [o.answer.point.picture for o in outcomes if o.answer.point]
    if arguments.plot is not None and any(pictures):
        plotted(next(filter(None, pictures)), arguments.plot)
    if arguments.json:
        print(json.dumps({"outcomes": [_record(each) for each in outcomes], "seconds": seconds}))
    else:
        _show(outcomes, seconds, verbose=arguments.verbose)
        if noise:
            print("radii of noise are tried at so many values; in use, they are cut off")
    answers = {outcome.answer.status.value for outcome in outcomes}
    if "refuted" in answers:
        return EXIT_REFUTED
    return EXIT_UNDECIDED if "undecided" in answers else EXIT_PROVED


def _proved_neurons(paths: list[Path], jobs: int) -> "list[Outcome]":
    """Prove all operators, and the domains that bound neurons."""
    from absolver.dsl.prover.run import Asked, prove, require_solvers, workers

    if not paths:
        return []
    require_solvers()
    asked = [Asked(partial(domains.check_file, path), _texts(path)) for path in paths]
    with workers(jobs) as crew:
        return list(prove(asked, crew))


def _proved_noise(paths: list[Path]) -> "list[Outcome]":
    """Try the radii of domains of noise, which no operator has a part in."""
    from absolver.dsl.prover.noise import prove_noise

    return [
        outcome
        for path in paths
        for outcome in prove_noise(partial(domains.load_noise, str(path)), domains.read(path))
    ]


def _texts(path: Path) -> list[str]:
    """All that a domain may be read from: its file, the library, and what lies beside it."""
    files = sorted({path, *domains.FOLDER.glob("*.dom"), *path.parent.glob("*.dom")})
    return [f"{path.name}", *(f"{file.name}\n{domains.read(file)}" for file in files)]


def _show(outcomes: "Iterable[Outcome]", seconds: float, *, verbose: bool) -> None:
    outcomes = list(outcomes)
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120)
    table = Table("subject", "obligation", "answer", "seconds", box=None)
    for subject, claim, answer, took in _rows(outcomes, verbose=verbose):
        table.add_row(subject, claim, f"[{_STYLES[answer]}]{answer}[/]", f"{took:.2f}")
    console.print(table)
    for outcome in outcomes:
        if outcome.answer.status.value != "proved":
            console.print(f"\n{outcome.subject}: {outcome.claim}", style="bold", markup=False)
            console.print(f"  {outcome.answer.detail}", markup=False)
            for line in _place(outcome):
                console.print(f"  {line}", markup=False)
    counts = {
        answer: sum(outcome.answer.status.value == answer for outcome in outcomes)
        for answer in _STYLES
    }
    summary = ", ".join(f"{count} {answer}" for answer, count in counts.items())
    console.print(f"\n{summary}; {seconds:.1f} s", highlight=False)
    console.print("over the reals; what rounding takes, sound mode pays", highlight=False)


def _rows(outcomes: "list[Outcome]", *, verbose: bool) -> Iterator[tuple[str, str, str, float]]:
    """One row for each subject that is proved as a whole, else one for each obligation."""
    for subject in dict.fromkeys(outcome.subject for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.subject == subject]
        good = [outcome for outcome in own if outcome.answer.status.value == "proved"]
        shown = own if verbose else [outcome for outcome in own if outcome not in good]
        if not verbose and good:
            claim = good[0].claim if len(good) == 1 else f"{len(good)} obligations"
            yield subject, claim, "proved", sum(outcome.seconds for outcome in good)
        for outcome in shown:
            yield subject, outcome.claim, outcome.answer.status.value, outcome.seconds


def _place(outcome: "Outcome") -> Iterator[str]:
    point = outcome.answer.point
    if point is not None:
        yield ", ".join(f"{name} = {value!r}" for name, value in point.values.items())
        yield from drawn(point.picture)
        if point.claimed != point.actual:
            yield f"claimed {point.claimed!r}, actual {point.actual!r}"


def _record(outcome: "Outcome") -> dict[str, object]:
    answer = outcome.answer
    record: dict[str, object] = {
        "subject": outcome.subject,
        "claim": outcome.claim,
        "answer": answer.status.value,
        "detail": answer.detail,
        "seconds": outcome.seconds,
    }
    if answer.point is not None:
        point = answer.point
        record["point"] = {
            "values": dict(point.values),
            "claimed": point.claimed,
            "actual": point.actual,
        }
    return record


def _write_queries(outcomes: "Iterable[Outcome]", folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for outcome in outcomes:
        for query in outcome.answer.queries:
            number += 1
            comment = f"; {outcome.subject}: {outcome.claim}; unsat means proved\n"
            (folder / f"{number:04}.smt2").write_text(comment + query, encoding="utf-8")
