"""A cactus plot: how many instances are solved within how many seconds each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from absolver.analyzer.bench.reference import Replies, seconds_of_right, took_part
from absolver.analyzer.bench.summary import Finished, decided_seconds

OURS = "absolver"
MOST_TOOLS = 8  # more lines than that cannot be told apart
FASTEST_S = 1e-3  # a logarithmic axis has no zero


@dataclass(frozen=True)
class Curve:
    """A tool, the times of the instances that it has solved, sorted, and how many it was asked."""

    tool: str
    seconds: Sequence[float]
    asked: int


def compared(finished: Finished, replies: Replies) -> Finished:
    """Return what the plot is about: what some tool was asked too and has a known answer.

    Where no other tool is known, all that is finished.
    """
    same = [
        (instance, result)
        for instance, result in finished
        if instance.expected and any(took_part(of, [instance]) for of in replies.values())
    ]
    return same or finished


def curves(finished: Finished, replies: Replies) -> list[Curve]:
    """Return our curve and those of the tools that have solved most.

    A tool that was asked less than half of the instances has none.
    """
    instances = [instance for instance, _ in finished]
    theirs = [
        Curve(tool, seconds_of_right(of, instances), took_part(of, instances))
        for tool, of in replies.items()
    ]
    theirs = [curve for curve in theirs if 2 * curve.asked >= len(instances) and curve.seconds]
    theirs.sort(key=lambda curve: -len(curve.seconds))
    return [Curve(OURS, decided_seconds(finished), len(instances)), *theirs[:MOST_TOOLS]]


def draw(curves: Sequence[Curve], instances: int, stem: Path) -> list[Path]:
    """Draw the curves as STEM.png and STEM.svg, the lines of tools not asked everything dashed."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for curve in curves:
        all_asked = curve.asked == instances
        label = f"{curve.tool}: {len(curve.seconds)}"
        axes.step(
            [max(seconds, FASTEST_S) for seconds in curve.seconds],
            range(1, len(curve.seconds) + 1),
            where="post",
            label=label if all_asked else f"{label} (asked {curve.asked})",
            linestyle="solid" if all_asked else "dashed",
            linewidth=2.5 if curve.tool == OURS else 1.2,
        )
    axes.set_xscale("log")
    axes.set_xlabel("seconds for each instance")
    axes.set_ylabel(f"solved, of {instances} instances")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="upper left", fontsize="small")
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    for file in files:
        figure.savefig(file)
    return files
