"""Dual ascents of whole layers at once: proposers of multipliers for neurons, and for rows."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor

from absolver.analyzer.fixpoint.reducers import Problem, Reducer, Reduction
from absolver.analyzer.fixpoint.store import FactStore
from absolver.analyzer.programs.duals import Duals, Place
from absolver.analyzer.refine.evidence import Evidence
from absolver.analyzer.refine.lagrangian import LayeredDual, ascend
from absolver.analyzer.refine.layers import Layer, chosen, layers
from absolver.analyzer.refine.neurons import NEWS
from absolver.analyzer.refine.passes import Slopes, catch_up, learn_all, row_of, sides
from absolver.domains import load

_STEPS = 40
# So many rows climb at once: their coefficients stay in a CPU's cache.
_CHUNK = 64
_START = "crown"


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Some neurons of a layer, or all rows where there is no layer."""

    layer: Layer | None
    places: list[Place]


class AscentReducer(Reducer):
    """Lagrangian decomposition, or D-LP, of chosen neurons and then of the rows that are open.

    What it finds is turned into slopes, whose evaluation is the fact.
    """

    def __init__(self, evidence: Evidence, *, copies: bool = False) -> None:
        """Take where facts come from and go to, and whether results have copies (D-LP)."""
        self.name = "d-lp" if copies else "decomposition"
        self._evidence, self._copies = evidence, copies
        self._sweep: Iterator[_Chunk] | None = None
        self._rows: Tensor | None = None
        self._size = inf

    def reduce(self, problem: Problem, store: FactStore, seconds: float = inf) -> Reduction:
        """Climb for as many neurons as there is time for; the last ones climb less far."""
        end, touched = time.monotonic() + seconds, set[str]()
        if self._rows is None:
            self._rows = torch.full_like(problem.unsafe.bound, -torch.inf)
        if self._sweep is None and self._evidence.size < (1 - NEWS) * self._size:
            self._sweep = self._chunks()
        while self._sweep is not None and time.monotonic() < end:
            chunk = next(self._sweep, None)
            if chunk is None:
                self._sweep, self._size = None, self._evidence.size
            elif chunk.layer is None:
                self._rows = torch.maximum(self._rows, self._bound_rows(problem, self._rows, end))
            elif self._bound_neurons(chunk.layer, chunk.places, end):
                touched.add(chunk.layer.name)
        boxes = self._evidence.boxes
        gains = [float(store.add(problem.assumptions, n, boxes[n])) for n in sorted(touched)]
        gain = max(gains, default=0.0)
        exhausted = self._sweep is None
        return Reduction(gain, self._rows.clone(), problem.nowhere, exhausted=exhausted)

    def _chunks(self) -> Iterator[_Chunk]:
        for layer in layers(self._evidence.known.graph):
            catch_up(self._evidence, layer)
            places = chosen(layer, self._evidence)
            for first in range(0, len(places), _CHUNK // 2):
                yield _Chunk(layer, places[first : first + _CHUNK // 2])
        yield _Chunk(None, [])

    def _bound_neurons(self, layer: Layer, places: list[Place], end: float) -> bool:
        """Bound both sides of some neurons; say whether that was news."""
        dual = sides(self._evidence, layer, places, copies=self._copies)
        return learn_all(self._evidence, layer, places, _climbed(dual, end))

    def _bound_rows(self, problem: Problem, known: Tensor, end: float) -> Tensor:
        """Bound the rows that are not above their bounds, and propose what has done so."""
        evidence = self._evidence
        graph, region = evidence.known.graph, evidence.known.region
        left = (known[0] <= problem.unsafe.bound[0]).nonzero().squeeze(1)
        found = known.clone()
        if len(left):
            rows = problem.unsafe.rows[0, left].double()
            dual = LayeredDual(graph, region, evidence.boxes, rows, self._copies)
            bounds, slopes = _climbed(dual, end)
            for number, row in enumerate(left.tolist()):
                if bounds[number] > found[0, row]:
                    evidence.proposals[row] = Duals(row_of(slopes, number), {}, np.ones(1))
            found[0, left] = torch.maximum(found[0, left], bounds.to(found))
        return found


def _climbed(dual: LayeredDual, end: float) -> tuple[Tensor, Slopes]:
    """Return bounds of a dual's rows, and the slopes that multipliers come to."""
    start = dual.start(load(_START))
    best, bounds = ascend(dual, start, _STEPS, lambda: time.monotonic() > end)
    return bounds, dual.slopes(best)
