"""Leaves on which every operator is exact: what is left of each is a linear program."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.minimax import Cuts, least_maximum
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.region import Region
from absolver.analyzer.search.ascent import Dual
from absolver.analyzer.search.lagrangian import Point

Array = NDArray[np.float64]
# What is smaller proves nothing in floating point; nor do multipliers that are larger.
_LEAST, _MOST = 1e-12, 1e12


@dataclass(frozen=True)
class Optimum:
    """What the linear programs of some leaves have found; elements have one row each."""

    point: Point
    """The best multipliers of splits and combinations of constraints (strong duality)."""
    bound: Float[Tensor, "batch rows"]
    """What these prove, evaluated as every proposal is: the solver is not trusted."""
    x: Float[Tensor, "batch rows *shape"]
    """Where constraints and splits are violated least: a counterexample unless that is positive."""


@dataclass(frozen=True)
class _Forms:
    """Affine functions `coefficients · x + constant` of the input, the clause's constraints first.

    Then come the splits, which `places` names: a tensor and an element of it.
    """

    coefficients: Array
    constant: Array
    places: Sequence[tuple[str, int]]


def optimise(dual: Dual, start: Point) -> Optimum:
    """Minimise the largest of all excesses and violations over each element's region.

    Over a region that is neither a box nor a polytope the box around it is meant, so that what is
    found may lie outside.
    """
    region = dual.region
    multipliers = {name: torch.zeros_like(m) for name, m in start.multipliers.items()}
    combination, found = start.combination.clone(), []
    for element, forms in enumerate(_forms(dual, start)):
        one = region.select(torch.tensor([element], device=region.device))
        lower, upper = (side.flatten().double().cpu().numpy() for side in one.bounding_box())
        best = least_maximum(forms.coefficients, forms.constant, (lower, upper), _cuts(one))
        found.append(torch.from_numpy((lower + upper) / 2 if best is None else best.x))
        if best is None:
            continue
        constraints = len(forms.constant) - len(forms.places)
        weights, total = best.weights, best.weights[:constraints].sum()
        if total > 0:
            member = dual.member[element, 0]
            own = torch.from_numpy(weights[:constraints] / total).to(combination)
            combination[element, 0] = torch.zeros_like(combination[element, 0])
            combination[element, 0, member] = own
        # Where splits alone contradict each other, as much of that is taken as will do.
        much = 1 + np.abs(forms.constant).max(initial=0.0)
        scale = min(1 / total if total > 0 else much / max(best.value, _LEAST), _MOST)
        for (name, place), weight in zip(forms.places, weights[constraints:], strict=True):
            multipliers[name][element].view(-1)[place] = float(weight * scale)
    point = replace(start, multipliers=multipliers, combination=combination)
    points = torch.stack(found).to(combination).view(-1, 1, *region.shape)
    return Optimum(point, dual.evaluate(point).bound, points)


def _forms(dual: Dual, start: Point) -> Iterator[_Forms]:
    """Yield what every constraint and every split of each element is in the input."""
    placed = [_split_places(dual, start.multipliers, e) for e in range(len(start.combination))]
    most = max(len(places) for places in placed)
    batch, _, constraints = start.combination.shape
    unit = torch.eye(constraints + most, constraints).to(start.combination)
    multipliers = {
        name: m.new_zeros(batch, constraints + most, *m.shape[2:])
        for name, m in start.multipliers.items()
    }
    for element, places in enumerate(placed):
        for row, (name, place) in enumerate(places, constraints):
            multipliers[name][element, row].view(-1)[place] = 1
    at = dual.evaluate(Point(start.parameters, multipliers, unit.expand(batch, -1, -1)))
    value = (unit * at.excess).sum(2)
    for name, m in multipliers.items():
        value = value + (m * dual.violation(name, at.values)).flatten(2).sum(2)
    x = at.values[dual.input_name].flatten(2).double()
    coefficients = at.at_input.flatten(2).double()
    constant = value.double() - (coefficients * x).sum(2)
    for element, places in enumerate(placed):
        used = dual.member[element, 0].nonzero().flatten().tolist()
        used += range(constraints, constraints + len(places))
        yield _Forms(
            coefficients[element, used].cpu().numpy(),
            constant[element, used].cpu().numpy(),
            places,
        )


def _split_places(
    dual: Dual, multipliers: Mapping[str, Tensor], element: int
) -> list[tuple[str, int]]:
    return [
        (name, place)
        for name in multipliers
        for place in dual.signs(name)[element].flatten().nonzero().flatten().tolist()
    ]


def _cuts(region: Region) -> Cuts | None:
    """Return the half-spaces that cut a single set's box, if it is a polytope."""
    if not isinstance(region, Polytope):
        return None
    matrix, bound = region.matrix[0].flatten(1), region.bound[0]
    return Cuts(matrix.double().cpu().numpy(), bound.double().cpu().numpy())
