"""SDP-FO: first-order ascent of the semidefinite dual (Dathathri et al., NeurIPS 2020).

The bound c - sum of max(kappa_i - lambda_min, 0) / 2 is concave in multipliers and charges, with a
subgradient from an eigenvector of the least eigenvalue. Where several eigenvalues are nearly least,
as at every optimum, they share the gradient by a soft minimum (Nesterov, "Smoothing technique and
its applications in semidefinite optimization", 2007), which is sharpened on the way.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.semidefinite.eigenvectors import Pairs, least_pairs
from absolver.analyzer.semidefinite.lagrangian import Lagrangian, Point, bound, lagrangian_of
from absolver.analyzer.semidefinite.relaxation import Relaxation

_VECTORS = 16
# Lengths of the first and last steps, as shares of what multipliers are expected to be.
_FIRST_STEP, _LAST_STEP = 0.2, 5e-3
# Shares of the charges' mean within which eigenvalues count as least.
_FIRST_WIDTH, _LAST_WIDTH = 0.3, 3e-3
_FIRST_MOMENT, _SECOND_MOMENT = 0.9, 0.9
_SAMPLES, _FLOOR = 32, 1.0


@dataclass(frozen=True)
class Ascent:
    """The best proposals that were found, with charges that seem enough, and what they prove."""

    point: Point
    bound: Float[Tensor, "rows"]
    steps: int


def ascend(
    relaxation: Relaxation,
    start: Point,
    *,
    steps: int,
    enough: float | Tensor = torch.inf,
    on_step: Callable[[int], bool] | None = None,
) -> Ascent:
    """Take gradient steps; ends early where all bounds are above `enough`, or `on_step` says so."""
    lagrangian = lagrangian_of(relaxation)
    scales = _scales(lagrangian, start)
    state = _State(lagrangian, start)
    best, bounds, known = start, start.charges.new_full((relaxation.rows,), -torch.inf), None
    for step in range(steps):
        point = state.point()
        pairs = least_pairs(lagrangian, point.multipliers, point.charges, _VECTORS, known)
        known = pairs.vectors[:, 0]
        found = torch.nan_to_num(bound(point.charges, pairs.values[:, 0]), nan=-torch.inf)
        better = found > bounds
        enough_charged = replace(point, charges=point.charges - pairs.values[:, :1])
        best = _merged(better, enough_charged, best)
        bounds = torch.maximum(bounds, found)
        stopped = on_step is not None and on_step(step)
        if stopped or bool((bounds > enough).all()):
            return Ascent(best, bounds, step + 1)
        share = step / max(1, steps - 1)
        width = _FIRST_WIDTH * (_LAST_WIDTH / _FIRST_WIDTH) ** share
        length = _FIRST_STEP * (_LAST_STEP / _FIRST_STEP) ** share
        gradients = _gradients(lagrangian, point, pairs, width)
        state.move(gradients, scales, length)
    return Ascent(best, bounds, steps)


def _gradients(
    lagrangian: Lagrangian, point: Point, pairs: Pairs, width: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients in all multipliers, and in the charges beside M's corner."""
    charges, least = point.charges, pairs.values[:, :1]
    size = width * charges.abs()[:, 1:].mean(1, keepdim=True) + torch.finfo(charges.dtype).tiny
    share = torch.softmax(-(pairs.values - least) / size, dim=1)
    used = charges[:, 1:] > least
    rate = (1 + used.sum(1, keepdim=True)) / 2
    on_charges = rate * (share.unsqueeze(2) * pairs.vectors.square()).sum(1)
    on_charges = on_charges - torch.cat([torch.ones_like(least), used.to(least.dtype)], 1) / 2
    # The constant's charge is kept relative to M's corner, which multipliers move: e0 beside.
    corner = torch.zeros_like(pairs.vectors[:, :1])
    corner[:, :, 0] = 1
    sides = lagrangian.left_sides(torch.cat([pairs.vectors, corner], 1))
    weight = torch.cat([-2 * rate * share, 2 * on_charges[:, :1]], 1)
    return (weight.unsqueeze(1) @ sides).squeeze(1), on_charges


class _State:
    """Multipliers, and charges with the constant's relative to M's corner; Adam's moments."""

    def __init__(self, lagrangian: Lagrangian, start: Point) -> None:
        self._lagrangian = lagrangian
        self._equality = lagrangian.relaxation.equality
        charges = start.charges.clone()
        charges[:, 0] += lagrangian.corner(start.multipliers)
        self._values = [start.multipliers, charges]
        self._first = [torch.zeros_like(v) for v in self._values]
        self._second = [torch.zeros_like(v) for v in self._values]
        self._steps = 0

    def point(self) -> Point:
        """Return the point as it stands."""
        multipliers, charges = self._values
        charges = charges.clone()
        charges[:, 0] -= self._lagrangian.corner(multipliers)
        return Point(multipliers, charges)

    def move(
        self, gradients: tuple[Tensor, Tensor], scales: tuple[Tensor, Tensor], length: float
    ) -> None:
        """Take a step upward, and back to the right signs."""
        self._steps += 1
        for i, (gradient, scale) in enumerate(zip(gradients, scales, strict=True)):
            # In units of what a multiplier is expected to be.
            gradient = torch.nan_to_num(gradient * scale)
            self._first[i].lerp_(gradient, 1 - _FIRST_MOMENT)
            self._second[i].lerp_(gradient.square(), 1 - _SECOND_MOMENT)
            mean = self._first[i] / (1 - _FIRST_MOMENT**self._steps)
            size = (self._second[i] / (1 - _SECOND_MOMENT**self._steps)).sqrt()
            tiny = torch.finfo(gradient.dtype).tiny
            self._values[i] = self._values[i] + length * scale * mean / (size + tiny)
        multipliers, charges = self._values
        self._values[0] = torch.where(self._equality, multipliers, multipliers.clamp(min=0))
        charges[:, 1:].clamp_(min=0)


def _scales(lagrangian: Lagrangian, start: Point) -> tuple[Tensor, Tensor]:
    """Expect of multipliers that what they multiply is as large as what charges are."""
    relaxation, charges = lagrangian.relaxation, start.charges
    generator = torch.Generator(device=charges.device).manual_seed(0)
    shape = (relaxation.rows, _SAMPLES, relaxation.size)
    w = torch.rand(shape, generator=generator, dtype=charges.dtype, device=charges.device) * 2 - 1
    w[:, :, 0] = 1
    worth = _worth(relaxation, start)
    mean = worth.mean(1, keepdim=True)
    size = lagrangian.left_sides(w).square().mean(1).sqrt()
    on_multipliers = torch.where(size > 0, mean / size, 0.0).nan_to_num(posinf=0.0)
    on_charges = worth + _FLOOR * mean
    return on_multipliers, torch.cat([on_charges.sum(1, keepdim=True), on_charges], 1)


def _worth(relaxation: Relaxation, start: Point) -> Float[Tensor, "rows variables"]:
    """Estimate what each variable contributes to the bound: its charge, and its lines' weight."""
    worth = start.charges[:, 1:].abs().clone()
    for constraint, span in zip(relaxation.constraints, relaxation.spans, strict=True):
        for forms in constraint.forms:
            for node, index, coefficient in forms.terms:
                own = relaxation.variables.get(node)
                if own is None or not torch.equal(own.neurons, index):
                    continue
                place = relaxation.places[node]
                place = slice(place.start - 1, place.stop - 1)
                weight = (start.multipliers[:, span] * coefficient).abs()
                worth[:, place] += weight * own.radius
    return worth


def _merged(better: Tensor, new: Point, old: Point) -> Point:
    """Take the new proposals of those rows that are better, the old ones of the others."""
    at = better.unsqueeze(1)
    multipliers = torch.where(at, new.multipliers, old.multipliers)
    return Point(multipliers, torch.where(at, new.charges, old.charges))
