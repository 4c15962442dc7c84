"""Pictures of an operator and a line: in the terminal, and as a file."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from absolver.analyzer.cli.shell import UsageError

ROWS = 14
Graphs = Sequence[tuple[float, float, float]]
"""(x, operator, line) at places from left to right."""


def drawn(graphs: Graphs) -> Iterator[str]:
    """Draw two graphs with characters: `o` is the operator, `-` the line, `*` both."""
    if not graphs:
        return
    heights = [height for _, *both in graphs for height in both]
    low, high = min(heights), max(heights)
    step = (high - low) / (ROWS - 1) or 1.0
    rows = [[" "] * len(graphs) for _ in range(ROWS)]
    for column, (_, operator, line) in enumerate(graphs):
        for height, mark in ((operator, "o"), (line, "-")):
            row = ROWS - 1 - round((height - low) / step)
            rows[row][column] = mark if rows[row][column] == " " else "*"
    for number, cells in enumerate(rows):
        label = {0: f"{high:.4g}", ROWS - 1: f"{low:.4g}"}.get(number, "")
        yield f"{label:>10} ┤{''.join(cells).rstrip()}"
    left, right = f"{graphs[0][0]:.4g}", f"{graphs[-1][0]:.4g}"
    yield f"{'':>10} └{'─' * len(graphs)}"
    yield f"{'':>12}{left}{right:>{len(graphs) - len(left)}}   o operator   - line"


def plotted(graphs: Graphs, file: Path) -> None:
    """Draw two graphs into a PNG or SVG file."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("--plot needs matplotlib: pip install 'absolver[plot]'") from None
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    x, operator, line = zip(*graphs, strict=True)
    axes.plot(x, operator, label="operator")
    axes.plot(x, line, label="line")
    axes.set_xlabel("x")
    axes.legend()
    figure.savefig(file)
