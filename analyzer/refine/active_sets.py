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
        self._climb: Climb | None = None
        self._left: list[int] = []

    def reduce(self, problem: Problem, store: FactStore, seconds: float = inf) -> Reduction:
        """Climb with more and more faces, as long as there is time; the next time it goes on."""
        end, bound = time.monotonic() + seconds, problem.unsafe.bound
        if self._rows is None:
            self._rows = torch.full_like(bound, -torch.inf)
        if self._climb is None and self._evidence.size < (1 - NEWS) * self._size:
            self._left = (self._rows[0] <= bound[0]).nonzero().squeeze(1).tolist()
            self._climb = self._begun(problem) if self._left else None
        if self._climb is not None:
            found = self._climb.go(lambda: time.monotonic() > end).to(bound)
            self._rows[0, self._left] = torch.maximum(self._rows[0, self._left], found)
            self._climb = None if self._climb.done else self._climb
        exhausted = self._climb is None
        return Reduction(0.0, self._rows.clone(), problem.nowhere, exhausted=exhausted)

    def _begun(self, problem: Problem) -> "Climb":
        for layer in layers(problem.graph):
            catch_up(self._evidence, layer)
        self._size = self._evidence.size
        known, rows = self._evidence.known, problem.unsafe.rows[0, self._left].double()
        return Climb(LayeredDual(known.graph, known.region, self._evidence.boxes, rows))


class Climb:
    """An ascent in which faces are added where points miss them.

    Guarantee: no bound is below that of the same ascent without faces, nor below an earlier one.
    """

    def __init__(self, dual: LayeredDual) -> None:
        """Begin without faces."""
        most = _MOST_COEFFICIENTS // (_ADDITIONS * max(1, len(dual.rows)))
        every = composed_layers(dual.graph, dual.region, dual.boxes)
        self._composed = [layer for layer in every if layer.weight.numel() <= most]
        self._dual = dual
        self._best = dual.start(load(_START))
        self._bounds = dual.bound(self._best)
        self._phases = 0

    @property
    def done(self) -> bool:
        """Whether all faces were added that ever will be."""
        return self._phases > (_ADDITIONS if self._composed else 0)

    def go(self, out_of_time: Callable[[], bool] = lambda: False) -> Tensor:
        """Climb on; return the rows' bounds."""
        while not self.done and not out_of_time():
            if self._phases:
                self._dual, self._best = _with_faces(self._dual, self._best, self._composed)
            steps = _STEPS if self._phases else _FIRST_STEPS
            self._best, self._bounds = ascend(self._dual, self._best, steps, out_of_time)
            self._phases += 1
        return self._bounds


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
