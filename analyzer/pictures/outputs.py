"""Two outputs of a network over a box: what a domain knows of them, and what they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.regions.box import Box
from absolver.dsl.domain import Domain

DIRECTIONS = 64  # of half-planes: a circle is drawn to a thousandth of its radius
SAMPLES = 20_000
COLOURS: Sequence[str] = ("#1f6fb4", "#c8501e", "#2e8b57", "#7b4fa3", "#b8860b", "#555555")


@dataclass(frozen=True)
class OutputSet:
    """The convex polygon that a domain's bounds leave for two outputs.

    Guarantee: it contains the two outputs of every input of the box, over the reals, up to the
    rounding of the bounds.
    """

    domain: str
    corners: Float[Tensor, "corners 2"]

    @property
    def area(self) -> float:
        """The area of the polygon."""
        x, y = self.corners.T
        return 0.5 * abs(float((x * y.roll(-1) - y * x.roll(-1)).sum()))


def output_set(graph: Graph, domain: Domain, box: Box, outputs: tuple[int, int]) -> OutputSet:
    """Bound two outputs in many directions, and meet the half-planes."""
    angles = torch.arange(DIRECTIONS, dtype=torch.float64) * (2 * pi / DIRECTIONS)
    normals = torch.stack([angles.cos(), angles.sin()], 1)
    rows = torch.zeros(1, DIRECTIONS, graph.output.size, dtype=torch.float64)
    rows[0][:, list(outputs)] = normals
    with torch.no_grad():
        least = propagate(graph, domain, box, rows).rows[0]
    return OutputSet(domain.name, polygon(normals, least))


def polygon(normals: Float[Tensor, "rows 2"], least: Float[Tensor, " rows"]) -> Tensor:
    """Meet the half-planes `normal · y >= least`; their corners in order around the set."""
    # Larger than all of them together, where a few have no bound.
    size = 2 * least[least.isfinite()].abs().amax().item() + 1
    corners = size * torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)
    for normal, bound in zip(normals, least, strict=True):
        if bound.isfinite():
            corners = _cut(corners, normal, bound)
    return corners


def samples(graph: Graph, box: Box, outputs: tuple[int, int]) -> Float[Tensor, "samples 2"]:
    """Run the network on points of the box, half of them corners."""
    generator = torch.Generator().manual_seed(0)
    points = box.sample(SAMPLES, generator)[0]
    with torch.no_grad():
        return graph(points).flatten(1)[:, list(outputs)]


def draw(title: str, sets: Sequence[OutputSet], points: Tensor, outputs: tuple[int, int]) -> Figure:
    """Draw the polygons of several domains around the points that were sampled."""
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    figure.suptitle(title, fontweight="bold")
    axes = figure.add_subplot()
    # The largest first, so that none hides another.
    for index, each in sorted(enumerate(sets), key=lambda entry: -entry[1].area):
        colour = COLOURS[index % len(COLOURS)]
        x, y = torch.cat([each.corners, each.corners[:1]]).T
        axes.fill(x, y, color=colour, alpha=0.1, linewidth=0)
        axes.plot(x, y, color=colour, linewidth=1.8, label=f"{each.domain}, area {each.area:.3g}")
    x, y = points.T
    axes.plot(x, y, ".", markersize=1.2, color="#1d1d1f", alpha=0.5, rasterized=True, label="runs")
    axes.set_xlabel(f"output {outputs[0]}")
    axes.set_ylabel(f"output {outputs[1]}")
    axes.grid(visible=True, alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="best", fontsize="small", markerscale=8)
    return figure


def _cut(corners: Tensor, normal: Tensor, bound: Tensor) -> Tensor:
    """Keep the part of a convex polygon with `normal · y >= bound` (Sutherland, Hodgman 1974)."""
    heights = corners @ normal - bound
    kept: list[Tensor] = []
    for i, corner in enumerate(corners):
        before, height = heights[i - 1], heights[i]
        if (before >= 0) != (height >= 0):
            kept.append(corners[i - 1] + (corner - corners[i - 1]) * (before / (before - height)))
        if height >= 0:
            kept.append(corner)
    return torch.stack(kept) if kept else corners[:0]
