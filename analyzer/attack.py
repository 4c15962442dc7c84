"""A quick search for a violation: projected gradient descent on all clauses at once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.graph.graph import Graph, Nonlinear, evaluate
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.region import Region
from absolver.dsl.operators.record import Operator

NEAR = 1e-4  # relative to the row's norm: ten times what float32 runtimes differ by
HUGE = 1e30  # in place of an infinite value: many of them still have a sum
COPIES = 256  # at most so many starts of one clause at once
REPLAYS = 4  # at most so many points a step go to the runtime, which takes them one by one

Found = TypeVar("Found")
Replay = Callable[[int, Tensor], Found | None]
"""Tries one point `[*shape]` against a clause in the runtime; returns the violation, or None."""


@dataclass(frozen=True, eq=False)
class Goals:
    """Clauses to meet, as `rows · output <= bounds` for every one of a clause's rows.

    A clause with fewer rows than others is padded by zero rows with the bound `inf`, which every
    output meets. `box` says in which element of the region the clause's inputs lie, `clause` is
    its number in the property.
    """

    clause: Int[Tensor, "clauses"]
    box: Int[Tensor, "clauses"]
    rows: Float[Tensor, "clauses constraints outputs"]
    bounds: Float[Tensor, "clauses constraints"]

    @classmethod
    def of(
        cls, specification: Specification, wanted: Bool[Tensor, "sets clauses"] | None = None
    ) -> "Goals":
        """Return the clauses of a specification, or those wanted, a region's set by its number."""
        present = specification.clause >= 0
        box, column = (present if wanted is None else present & wanted).nonzero(as_tuple=True)
        member = specification.member[box, column]
        count = max(1, int(member.sum(dim=1).amax())) if len(box) else 1
        # A stable sort brings the rows of each clause to the front.
        row = member.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count]
        used = member.gather(1, row)
        rows = specification.rows[box.unsqueeze(1), row]
        bounds = specification.bound[box.unsqueeze(1), row]
        return cls(
            clause=specification.clause[box, column],
            box=box,
            rows=torch.where(used.unsqueeze(2), rows, 0.0),
            bounds=torch.where(used, bounds, torch.inf),
        )

    def __len__(self) -> int:
        """Return the number of clauses."""
        return len(self.box)

    def select(self, index: Int[Tensor, "some"]) -> "Goals":
        """Return some of the clauses."""
        return Goals(self.clause[index], self.box[index], self.rows[index], self.bounds[index])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Goals":
        """Return the clauses on a device and in a dtype."""
        return Goals(
            self.clause.to(device),
            self.box.to(device),
            self.rows.to(device, dtype),
            self.bounds.to(device, dtype),
        )

    def excess(
        self, outputs: Float[Tensor, "clauses outputs"]
    ) -> Float[Tensor, "clauses constraints"]:
        """Say by how much each constraint is missed, in units of its row's norm."""
        missed = (self.rows @ outputs.unsqueeze(2)).squeeze(2) - self.bounds
        norm = self.rows.norm(dim=2)
        return missed / torch.where(norm > 0, norm, 1.0)


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
            for step in descend(graph, sets, part, x, steps=effort.steps, first=first):
                found = _confirm(part, step, replay)
                if found is not None or deadline.remaining == 0:
                    return found
    return None


@dataclass(frozen=True, eq=False)
class Step:
    """Where the descent of each clause stands, and whether it is worth a run of the network.

    `missed` is what the worst of the clause's constraints is missed by.
    """

    x: Float[Tensor, "clauses *shape"]
    missed: Float[Tensor, "clauses"]
    promising: Bool[Tensor, "clauses"]


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
            excess = goals.excess(_evaluate(graph, x).reshape(len(x), -1))
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


def _evaluate(graph: Graph, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *outputs"]:
    """Evaluate the network, with gradients that lead somewhere.

    A derivative that vanishes or overflows, as those of a saturated softmax do, is held at a size.
    That of a step, which is zero, is replaced by its operand's where that is not far from the
    steps (the straight-through estimator of Bengio, Leonard and Courville, 2013).
    """
    values: dict[str, Tensor] = {graph.input.name: x}
    for node in graph.nodes[1:]:
        value = evaluate(node, values)
        if isinstance(node, Nonlinear) and len(node.inputs) == 1:
            operand = values[node.inputs[0]]
            slope = _usable_slope(node.operator, operand.detach())
            if slope is not None:
                finite = torch.nan_to_num(value.detach(), posinf=HUGE, neginf=-HUGE)
                value = finite + slope * (operand - operand.detach())
        values[node.name] = value
    return values[graph.output.name]


def _usable_slope(operator: Operator, point: Tensor) -> Tensor | None:
    """Return what to use in place of a derivative, or None where it may stay as it is."""
    if operator.piecewise_linear:
        return None
    (slope,) = operator.gradient([point])
    if operator.smooth:
        return torch.copysign(torch.nan_to_num(slope).abs().clamp(1e-4, 1e4), slope)
    size = point.abs()
    return torch.where(size <= 2 * size.mean(), 1.0, slope) if bool((slope == 0).all()) else None


def _confirm(goals: Goals, step: Step, replay: Replay[Found]) -> Found | None:
    order = torch.where(step.promising, step.missed, torch.inf).argsort()
    for index in order[: min(int(step.promising.sum()), REPLAYS)].tolist():
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
    floats = max(1, sum(prod(node.shape) for node in graph.nodes))
    copies = min(COPIES, 2**18 // (floats * len(goals)))
    index = torch.arange(len(goals), device=goals.box.device).repeat(max(1, copies))
    yield from torch.split(index, max(1, min(4096, 2**24 // floats)))
