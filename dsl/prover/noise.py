"""What a domain of noise owes: at no probability a radius that a classifier could refute.

Neyman and Pearson's worst case is found by numbers, on a grid over the noise's density: a set of
its cells is a classifier, so that where the worst one loses the label, the radius is refuted. The
radius is also compared with the exact one in closed form, of which a test says that it is where
that worst case is 1/2. Neither is a proof between the values that are tried; what is used is cut
off at the exact radius, whatever a domain says.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from absolver.dsl.prover.cache import keep, kept
from absolver.dsl.prover.obligations import (
    Answer,
    Obligation,
    Outcome,
    Point,
    decided,
    proved,
    refuted,
)
from absolver.dsl.smoothing.checker import NoiseDomain
from absolver.dsl.smoothing.radius import Evidence, limits, written_radii
from absolver.dsl.smoothing.slab import steepest
from absolver.dsl.smoothing.worst import Setting, outcomes, worst_case

_CONTINUOUS = (Setting(0.25, 784), Setting(1.0, 1))
_ABLATION = (Setting(45, 784), Setting(2, 12))
_SHARES = (1.0, 0.5)
"""Bounds of the gradient, as shares of the largest that the probability admits."""
TRIED, WORST_CASES = 401, 24
"""How many values of `p_lower` there are, and for how many the worst case is sought."""
# Relative, of radii: the quantile's and logarithms' rounding, with a wide margin.
TOLERANCE = 1e-9


def prove_noise(load: Callable[[], NoiseDomain], text: str) -> list[Outcome]:
    """Try what a domain of noise owes, or return what was found of its text before."""
    found = kept("noise", text)
    if found is None:
        found = [decided(owed) for owed in obligations(load())]
        keep(found, "noise", text)
    return found


def obligations(domain: NoiseDomain) -> Iterator[Obligation]:
    """All that a domain of noise owes."""
    settings = _ABLATION if domain.kind.name == "ablation" else _CONTINUOUS
    for setting in settings:
        place = f"{domain.parameter} = {setting.parameter:g}, dimension {setting.dimension}"
        amounts = _amounts(domain)
        for share in _SHARES if domain.first_order else (1.0,):
            steep = f", a gradient of {share:g} of the steepest" if share < 1 else ""
            yield Obligation(
                domain.name,
                f"{place}{steep}: the radius is at most the exact one, for {len(amounts)} values",
                partial(_below_exact, domain, setting, share),
            )
        if not domain.kind.counted:
            yield Obligation(
                domain.name,
                f"{place}: the worst case keeps the label, for {WORST_CASES} values",
                partial(_keeps_label, domain, setting),
            )


def _amounts(domain: NoiseDomain) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Values of `p_lower` above 1/2, dense near 1, or of `lead`."""
    if domain.kind.counted:
        return np.arange(TRIED, dtype=np.float64)
    near = 1 - np.logspace(-12, -2, TRIED // 2)
    values = np.sort(np.append(np.linspace(0.5, 0.99, TRIED - len(near) + 1)[1:], near))
    return values[::5] if domain.first_order else values  # each slab is a search of its own


def _below_exact(domain: NoiseDomain, setting: Setting, share: float) -> Answer:
    amounts = _amounts(domain)
    evidence = Evidence(setting, amounts, None if share == 1 else share * steepest(amounts))
    written, exact = written_radii(domain, evidence), limits(domain, evidence)
    for amount, radius, limit in zip(amounts, written, exact, strict=True):
        if not np.isnan(radius) and radius > limit + TOLERANCE * (abs(limit) + setting.parameter):
            at = "lead" if domain.kind.counted else "p_lower"
            point = Point({at: float(amount)}, float(radius), float(limit))
            detail = f"line {domain.span.line}: the radius is above the exact one"
            return refuted(detail, point)
    return proved("compared with the exact radius in closed form")


def _keeps_label(domain: NoiseDomain, setting: Setting) -> Answer:
    amounts = _amounts(domain)
    # Nearer to 1, the likelihood ratio of the last cell magnifies what p_lower is rounded by.
    amounts = amounts[amounts < 1 - 1e-6]
    amounts = amounts[np.linspace(0, len(amounts) - 1, WORST_CASES).astype(int)]
    written = written_radii(domain, Evidence(setting, amounts))
    for amount, radius in zip(amounts, written, strict=True):
        if not radius > 0:
            continue
        moved = radius if domain.norm == "0" else radius * (1 - TOLERANCE)
        kind, norm = domain.kind.name, domain.norm
        left = worst_case(*outcomes(kind, norm, setting, float(moved)), float(amount))
        if not left >= 0.5 - 10 * TOLERANCE:
            point = Point({"p_lower": float(amount), "radius": float(radius)}, 0.5, left)
            detail = f"line {domain.span.line}: a classifier's label falls below 1/2 within it"
            return refuted(detail, point)
    return proved("by likelihood ratios on a grid")
