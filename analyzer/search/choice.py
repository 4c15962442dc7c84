"""Which operand of which operator to split: scores that cost nothing, and a look ahead."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Graph, Nonlinear
from absolver.analyzer.search.ascent import Dual
from absolver.analyzer.search.lagrangian import Lagrangian
from absolver.analyzer.search.relaxed import Relaxed
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval

_EACH = 3
"""How many candidates each score names."""


@dataclass(frozen=True, eq=False)
class Splittable:
    """The tensors whose neurons can be split: operands of operators as they are."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    users: Mapping[str, tuple[Nonlinear, ...]]

    @classmethod
    def of(cls, graph: Graph, boxes: Mapping[str, Interval]) -> Self:
        """Find the operands of a graph's operators, bounded by boxes `[sets, *shape]`."""
        users: dict[str, list[Nonlinear]] = {}
        for node in graph.joined.nodes:
            if isinstance(node, Nonlinear):
                for name in dict.fromkeys(node.inputs):
                    users.setdefault(name, []).append(node)
        return cls(
            tuple(users),
            tuple(boxes[name].lower.shape[1:] for name in users),
            {name: tuple(nodes) for name, nodes in users.items()},
        )


@dataclass(frozen=True, eq=False)
class Candidates:
    """Splits to choose from, some for each branch; a score below 0 is none: nothing is inexact."""

    of: Int[Tensor, "branches candidates"]
    element: Int[Tensor, "branches candidates"]
    threshold: Float[Tensor, "branches candidates"]
    score: Float[Tensor, "branches candidates"]

    def select(self, index: Tensor) -> "Candidates":
        """Return the candidates of some branches."""
        return Candidates(
            self.of[index], self.element[index], self.threshold[index], self.score[index]
        )

    def pick(self, column: Int[Tensor, "branches"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return one split for each branch."""
        rows = torch.arange(len(column), device=column.device)
        return self.of[rows, column], self.element[rows, column], self.threshold[rows, column]


def candidates(splittable: Splittable, dual: Dual, at: Lagrangian) -> Candidates:
    """Name the splits that promise most, by two scores; none where no operator is inexact.

    The first is what the Lagrangian would gain if the operator were exact at the point where the
    bound is taken. The second is how far the lines are from the operator where the split would
    be, times the coefficient: for ReLU the intercept score of BaBSR (Bunel et al. 2020).
    """
    nothing = at.bound.new_zeros(len(at.bound), 0)
    none = nothing.new_zeros(0, dtype=torch.long)
    found: list[tuple[Tensor, ...]] = [(none, none, nothing, nothing, nothing)]
    for number, name in enumerate(splittable.names):
        for node in splittable.users[name]:
            if node.name not in at.found:
                continue
            a = at.found[node.name].coefficients
            relaxed = dual.relaxed[node.name]
            place = node.inputs.index(name)
            threshold = _thresholds(node, relaxed.box[place])
            at_point, at_split = _gains(relaxed, at, a, place, threshold)
            columns = relaxed.columns
            if columns is None:
                columns = torch.arange(a.shape[2], device=a.device)
            of = torch.full_like(columns, number)
            found.append((of, columns, threshold.squeeze(1), at_point, at_split))
    of, element = (torch.cat(parts) for parts in list(zip(*found, strict=True))[:2])
    threshold, here, there = (torch.cat(p, dim=1) for p in list(zip(*found, strict=True))[2:])
    most = min(_EACH, here.shape[1])
    places = torch.cat([s.topk(most, dim=1).indices for s in (here, there)], dim=1)
    score = here.gather(1, places) + there.gather(1, places)
    return Candidates(of[places], element[places], threshold.gather(1, places), score)


def _thresholds(node: Nonlinear, box: Interval) -> Float[Tensor, "batch 1 columns"]:
    """Return where to split: at the kink that is nearest to the middle, or in the middle."""
    middle = box.lower / 2 + box.upper / 2
    if not isinstance(node.operator, PiecewiseLinear):
        return middle
    best = middle
    distance = torch.full_like(middle, torch.inf)
    for piece in node.operator.pieces[1:]:
        kink = torch.full_like(middle, float(piece.start))
        inside = (kink > box.lower) & (kink < box.upper)
        nearer = inside & ((kink - middle).abs() < distance)
        distance = torch.where(nearer, (kink - middle).abs(), distance)
        best = torch.where(nearer, kink, best)
    return best


def _gains(
    relaxed: Relaxed, at: Lagrangian, a: Tensor, place: int, threshold: Tensor
) -> tuple[Float[Tensor, "batch columns"], Float[Tensor, "batch columns"]]:
    """Return what exactness would gain at the bound's point, and at the split."""
    operator, lines = relaxed.node.operator, at.lines[relaxed.node.name]
    taken = [relaxed.at(at.values[name].flatten(2)) for name in relaxed.node.inputs]
    inexact = ~operator.affine_on(relaxed.box)[0]
    results = []
    for moved in (False, True):
        operands = [
            torch.minimum(torch.maximum(value, box.lower), box.upper)
            for value, box in zip(taken, relaxed.box, strict=True)
        ]
        if moved:
            operands[place] = threshold.expand_as(operands[place])
        over, under = lines.upper_offset, lines.lower_offset
        for low, up, value in zip(lines.lower, lines.upper, operands, strict=True):
            over, under = over + up * value, under + low * value
        exact = operator(*operands)
        gain = a.clamp(min=0) * (exact - under) + a.clamp(max=0) * (exact - over)
        gain = torch.nan_to_num(gain.detach()).clamp(min=0)
        results.append(torch.where(inexact, gain, -1.0).sum(1))
    return results[0], results[1]
