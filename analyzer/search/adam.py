"""Adam with projections, for proposals that live in ranges of very different sizes."""

import math
from collections.abc import Hashable, Mapping

import torch
from torch import Tensor

from absolver.analyzer.search.groups import CUT, SHARE, TILT
from absolver.analyzer.search.lagrangian import Lagrangian, Point

_FIRST, _SECOND = 0.9, 0.999
# Lengths of the first steps: shares of a parameter's range, and of the size of coefficients.
_SLOPE_STEP, _MULTIPLIER_STEP, _COMBINATION_STEP = 0.25, 0.1, 0.1
# Ranges of what groups of neurons get are wider than what is often of use.
_GROUP_STEP = 0.0125
# Multipliers of cuts start at 0, and are near 1 where a cut is of use.
_CUT_STEP = 0.1
_STEPS: Mapping[str, float] = {SHARE: _GROUP_STEP, TILT: _GROUP_STEP, CUT: _CUT_STEP}
_DECAY = 0.96


class Adam:
    """The moments of gradients (Kingma and Ba, 2015), and steps upward that end within ranges."""

    def __init__(self, ranges: Mapping[tuple[str, str], tuple[Tensor, Tensor]]) -> None:
        """Begin without moments; ranges are those of slopes' parameters."""
        self._ranges = ranges
        self._moments: dict[Hashable, tuple[Tensor, Tensor]] = {}
        self._steps = 0
        self._sizes: dict[str, Tensor] = {}

    def step(
        self,
        point: Point,
        slopes: Mapping[tuple[str, str], Tensor],
        violations: Mapping[str, Tensor],
        at: Lagrangian,
        member: Tensor,
    ) -> Point:
        """Go one step upward from a point, and back into the ranges."""
        self._steps += 1
        # Both moments begin at 0: what they lack for that in the first steps.
        unbiased = math.sqrt(1 - _SECOND**self._steps) / (1 - _FIRST**self._steps)
        decay = unbiased * _DECAY ** (self._steps - 1)
        parameters = dict(point.parameters)
        for key, gradient in slopes.items():
            lower, upper = self._ranges[key]
            length = _STEPS.get(key[1], _SLOPE_STEP) * decay * (upper - lower)
            moved = torch.addcmul(parameters[key], length, self._direction(key, gradient))
            parameters[key] = torch.clamp(moved, lower, upper)
        multipliers = dict(point.multipliers)
        for name, violation in violations.items():
            if name not in self._sizes:
                self._sizes[name] = _size(at, name)
            length = _MULTIPLIER_STEP * decay * self._sizes[name]
            moved = multipliers[name] + length * self._direction(name, violation)
            multipliers[name] = moved.clamp(min=0)
        combination = point.combination
        if combination.shape[2] > 1:
            moved = combination + _COMBINATION_STEP * decay * self._direction(None, at.excess)
            moved = torch.where(member, moved.clamp(min=0), 0.0)
            total = moved.sum(2, keepdim=True)
            combination = torch.where(total > 0, moved / total, combination)
        return Point(parameters, multipliers, combination)

    def _direction(self, key: Hashable, gradient: Tensor) -> Tensor:
        """Return the step that Adam takes for a gradient: of length 1 once it is unbiased."""
        if key not in self._moments:
            self._moments[key] = (torch.zeros_like(gradient), torch.zeros_like(gradient))
        first, second = self._moments[key]
        first.lerp_(gradient, 1 - _FIRST)
        second.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
        return first / second.sqrt().add_(torch.finfo(gradient.dtype).tiny)


def _size(at: Lagrangian, name: str) -> Tensor:
    """Return the largest coefficient that a row has on any operator, as a scale of multipliers."""
    met = [a.abs().flatten(2) for a in (f.coefficients for f in at.found.values())]
    found = torch.cat(met, dim=2)
    # Where no operator is inexact, splits alone are left to be weighed against each other.
    size = found.amax(2) if found.shape[2] else found.new_ones(found.shape[:2])
    return size.view(*size.shape, *[1] * (at.values[name].dim() - 2))
