"""`absolver domain new`: a commented file to start a domain from."""

import argparse
from pathlib import Path

from absolver import domains
from absolver.analyzer.cli.shell import UsageError
from absolver.analyzer.errors import EXIT_CANNOT_CREATE, AbsolverError

CARRIERS = ("neurons", "values", "inputs", "symbols")
_PLACEHOLDERS = (("domain mine", "domain {}"), ("FILE", "{}.dom"))


class FileInTheWayError(AbsolverError):
    """A file that a command would write is there already."""

    exit_code = EXIT_CANNOT_CREATE


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the action `new`."""
    new = commands.add_parser("new", help="write a domain file to start from")
    new.add_argument("name", metavar="NAME", help="the domain's name; the file is NAME.dom")
    new.add_argument(
        "--over",
        choices=CARRIERS,
        default=CARRIERS[0],
        help="what its bounds are expressed over (default: neurons)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the file, unless there is one of its name."""
    name = arguments.name
    _check(name)
    file = Path(f"{name}.dom")
    text = domains.template(arguments.over)
    for word, replacement in _PLACEHOLDERS:
        text = text.replace(word, replacement.format(name))
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise FileInTheWayError(
            f"{file} is there already and stays as it is. Choose another name, or move it away."
        ) from None
    print(f"{file}: a domain over {arguments.over}; try `absolver domain check {file}`")
    return 0


def _check(name: str) -> None:
    if name in domains.names():
        raise UsageError(f"`{name}` is a domain of the library. Choose another name.")
    if not _is_name(name):
        raise UsageError(
            f"`{name}` is no name for a domain. "
            "Use letters, digits and `_`, beginning with a letter, and no word of the language."
        )


def _is_name(text: str) -> bool:
    """Ask the parser: a name is one word, and none that the language keeps."""
    from absolver.dsl.errors import DomainError
    from absolver.dsl.parser import parse

    try:
        return parse(f"domain {text}\n  extends interval\n", "").name.text == text
    except DomainError:
        return False
