"""An operator between the lines that a domain bounds it with, one panel for each interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval, Operator
from absolver.dsl.relaxation import relax

POINTS = 401  # in an interval: an odd number, so that a kink in the middle is one of them
MARGIN = 0.25  # of an interval's width on either side, where the operator goes on
GRAPH, LOWER, UPPER = "#1d1d1f", "#1f6fb4", "#c8501e"
USUAL: Sequence[tuple[float, float]] = ((-3, -0.5), (-1, 2), (-1, 1), (-2, 1), (0.5, 3))
"""Intervals to choose from where none is asked for: either side of 0, and across it."""
MOST_PANELS = 3


@dataclass(frozen=True)
class Lines:
    """What a domain says of an operator on one interval, at some points of it.

    `others` are the pairs that the ends of the ranges of its parameters give.
    """

    domain: str
    lower: Tensor
    upper: Tensor
    others: tuple[tuple[Tensor, Tensor], ...] = ()

    def area(self, x: Tensor) -> float:
        """Measure what lies between the lines."""
        return torch.trapezoid(self.upper - self.lower, x).item()


def usual_intervals(operator: Operator) -> list[tuple[float, float]]:
    """Choose intervals on which there is something to see: the operator is bounded, not affine."""

    def shows(lower: float, upper: float) -> bool:
        box = [_interval(lower, upper)]
        low, high = operator.range(box)
        affine, _ = operator.affine_on(box)
        return bool((low.isfinite() & high.isfinite() & ~affine).all())

    shown = [ends for ends in USUAL if shows(*ends)]
    # The first, the one in the middle, and the last: as different as they come.
    return [shown[0], shown[len(shown) // 2], shown[-1]] if len(shown) > MOST_PANELS else shown


def lines(domain: Domain, operator: Operator, ends: tuple[float, float], x: Tensor) -> list[Lines]:
    """Evaluate the lines of a domain, or of each factor of a product, at some points."""
    if domain.factors:
        return [part for factor in domain.factors for part in lines(factor, operator, ends, x)]
    box = [_interval(*ends)]
    parameters = domain.parameters(operator, box)
    extremes = (
        {n: p.lower for n, p in parameters.items()},
        {n: p.upper for n, p in parameters.items()},
    )
    others = tuple(_pair(domain, operator, box, x, end) for end in extremes if end)
    return [Lines(domain.name, *_pair(domain, operator, box, x, {}), others)]


def draw(domain: Domain, operator: Operator, intervals: Sequence[tuple[float, float]]) -> Figure:
    """Draw the operator, the lines, and the area between them, one panel for each interval."""
    figure = Figure(figsize=(0.6 + 4 * len(intervals), 4.2), layout="constrained")
    figure.suptitle(f"{operator.name} in {domain.name}", fontweight="bold")
    panels = figure.subplots(1, len(intervals), squeeze=False)[0]
    for axes, ends in zip(panels, intervals, strict=True):
        _panel(axes, domain, operator, ends)
    panels[0].legend(loc="best", fontsize="small", framealpha=0.9)
    return figure


def save(figure: Figure, file: Path) -> None:
    """Write a figure in the format that the file's name ends in."""
    # Without the time of writing, so that the same picture is the same file.
    metadata = {"Date": None} if file.suffix == ".svg" else None
    figure.savefig(file, dpi=160, metadata=metadata)


def _panel(axes: Axes, domain: Domain, operator: Operator, ends: tuple[float, float]) -> None:
    lower, upper = ends
    x = torch.linspace(lower, upper, POINTS, dtype=torch.float64)
    beyond = MARGIN * (upper - lower)
    around = torch.linspace(lower - beyond, upper + beyond, 2 * POINTS, dtype=torch.float64)
    axes.plot(around, operator(around), color=GRAPH, linewidth=1, alpha=0.35)
    axes.plot(x, operator(x), color=GRAPH, linewidth=2.2, label=operator.name, zorder=3)
    found = lines(domain, operator, ends, x)
    for index, each in enumerate(found):
        of = f" ({each.domain})" if len(found) > 1 else ""
        style = ("solid", "dashed", "dotted")[index % 3]
        for other in each.others:
            for side, colour in zip(other, (LOWER, UPPER), strict=True):
                axes.plot(x, side, color=colour, linewidth=0.8, alpha=0.6)
        axes.fill_between(x, each.lower, each.upper, color=LOWER, alpha=0.13, linewidth=0)
        axes.plot(x, each.upper, color=UPPER, linewidth=1.6, linestyle=style, label=f"upper{of}")
        axes.plot(x, each.lower, color=LOWER, linewidth=1.6, linestyle=style, label=f"lower{of}")
    for end in ends:
        axes.axvline(end, color=GRAPH, linewidth=0.6, linestyle=(0, (4, 4)), alpha=0.5)
    areas = " and ".join(f"{each.area(x):.3g}" for each in found)
    axes.set_title(f"[{lower:g}, {upper:g}], area {areas}", fontsize="medium")
    axes.set_xlabel("x")
    axes.grid(visible=True, alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    _keep_in_view(axes, found, operator(x))


def _keep_in_view(axes: Axes, found: Sequence[Lines], values: Tensor) -> None:
    """Show what belongs to the interval: beside a pole the operator would hide everything."""
    pairs = [pair for each in found for pair in ((each.lower, each.upper), *each.others)]
    heights = torch.cat([values, *(side for pair in pairs for side in pair)])
    heights = heights[heights.isfinite()]
    if len(heights):
        low, high = heights.min().item(), heights.max().item()
        space = 0.12 * (high - low) or 0.5
        axes.set_ylim(low - space, high + space)


def _pair(
    domain: Domain,
    operator: Operator,
    box: Sequence[Interval],
    x: Tensor,
    values: dict[str, Tensor],
) -> tuple[Tensor, Tensor]:
    found = relax(operator, domain.slopes(operator, box, values), box)
    return (
        found.lower_offset + found.lower[0] * x,
        found.upper_offset + found.upper[0] * x,
    )


def _interval(lower: float, upper: float) -> Interval:
    ends = torch.tensor([[lower], [upper]], dtype=torch.float64)
    return Interval(ends[0], ends[1])
