"""`absolver domain`: everything about domains: the library, files of your own, pictures."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from absolver import domains
from absolver.analyzer.cli import new, plot, prove, server

if TYPE_CHECKING:
    from absolver.dsl.checker import CheckedDomain

Subparsers = argparse._SubParsersAction


def add_parser(subparsers: "Subparsers[argparse.ArgumentParser]") -> None:
    """Add the command `domain` with its subcommands."""
    parser = subparsers.add_parser("domain", help="list, show, check, write and draw domains")
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    commands.add_parser("list", help="name the domains of the library")
    show = commands.add_parser("show", help="print a domain as it is declared")
    show.add_argument("name", metavar="NAME", help="a domain, a .dom file, or `A & B`")
    show.add_argument(
        "--compiled", action="store_true", help="print the torch source that its rules become"
    )
    check = commands.add_parser("check", help="check a domain file")
    check.add_argument("file", metavar="FILE", type=Path, help="a .dom file")
    prove.add_parser(commands)
    new.add_parser(commands)
    plot.add_parser(commands)
    server.add_parser(commands)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand; a `DomainError` says what is wrong with a domain."""
    match arguments.action:
        case "list":
            _list()
        case "show" if arguments.compiled:
            print(domains.load(arguments.name).source, end="")
        case "show":
            texts = [domains.read(path) for path in domains.locate(arguments.name)]
            print("\n".join(texts), end="")
        case "check":
            print(f"{arguments.file}: {_examined(arguments.file)}")
        case "prove":
            return prove.run(arguments)
        case "new":
            return new.run(arguments)
        case "plot":
            return plot.run(arguments)
        case "server":
            return server.run()
    return 0


def _list() -> None:
    names = (*domains.names(), *domains.noise_names())
    width = max(map(len, names))
    for name in names:
        (path,) = domains.locate(name)
        print(f"{name:{width}}  {domains.declaration(path).doc}".rstrip())


def _examined(path: Path) -> str:
    """Check a file, and say in one line what was understood."""
    from absolver.dsl.smoothing.checker import NoiseDomain

    checked = domains.examine(domains.read(path), path)
    if isinstance(checked, NoiseDomain):
        return f"{checked.name}, {checked.element}"
    return _described(checked)


def _described(domain: "CheckedDomain") -> str:
    """Say in one line what was understood."""
    from absolver.dsl.parameters import parameters_of

    within = f"; in each of {domain.parts} parts of the input set" if domain.parts > 1 else ""
    if domain.factors:
        factors = " & ".join(factor.name for factor in domain.factors)
        return f"{domain.name} = {factors}{within}"
    parts = [f"{domain.name}, {domain.element}"]
    if domain.bounds_from:
        parts.append(f"bounds from {domain.bounds_from.name}")
    parts.append("rules for " + (", ".join(domain.stated) or "no operator but the default ones"))
    searched = [
        name
        for name, sides in domain.stated.items()
        if any(parameters_of(side) for side in (sides.lower, sides.upper) if side)
    ]
    if searched:
        parts.append("parameters in those of " + ", ".join(searched))
    return "; ".join(parts) + within
