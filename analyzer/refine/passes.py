"""What a domain's lines make of facts: one substitution of a layer's neurons, kept as evidence."""

from collections.abc import Mapping

import numpy as np
import torch

from absolver.analyzer.engines.prover import Guide
from absolver.analyzer.programs.duals import Duals, Place
from absolver.analyzer.programs.program import Array
from absolver.analyzer.refine.evidence import Evidence, Found
from absolver.analyzer.refine.lagrangian import LayeredDual
from absolver.analyzer.refine.layers import Layer, chosen

Slopes = Mapping[str, tuple[torch.Tensor, ...]]
# What a bound of a neuron has to gain to be kept, as a share of the interval.
WORTH = 1e-2


def catch_up(evidence: Evidence, layer: Layer) -> None:
    """Substitute a layer's undecided neurons back, where bounds before it were tightened.

    The domain's own pass, with facts met in, finds the same; but this a certificate can be shown.
    """
    names = {node.name for node in layer.part.nodes} - {layer.name}
    if any(
        lemma.place[0] in names for lemma in evidence.lemmas[evidence.seen.get(layer.name, 0) :]
    ):
        places = chosen(layer, evidence)
        dual = sides(evidence, layer, places)
        start = dual.start(evidence.known.root.lines)
        learn_all(evidence, layer, places, (dual.bound(start), dual.slopes(start)))
    evidence.seen[layer.name] = len(evidence.lemmas)


def sides(
    evidence: Evidence, layer: Layer, places: list[Place], *, copies: bool = False
) -> LayeredDual:
    """Pose both sides of some neurons: all neurons, and then their negations."""
    part, count = layer.part, len(places)
    rows = torch.zeros(2 * count, part.output.size, dtype=torch.float64)
    elements = torch.tensor([element for _, element in places], dtype=torch.long)
    rows[torch.arange(count), elements] = 1
    rows[torch.arange(count) + count, elements] = -1
    return LayeredDual(part, evidence.known.region, evidence.before(part), rows, copies)


def learn_all(
    evidence: Evidence,
    layer: Layer,
    places: list[Place],
    found: tuple[torch.Tensor, Slopes],
) -> bool:
    """Keep what slopes prove of both sides of neurons; say whether that was news."""
    bounds, slopes = found
    news = False
    for number, bound in enumerate(bounds.tolist()):
        place, sign = places[number % len(places)], 1 if number < len(places) else -1
        low, up = evidence.interval(place)
        known = low if sign > 0 else -up
        if bound > known + WORTH * (up - low):
            duals = Duals(row_of(slopes, number), {}, np.ones(1))
            refuted = evidence.prove(layer.part, place, sign, Found({}, duals))
            news |= evidence.learn(place, sign, refuted.value, Guide(duals=refuted.duals))
    return news


def row_of(slopes: Slopes, row: int) -> dict[str, tuple[Array, ...]]:
    """Return the slopes of one row, flat."""
    return {
        name: tuple(side[row if len(side) > 1 else 0].flatten().numpy() for side in parts)
        for name, parts in slopes.items()
    }
