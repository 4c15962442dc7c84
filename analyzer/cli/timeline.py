"""What ran when, as a table for people."""

import sys
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from absolver.analyzer.report import Event, Kind

# Wide enough where nobody's terminal says how wide a line may be.
_WIDTH = 120


def explain(events: Sequence[Event]) -> None:
    """Print a line for each event: when it began, what it was, how long it took, what it gained."""
    table = Table(title="timeline", title_justify="left", box=None, header_style="")
    for name in ("start", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("gained")
    for event in events:
        table.add_row(
            f"{event.start:.2f}",
            f"{event.seconds:.2f}",
            "  " * event.depth + _what(event),
            "; ".join(_gained(event.gained)),
        )
    console = Console(file=sys.stdout, markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print()
    console.print(table)


def _what(event: Event) -> str:
    match event.kind:
        case Kind.PREPARATION:
            return f"prepare {event.name}"
        case Kind.TURN:
            return f"search {event.name}"
        case Kind.SOLVER:
            return f"solve by {event.name}"
        case Kind.PROOF:
            return f"prove by {event.name}"
    return event.name


def _gained(gained: Mapping[str, float]) -> Iterator[str]:
    """Say what came of an event, in words."""
    for name, value in gained.items():
        match name:
            case "worst margin":
                yield f"{name} {value:.4g}"
            case "closed":
                yield f"{value:.1%} {name}"
            case "looked ahead" if not value:
                continue
            case _:
                yield f"{value:g} {name}"
