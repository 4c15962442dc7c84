"""Guides that are true: their domains are written, their commands run, their outputs compared."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from absolver.analyzer.cli import absolver, analyze
from absolver.certificates import audit

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "absolver": absolver.main,
    "analyze": analyze.main,
    "audit": audit.main,
}
# Times, sizes, the last digits of bounds, and which point refutes a rule differ between machines
# and versions, and with the point its picture; what domains are does not.
MEASURED = ("analyze", "audit", "absolver domain prove")
NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block of a guide."""

    kind: str
    title: str
    text: str

    def __str__(self) -> str:
        """Name the block by its first line."""
        return f"{self.kind}: {self.text.splitlines()[0]}"


def blocks(guide: str, *kinds: str) -> list[Block]:
    """The fenced blocks of some kinds, in order."""
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+) ?(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(*parts) for parts in found if parts[0] in kinds]


def write(block: Block) -> None:
    """Write a domain as the guide tells its reader to."""
    Path(f"{block.title}.dom").write_text(block.text, encoding="utf-8")


def follow(session: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the commands of a session, and compare what they print with what is shown."""
    for step in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, shown = step.split("\n", 1)
        program, *arguments = shlex.split(command)
        PROGRAMS[program](arguments)
        captured = capsys.readouterr()
        printed = captured.out + captured.err
        measured = command.startswith(MEASURED)
        lines = _comparable(shown, measured).splitlines()
        expected = "".join(map(_pattern, lines))
        assert re.fullmatch(expected, _comparable(printed, measured)), f"$ {command}\n{printed}"


def _pattern(line: str) -> str:
    return r"(?:.*\n)*" if line == "..." else re.escape(line) + r"\n"


def _comparable(text: str, measured: bool) -> str:
    if not measured:
        return text
    lines = (line for line in text.split("\n") if not any(frame in line for frame in "┤└"))
    return "\n".join(" ".join(NUMBER.sub("N", line).split()) for line in lines)


def in_order(found: list[Block]) -> Iterator[Block]:
    """Yield sessions, each with the domains written that stand above it."""
    for block in found:
        if block.kind == "dom":
            write(block)
        else:
            yield block
