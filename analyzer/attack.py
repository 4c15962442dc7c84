"""A quick search for a violation: projected gradient descent on all clauses at once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.goals import NEAR, Goals, Step, evaluate_with_slopes
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.linear_steps import linear_steps, suits
from absolver.analyzer.regions.region import Region

COPIES = 256  # at most so many starts of one clause at once
APART = 0.05  # of the set's width: points that are nearer than this end at the same place
POLISHED = 8  # points of a round's descents from which linear steps go on
REPLAYS = 4  # at most so many points a step go to the runtime, which takes them one by one

Found = TypeVar("Found")
Replay = Callable[[int, Tensor], Found | None]
"""Tries one point `[*shape]` against a clause in the runtime; returns the violation, or None."""


@dataclass(frozen=True)
class Effort:
    """How hard to search: gradient steps, rounds of starts, seconds in all."""

    steps: int = 20
    rounds: int = 4
    seconds: float = 1.0


def attack(
    graph: Graph,
    region: Region,
    goals: Goals,
    replay: Replay[Found],
    *,
    generator: torch.Generator,
    effort: Effort,
) -> Found | None:
    """Search for a point of the region that meets one of the goals, and return what replay makes.

    Steps along the sign of the gradient of the sum of what the constraints are missed by, from the
    centre and from sampled points (Madry et al., "Towards Deep Learning Models Resistant to
    Adversarial Attacks", 2018). A point counts only if `replay` confirms it.
    Guarantee: the same seed tries the same points, as long as time does not end the search.
    """
    deadline = Deadline.after(effort.seconds)
    for round_number in range(effort.rounds):
        for chunk in _chunks(graph, goals):
            part = goals.select(chunk)
            sets = region.select(part.box)
            # Samples are inner points and extreme ones in turn.
            x = sets.sample(2, generator)[:, round_number % 2]
            if round_number == 0:
                x[: len(goals)] = _center(sets)[: len(goals)]
            # A whole half-width reaches the corners at once; a half of it serves inner minima.
            first = 1.0 if round_number % 2 == 0 else 0.5
            best: Step | None = None
            for step in descend(graph, sets, part, x, steps=effort.steps, first=first):
                found = confirm(part, step, replay)
                if found is not None or deadline.remaining == 0:
                    return found
                best = step if best is None else best.or_better(step)
            found = None if best is None else polish(graph, sets, part, best, replay)
            if found is not None or deadline.remaining == 0:
                return found
    return None


def polish(
    graph: Graph, sets: Region, goals: Goals, step: Step, replay: Replay[Found]
) -> Found | None:
    """Go on by linear steps from the best points of a descent, and from none that is near others.

    Near is also where linear steps from a better point have ended.
    """
    if not suits(goals, sets):
        return None
    lower, upper = sets.bounding_box()
    reach = (APART * (upper - lower)).flatten(1)
    known: list[tuple[int, Tensor]] = []
    for index in torch.split(step.missed.argsort(), 1):
        x, box = step.x[index], int(goals.box[index])
        far = [
            ((x - other).flatten(1).abs() > reach[index]).any() for b, other in known if b == box
        ]
        if not all(far):
            continue
        known.append((box, x))
        one, goal = sets.select(index), goals.select(index)
        for better in linear_steps(graph, one, goal, x):
            x = better.x
            found = confirm(goal, better, replay)
            if found is not None:
                return found
        known.append((box, x))
        if len(known) >= 2 * POLISHED:
            return None
    return None


def descend(
    graph: Graph,
    sets: Region,
    goals: Goals,
    x: Float[Tensor, "clauses *shape"],
    *,
    steps: int,
    first: float,
) -> Iterator[Step]:
    """Come nearer to each goal from a start, one step at a time.

    Step lengths fall from `first`, in units of half the region's width, to a fiftieth of it.
    """
    lower, upper = sets.bounding_box()
    half = torch.nan_to_num((upper - lower) / 2, nan=1.0, posinf=1.0)
    hit = torch.zeros_like(goals.box, dtype=torch.bool)
    for step in range(steps + 1):
        last = step == steps
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            excess = goals.excess(evaluate_with_slopes(graph, x).reshape(len(x), -1))
            total = excess.clamp(min=0).sum()
            gradient = x if last else torch.autograd.grad(total, x)[0]
        x = x.detach()
        missed = excess.detach().amax(dim=1)
        # The runtime rounds differently, so near misses count; a clause is tried when it first
        # comes near, and once more where its descent ends.
        near = missed <= NEAR
        yield Step(x, missed, near & (~hit | last))
        hit |= near
        length = first * 50.0 ** (-step / max(steps - 1, 1))
        x = sets.project(x - length * half * torch.nan_to_num(gradient).sign())


def confirm(goals: Goals, step: Step, replay: Replay[Found]) -> Found | None:
    """Let the runtime try the best of the points that are worth it, of each clause one first.

    A clause that no point of its set meets, as half-spaces leave none, would take all tries.
    """
    order = torch.where(step.promising, step.missed, torch.inf).argsort()
    order = order[: int(step.promising.sum())]
    _, first = np.unique(goals.clause[order].numpy(force=True), return_index=True)
    later = torch.ones_like(order).index_fill(0, torch.from_numpy(first).to(order.device), 0)
    for index in order[later.argsort(stable=True)][:REPLAYS].tolist():
        found = replay(int(goals.clause[index]), step.x[index])
        if found is not None:
            return found
    return None


def _center(sets: Region) -> Float[Tensor, "clauses *shape"]:
    lower, upper = sets.bounding_box()
    center = torch.nan_to_num((lower + upper) / 2, nan=0.0, posinf=0.0, neginf=0.0)
    return sets.project(center)


def _chunks(graph: Graph, goals: Goals) -> Iterator[Tensor]:
    """Split the clauses into batches of a size that torch works well at.

    One batch of activations stays near 64 MB, and near 4096 points. A clause is repeated where
    there are few of them and points cost little, to start from several places at once.
    """
    floats = max(1, graph.size)
    copies = min(COPIES, 2**18 // (floats * len(goals)))
    index = torch.arange(len(goals), device=goals.box.device).repeat(max(1, copies))
    yield from torch.split(index, max(1, min(4096, 2**24 // floats)))
