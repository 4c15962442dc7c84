"""What `absolver bench` shows while it works and at the end, and its table as a CSV file."""

import csv
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import shorten
from typing import TYPE_CHECKING

from absolver.analyzer.bench.instances import Instance
from absolver.analyzer.bench.reference import Replies
from absolver.analyzer.bench.result import Result
from absolver.analyzer.bench.summary import Finished, Row, score, table, wrong

if TYPE_CHECKING:
    from rich.table import Table

HEADER = (
    *("family", "instances", "unsat", "sat", "new", "wrong", "undecided", "errors", "unchecked"),
    "median s",
)
MESSAGE_SHOWN = 120  # characters; the files have all of it
TOOLS_HEADER = ("known", "we", "best tool", "any tool", "the best")
CSV_FIELDS = (
    *("family", "network", "query", "timeout_s", "answer", "checked", "seconds", "cpu_seconds"),
    *("peak_memory_bytes", "exit_code", "semantics", "certificate", "certificate_bytes"),
    *("check_seconds", "open_branches", "version", "message"),
)


@contextmanager
def watched(
    asked: Sequence[tuple[str, Instance]], results: Mapping[str, Result]
) -> Iterator[Callable[[Result], None]]:
    """Give a function that shows a new result, which `results` has by then.

    On a terminal standard error has a table that is kept up to date, else a line each.
    """
    instances = dict(asked)
    total = len(asked)

    def done() -> list[tuple[Instance, Result]]:
        return [(instance, results[key]) for key, instance in asked if key in results]

    def line(result: Result) -> str:
        worth = score(instances[result.key], result)
        return f"{len(done())}/{total}  {_told(result)}  {worth}"

    if not sys.stderr.isatty():
        yield lambda result: print(line(result), file=sys.stderr, flush=True)
        return
    from rich.console import Console
    from rich.live import Live

    everything = [instance for _, instance in asked]

    def picture(caption: str) -> "Table":
        return _picture(table(everything, done(), {}), caption)

    start = picture(f"{len(done())}/{total}")
    with Live(start, console=Console(stderr=True), transient=True) as live:
        yield lambda result: live.update(picture(line(result)))


def lines(instances: Sequence[Instance], finished: Finished, replies: Replies) -> Iterator[str]:
    """Give the final table; wrong answers come last, where nobody overlooks them."""
    rows = table(instances, finished, replies)
    compare = any(row.best_tool_right is not None for row in rows)
    header = [*HEADER, *(TOOLS_HEADER if compare else ())]
    cells = [[*_cells(row), *(_tool_cells(row) if compare else ())] for row in rows]
    yield from _aligned([header, *cells])
    if compare:
        yield ""
        yield (
            "best tool, any tool: right answers of VNN-COMP's tools within the same seconds, on "
            "the machines of the competition, where the answer is known"
        )
    contradictions = wrong(finished)
    if contradictions:
        yield ""
    for instance, result in contradictions:
        yield f"WRONG ANSWER, {instance.expected} is known: {_told(result)}"


def csv_text(finished: Finished) -> str:
    """Write one line for each instance: the known answer, what we say, and what that is worth."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*CSV_FIELDS, "domain", "expected", "score"])
    for instance, result in finished:
        values = [getattr(result, name) for name in CSV_FIELDS]
        domain = result.settings.get("domain")
        writer.writerow([*values, domain, instance.expected, score(instance, result)])
    return text.getvalue()


def _told(result: Result) -> str:
    told = f"{result.answer} after {result.seconds:.1f} s: {result.network} {result.query}"
    return f"{told} ({shorten(result.message, MESSAGE_SHOWN)})" if result.message else told


def _cells(row: Row) -> list[str]:
    counts = (row.unsat, row.sat, row.new, row.wrong, row.undecided, row.errors, row.unchecked)
    unfinished = row.finished < row.instances
    return [
        row.name,
        f"{row.finished}/{row.instances}" if unfinished else str(row.instances),
        *map(str, counts),
        "-" if row.median_s is None else f"{row.median_s:.2f}",
    ]


def _tool_cells(row: Row) -> list[str]:
    best, anyone = row.best_tool_right, row.any_tool_right
    return [str(row.known), str(row.right), str(best), str(anyone), row.best_tool or "-"]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Align columns: words to the left, which are the first and the last column of tools."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    words = {0, len(HEADER) + len(TOOLS_HEADER) - 1}
    for row in rows:
        cells = [
            f"{cell:<{width}}" if index in words else f"{cell:>{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _picture(rows: Sequence[Row], caption: str) -> "Table":
    """Draw the table for a terminal; a row with a wrong answer is red."""
    from rich.table import Table
    from rich.text import Text

    picture = Table(caption=Text(caption, overflow="ellipsis", no_wrap=True))
    for index, name in enumerate(HEADER):
        picture.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        picture.add_row(*_cells(row), style="bold red" if row.wrong else None)
    return picture
