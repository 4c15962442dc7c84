"""Certified accuracy against radius, as a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from absolver.analyzer.smoothing.summary import Curve


def certified_figure(curves: "Sequence[Curve]", *, accuracy: bool) -> Figure:
    """Draw each curve as the steps that it is; `accuracy` says that true labels are known."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        radii, shares = zip(*curve.steps(), strict=True)
        ends = [0.0, *radii, radii[-1]], [shares[0], *shares, 0.0]  # nothing beyond the last one
        axes.step(*ends, where="pre", label=curve.domain)
    norms = ", ".join(dict.fromkeys(curve.norm for curve in curves))
    axes.set_xlabel(f"radius in norm {norms}")
    axes.set_ylabel("certified accuracy" if accuracy else "share of inputs certified")
    axes.set_ylim(0, 1)
    axes.legend()
    return figure
