"""One step of a recurrent network as a map of sets of states."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.fixpoint.loops import AbstractLoop
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.loops.invariant import Invariant, Vector
from absolver.analyzer.loops.recurrence import Recurrence
from absolver.analyzer.multipliers import over_polytope
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.dsl.domain import Domain

# Facets farther out than so many times the start's size are no bound any more.
_FARTHEST = 2.0**20


@dataclass(frozen=True, eq=False)
class Runs:
    """What is asked of a recurrent network: no run may meet a clause of the specification.

    The specification has one set, a box: of the first states, and of the other inputs in each step.
    """

    graph: Graph
    specification: Specification
    recurrence: Recurrence
    domain: Domain
    execution: Execution
    deadline: Deadline

    @property
    def box(self) -> tuple[Vector, Vector]:
        """The bounds of the flat inputs."""
        lower, upper = self.specification.region.bounding_box()
        return _numpy(lower), _numpy(upper)


class Step(AbstractLoop):
    """The bounds of a domain after one step from any state of a set, with any other inputs."""

    def __init__(self, runs: Runs, rows: Float[Vector, "k n"], pieces: int) -> None:
        """Prepare for sets whose facets have these normals beside the axes'.

        Inputs are cut into so many pieces, a power of two, which are bounded by themselves; into
        one where there are such normals.
        """
        assert pieces == 1 or not len(rows), "pieces of polytopes are not cut"
        self._runs, self._rows, self._pieces = runs, rows, pieces
        lower, upper = (end[list(runs.recurrence.states)] for end in runs.box)
        normals = Invariant(lower, upper, rows, np.zeros(len(rows))).normals
        ends = np.maximum(normals, 0) @ upper + np.minimum(normals, 0) @ lower
        # Rounded upwards: what is checked is that the first states are inside, exactly.
        reach = np.abs(normals) @ np.maximum(np.abs(lower), np.abs(upper))
        several = (normals != 0).sum(axis=1) > 1
        self.start = np.where(several, ends + 1e-12 * reach, ends)
        self._normals = normals
        self._far = _FARTHEST * max(1.0, float(reach.max()))
        self._thresholds = _thresholds(runs)
        self.margins = torch.zeros(0)
        """Lower bounds of the specification's rows from the last set whose image was asked for."""

    def invariant(self, facets: Float[Vector, " facets"]) -> Invariant:
        """Return the set with these facets."""
        return Invariant.of(facets, self._rows)

    def image(self, facets: Float[Vector, " facets"]) -> Float[Vector, " facets"]:
        """Bound the facets' forms of the next states by one pass of the domain."""
        self._runs.deadline.check()
        runs, states = self._runs, self._runs.recurrence.states
        found = self.invariant(facets)
        lower, upper = runs.box
        lower[list(states)], upper[list(states)] = found.lower, found.upper
        if (lower > upper).any():
            return np.full(len(facets), np.inf)
        specified = runs.specification.rows[0]
        rows = torch.zeros(len(facets), runs.graph.output.size, dtype=specified.dtype)
        rows[:, list(runs.recurrence.following)] = -torch.from_numpy(self._normals)
        every = torch.cat([rows.to(specified.device), specified]).unsqueeze(0)
        bounds = self._bounds(self._cut(lower, upper), every, found)
        self.margins = bounds[None, len(facets) :]
        return -_numpy(bounds[: len(facets)])

    def _bounds(self, region: Box, rows: Tensor, found: Invariant) -> Float[Tensor, " rows"]:
        """Bound forms of the output: hidden values over the box, the forms over all facets.

        That is what a certificate can say.
        """
        runs, memory_bytes = self._runs, self._runs.execution.memory_bytes
        several = len(found.bound) > 0
        setting = (runs.graph, runs.domain, region, rows)
        passed = propagate(*setting, memory_bytes=memory_bytes, forms=several)
        if not several or passed.forms is None:
            return passed.rows.amin(dim=0)
        matrix = torch.zeros(1, len(found.bound), prod(region.shape), dtype=region.dtype)
        matrix[0, :, list(runs.recurrence.states)] = torch.from_numpy(found.rows)
        matrix = matrix.view(1, -1, *region.shape).to(region.device)
        bound = torch.from_numpy(found.bound)[None].to(region.device, region.dtype)
        cut = over_polytope(passed.forms, Polytope(region, matrix, bound))
        return torch.maximum(passed.rows, cut.rows).amin(dim=0)

    def size(self, facets: Float[Vector, " facets"]) -> Float[Vector, " facets"]:
        """Return the largest value that the terms of each facet's form may add up to."""
        found = self.invariant(facets)
        reach = np.maximum(np.abs(found.lower), np.abs(found.upper))
        sizes: Vector = np.abs(self._normals) @ reach
        return sizes

    def scaled(self, facets: Float[Vector, " facets"], factor: float) -> Float[Vector, " facets"]:
        """Scale around the middle of the box."""
        found = self.invariant(facets)
        middle = self._normals @ ((found.lower + found.upper) / 2)
        larger: Vector = middle + factor * (facets - middle)
        return larger

    def widened(self, facets: Float[Vector, " facets"]) -> Float[Vector, " facets"]:
        """Return the next bound that the property names, or the next power of two."""
        places = np.searchsorted(self._thresholds, facets)
        named = np.append(self._thresholds, np.inf)[places]
        powers = np.exp2(np.ceil(np.log2(np.maximum(np.abs(facets), 1e-6)) + 0.5))
        powers = np.where(facets > 0, powers, np.where(facets > -1e-6, 1e-6, 0.0))
        widened = np.minimum(named, powers)
        return np.where(widened > self._far, np.inf, widened)

    def _cut(self, lower: Vector, upper: Vector) -> Box:
        """Halve the widest input until there are enough pieces."""
        ends = np.stack([lower, upper])[:, None, :]
        while ends.shape[1] < self._pieces:
            width = (ends[1] - ends[0]).max(axis=0)
            widest = int(np.argmax(width))
            if not width[widest] > 0:
                break
            middle = ends[:, :, widest].mean(axis=0)
            first, second = ends.copy(), ends.copy()
            first[1, :, widest] = second[0, :, widest] = middle
            ends = np.concatenate([first, second], axis=1)
        region = self._runs.specification.region
        shape = (-1, *self._runs.graph.input.shape)
        sides = [torch.from_numpy(end.copy()).view(shape) for end in ends]
        return Box(*sides).to(region.device, region.dtype)


def _thresholds(runs: Runs) -> Vector:
    """Return the bounds that constraints on single outputs name, and their opposites."""
    found: list[float] = [0.0]
    for constraint in runs.specification.constraints[0]:
        if len(constraint.terms) == 1:
            ((_, factor),) = constraint.terms
            found += [float(constraint.bound / factor), -float(constraint.bound / factor)]
    return np.unique(found)


def _numpy(values: Tensor) -> Vector:
    result: Vector = values.flatten().double().cpu().numpy().copy()
    return result


def names_of(
    invariant: Invariant, facets: Bool[NDArray[np.bool_], " facets"], inputs: Sequence[str]
) -> str:
    """Name the states that some facets bound, for people."""
    used = (invariant.normals[facets] != 0).any(axis=0).tolist()
    chosen = [name for name, asked in zip(inputs, used, strict=True) if asked]
    rest = f" and {len(chosen) - 3} more" if len(chosen) > 3 else ""
    return ", ".join(chosen[:3]) + rest
