"""Active sets: a dual ascent in which faces of ReLUs over all that feeds them take part.

De Palma et al., "Scaling the Convex Barrier with Active Sets", ICLR 2021: of exponentially many
faces only those have multipliers that the point at which the bound is taken misses by most; more
are added from time to time.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

import torch
from torch import Tensor

from absolver.analyzer.fixpoint.reducers import Problem, Reducer, Reduction
from absolver.analyzer.fixpoint.store import FactStore
from absolver.analyzer.programs.composed import Composed, composed_layers
from absolver.analyzer.refine.evidence import Evidence
from absolver.analyzer.refine.lagrangian import (
    FACES,
    FaceSets,
    LayeredDual,
    Multipliers,
    ascend,
)
from absolver.analyzer.refine.layers import layers
from absolver.analyzer.refine.neurons import NEWS
from absolver.analyzer.refine.passes import catch_up
from absolver.domains import load

# Steps before faces are added, and between two additions; how often there are some.
_FIRST_STEPS, _STEPS, _ADDITIONS = 40, 25, 6
_START = "crown"
# Of all faces of a layer together: layers with more have none.
_MOST_COEFFICIENTS = 1 << 25


class ActiveSetReducer(Reducer):
    """The ascent for the rows that are open. Certificates have no place for such faces."""

    name = "active sets"

    def __init__(self, evidence: Evidence) -> None:
        """Take where facts come from."""
        self._evidence = evidence
        self._size = inf
        self._rows: Tensor | None = None

    def reduce(self, problem: Problem, store: FactStore, seconds: float = inf) -> Reduction:
        """Climb with more and more faces, as long as there is time."""
        end, bound = time.monotonic() + seconds, problem.unsafe.bound
        if self._rows is None:
            self._rows = torch.full_like(bound, -torch.inf)
        left = (self._rows[0] <= bound[0]).nonzero().squeeze(1)
        if len(left) and self._evidence.size < (1 - NEWS) * self._size:
            for layer in layers(problem.graph):
                catch_up(self._evidence, layer)
            self._size = self._evidence.size
            dual = LayeredDual(
                self._evidence.known.graph,
                self._evidence.known.region,
                self._evidence.boxes,
                problem.unsafe.rows[0, left].double(),
            )
            found = climbed(dual, lambda: time.monotonic() > end)
            self._rows[0, left] = torch.maximum(self._rows[0, left], found.to(bound))
        return Reduction(0.0, self._rows.clone(), problem.nowhere, exhausted=True)


def climbed(dual: LayeredDual, out_of_time: Callable[[], bool] = lambda: False) -> Tensor:
    """Return bounds of a dual's rows, climbing with faces that are added where points miss them.

    Guarantee: none is below that of the same ascent without faces.
    """
    most = _MOST_COEFFICIENTS // (_ADDITIONS * max(1, len(dual.rows)))
    every = composed_layers(dual.graph, dual.region, dual.boxes)
    composed = [layer for layer in every if layer.weight.numel() <= most]
    best, bounds = ascend(dual, dual.start(load(_START)), _FIRST_STEPS, out_of_time)
    for _ in range(_ADDITIONS if composed else 0):
        if out_of_time():
            break
        dual, start = _with_faces(dual, best, composed)
        best, bounds = ascend(dual, start, _STEPS, out_of_time)
    return bounds


def _with_faces(
    dual: LayeredDual, multipliers: Multipliers, composed: Sequence[Composed]
) -> tuple[LayeredDual, Multipliers]:
    """Add, for each ReLU and row, the face that the row's point misses by most."""
    values = _values(dual, multipliers, composed)
    known = {sets.layer.node.name: sets.normals for sets in dual.faces}
    start, faces = dict(multipliers), []
    for layer in composed:
        name = layer.node.name
        x = torch.cat([values[source].flatten(1) for source, _ in layer.sources], 1)
        y = values[name].flatten(1)[:, layer.elements]
        pairs = zip(x, y, strict=True)
        fresh = torch.stack([layer.deepest(*pair)[0] for pair in pairs]).unsqueeze(2)
        zero = fresh.new_zeros(fresh.shape[:3])
        if name in known:
            fresh = torch.cat([known[name], fresh], 2)
            zero = torch.cat([multipliers[name, FACES], zero], 2)
        start[name, FACES] = zero
        faces.append(FaceSets(layer, fresh))
    return replace(dual, faces=tuple(faces)), start


def _values(
    dual: LayeredDual, multipliers: Multipliers, composed: Sequence[Composed]
) -> dict[str, Tensor]:
    """Return nodes' values at the points where the rows' bounds are taken."""
    names = {layer.node.name for layer in composed}
    names |= {source for layer in composed for source, _ in layer.sources}
    shapes = {name: dual.graph.by_name[name].shape for name in sorted(names)}
    rows = len(dual.rows)
    with torch.enable_grad():
        probes = {
            name: dual.rows.new_zeros(rows, *shape, requires_grad=True)
            for name, shape in shapes.items()
        }
        total = dual.bound(multipliers, probes)
        found = torch.autograd.grad(total.sum(), list(probes.values()), allow_unused=True)
    return {
        name: torch.zeros_like(probe) if value is None else value
        for (name, probe), value in zip(probes.items(), found, strict=True)
    }
