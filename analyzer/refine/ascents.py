"""Dual ascents of whole layers at once: proposers of multipliers for neurons, and for rows."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf, prod

import numpy as np
import torch
from torch import Tensor

from absolver.analyzer.engines.prover import Guide
from absolver.analyzer.fixpoint.reducers import Problem, Reducer, Reduction
from absolver.analyzer.fixpoint.store import FactStore
from absolver.analyzer.programs.duals import Duals, Place
from absolver.analyzer.refine.evidence import Evidence, Found
from absolver.analyzer.refine.lagrangian import LayeredDual, ascend
from absolver.analyzer.refine.neurons import NEWS, Layer, chosen, layers
from absolver.domains import load

_STEPS = 40
# So many rows climb at once: their coefficients stay in a CPU's cache.
_CHUNK = 64
# What a bound of a neuron has to gain to be kept, as a share of the interval.
_WORTH = 1e-2
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
        """Climb for as many neurons as there is time for; the last ones keep the time they need."""
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
                self._rows = torch.maximum(self._rows, self._bound_rows(problem, self._rows))
            elif self._bound_neurons(chunk.layer, chunk.places):
                touched.add(chunk.layer.name)
        boxes = self._evidence.boxes
        gains = [float(store.add(problem.assumptions, n, boxes[n])) for n in sorted(touched)]
        gain = max(gains, default=0.0)
        exhausted = self._sweep is None
        return Reduction(gain, self._rows.clone(), problem.nowhere, exhausted=exhausted)

    def _chunks(self) -> Iterator[_Chunk]:
        for layer in layers(self._evidence.known.graph):
            places = chosen(layer, self._evidence)
            for first in range(0, len(places), _CHUNK // 2):
                yield _Chunk(layer, places[first : first + _CHUNK // 2])
        yield _Chunk(None, [])

    def _bound_neurons(self, layer: Layer, places: list[Place]) -> bool:
        """Bound both sides of some neurons; say whether that was news."""
        evidence, part, count = self._evidence, layer.part, len(places)
        rows = torch.zeros(2 * count, prod(part.output.shape), dtype=torch.float64)
        elements = torch.tensor([element for _, element in places])
        rows[torch.arange(count), elements] = 1
        rows[torch.arange(count) + count, elements] = -1
        dual = LayeredDual(part, evidence.known.region, evidence.before(part), rows, self._copies)
        bounds, slopes = _climbed(dual)
        news = False
        for number, bound in enumerate(bounds.tolist()):
            place, sign = places[number % count], 1 if number < count else -1
            low, up = evidence.interval(place)
            known = low if sign > 0 else -up
            if bound > known + _WORTH * (up - low):
                found = Found({}, Duals(_of_row(slopes, number), {}, np.ones(1)))
                refuted = evidence.prove(part, place, sign, found)
                guide = Guide(duals=refuted.duals)
                news |= evidence.learn(place, sign, refuted.value, guide)
        return news

    def _bound_rows(self, problem: Problem, known: Tensor) -> Tensor:
        """Bound the rows that are not above their bounds, and propose what has done so."""
        evidence = self._evidence
        graph, region = evidence.known.graph, evidence.known.region
        left = (known[0] <= problem.unsafe.bound[0]).nonzero().squeeze(1)
        found = known.clone()
        if len(left):
            rows = problem.unsafe.rows[0, left].double()
            dual = LayeredDual(graph, region, evidence.boxes, rows, self._copies)
            bounds, slopes = _climbed(dual)
            for number, row in enumerate(left.tolist()):
                if bounds[number] > found[0, row]:
                    evidence.proposals[row] = Duals(_of_row(slopes, number), {}, np.ones(1))
            found[0, left] = torch.maximum(found[0, left], bounds.to(found))
        return found


def _climbed(dual: LayeredDual) -> tuple[Tensor, Mapping[str, tuple[Tensor, ...]]]:
    """Return bounds of a dual's rows, and the slopes that multipliers come to."""
    best, bounds = ascend(dual, dual.start(load(_START)), _STEPS)
    return bounds, dual.slopes(best)


def _of_row(
    slopes: Mapping[str, tuple[Tensor, ...]], row: int
) -> Mapping[str, tuple[np.ndarray, ...]]:
    """Return the slopes of one row, flat."""
    return {
        name: tuple(side[row if len(side) > 1 else 0].flatten().numpy() for side in sides)
        for name, sides in slopes.items()
    }
