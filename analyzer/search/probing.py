"""Attacks that start where the bounds of open branches are worst."""

import time
from typing import Generic, TypeVar

import torch
from torch import Tensor

from absolver.analyzer.attack import Replay, confirm, descend, polish
from absolver.analyzer.goals import Goals, Step
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.region import Region

Found = TypeVar("Found")

STEPS = 8
SHARE = 0.15
MOST_GOALS = 64


class Prober(Generic[Found]):
    """Tries points that a search proposes, some steps of gradient descent included.

    Descents stay in the whole set, not in the branch: what is near a bad branch counts as well.
    """

    def __init__(
        self, graph: Graph, region: Region, replay: Replay[Found], share: float = SHARE
    ) -> None:
        """Take the network and the sets in the dtype in which the runtime computes.

        Of the time since now, at most the `share` goes into probes.
        """
        self.found: Found | None = None
        self._graph = graph
        self._region = region
        self._replay = replay
        self._share = share
        self._start = time.monotonic()
        self._spent = 0.0

    @property
    def due(self) -> bool:
        """Whether probes have had less than their share of the time."""
        return self._spent <= self._share * (time.monotonic() - self._start)

    def __call__(self, part: Specification, points: Tensor, sets: Tensor) -> bool:
        """Descend from one point of each branch; `sets` are the numbers of the branches' sets."""
        start = time.monotonic()
        device, dtype = self._region.device, self._region.dtype
        goals = Goals.of(part).to(device, dtype)
        if len(goals) > MOST_GOALS:
            goals = goals.select(torch.arange(MOST_GOALS, device=device))
        x = points.to(device, dtype)[goals.box]
        region = self._region.select(sets.to(device)[goals.box])
        best: Step | None = None
        for step in descend(self._graph, region, goals, region.project(x), steps=STEPS, first=0.3):
            best = step if best is None else best.or_better(step)
            self.found = confirm(goals, step, self._replay)
            if self.found is not None:
                return True
        if best is not None:
            self.found = polish(self._graph, region, goals, best, self._replay)
        self._spent += time.monotonic() - start
        return self.found is not None
