"""Results as Markdown tables for people and as JSON for machines."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print an aligned Markdown table, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    right = [all(_is_number(row[i]) for row in rows) for i in range(len(header))]
    print(_line(header, widths, right))
    rules = ("-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True))
    print(_line(list(rules), widths, right))
    for row in rows:
        print(_line(row, widths, right))


def number(value: float | None) -> str:
    """Write a figure with three significant digits, or a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def write_json(path: Path | None, results: object) -> None:
    """Write results with a description of the machine, where a file was asked for."""
    if path is not None:
        document = {"machine": machine(), "results": results}
        path.write_text(json.dumps(document, indent=1) + "\n")


def read_lines(path: Path | None) -> list[dict[str, Any]]:
    """Read a JSON Lines file to continue; a line that a killed run has left torn is passed over."""
    records = []
    for line in path.read_text().splitlines() if path is not None and path.exists() else ():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def append_line(path: Path | None, record: object) -> None:
    """Add a line to a JSON Lines file, where one was asked for, behind whatever it ends with."""
    if path is None:
        return
    with path.open("a+b") as file:
        if file.seek(0, 2):
            file.seek(-1, 2)
            torn = file.read(1) != b"\n"
        else:
            torn = False
        file.write(b"\n" * torn + json.dumps(record).encode() + b"\n")


def machine() -> str:
    """Describe what the figures were taken on, in a line."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    )
    return "| " + " | ".join(padded) + " |"


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell[:1] in "-+." or cell in ("nan", "inf")
