"""Boxes whose points have a given sum: probabilities, budgets."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.errors import EmptyRegionError
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import next_above, next_below, round_down, round_up

_BISECTIONS = 60


@dataclass(frozen=True, eq=False)
class Simplex(Region):
    """The points of a box with `least <= sum of coordinates <= most`.

    With `least = most = 1` in the unit box this is the probability simplex.
    """

    box: Box
    least: Float[Tensor, "batch"]
    most: Float[Tensor, "batch"]

    def __post_init__(self) -> None:
        """Check that there is a point, up to rounding."""
        lower, upper = self.box.lower.flatten(1).sum(1), self.box.upper.flatten(1).sum(1)
        size = torch.maximum(self.box.lower.abs(), self.box.upper.abs()).flatten(1)
        slack = size.shape[1] * torch.finfo(self.dtype).eps * size.sum(1)
        good = (self.least <= self.most) & (lower - slack <= self.most)
        if not (good & (self.least <= upper + slack)).all():
            raise EmptyRegionError(
                f"no point of the box has a sum from {self.least.tolist()} to "
                f"{self.most.tolist()}: sums go from {lower.tolist()} to {upper.tolist()}"
            )

    @property
    def _like(self) -> Tensor:
        return self.box.lower

    def bounding_box(self) -> tuple[Tensor, Tensor]:
        """Return the smallest box around each set, rounded outward."""
        lower, upper = self.box.lower.flatten(1), self.box.upper.flatten(1)
        size = torch.maximum(lower.abs(), upper.abs()).sum(1, keepdim=True)
        # Twice gamma of the sum over all coordinates.
        error = 2 * (lower.shape[1] + 4) * torch.finfo(self.dtype).eps * size
        spare = self.most.unsqueeze(1) - lower.sum(1, keepdim=True) + error
        missing = self.least.unsqueeze(1) - upper.sum(1, keepdim=True) - error
        high = torch.minimum(upper, next_above(lower + spare.clamp(min=0)))
        low = torch.maximum(lower, next_below(upper + missing.clamp(max=0)))
        shape = self.box.lower.shape
        return low.view(shape), high.view(shape)

    def minimum(self, rows: Float[Tensor, "batch rows *shape"]) -> Float[Tensor, "batch rows"]:
        """Return the minimum of each linear form, exact up to rounding.

        A fractional knapsack. By weak duality any multiplier m gives the bound
        `min (row + m) · x over the box - (m * most if m > 0 else m * least)`.
        """
        flat = rows.flatten(2)
        multiplier = self._multiplier(flat)
        spent = torch.where(multiplier > 0, self.most.unsqueeze(1), self.least.unsqueeze(1))
        shifted = (flat + multiplier.unsqueeze(2)).view(rows.shape)
        return self.box.minimum(shifted) - multiplier * spent

    def _multiplier(self, flat: Tensor) -> Tensor:
        """Return minus the coefficient at which the sum of the cheapest point is reached."""
        lower, upper = self.box.lower.flatten(1), self.box.upper.flatten(1)
        width = (upper - lower).unsqueeze(1).expand(flat.shape)
        cheapest, order = flat.sort(dim=2)
        filled = width.gather(2, order).cumsum(2)
        base = lower.sum(1).unsqueeze(1)
        wanted = torch.where(flat < 0, width, 0).sum(2)
        room_low, room_high = self.least.unsqueeze(1) - base, self.most.unsqueeze(1) - base
        target = torch.clamp(wanted, room_low, room_high)
        place = (filled < target.unsqueeze(2)).sum(2, keepdim=True).clamp(max=flat.shape[2] - 1)
        coefficient = cheapest.gather(2, place).squeeze(2)
        # Where the sum is free, its multiplier is 0.
        return torch.where(target == wanted, 0, -coefficient)

    @torch.no_grad()
    def project(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Move points to the nearest ones of the sets: a common shift, found by bisection."""
        lower, upper = self.box.lower.flatten(1), self.box.upper.flatten(1)
        flat = x.flatten(1)
        total = torch.clamp(flat, lower, upper).sum(1, keepdim=True)
        goal = torch.clamp(total, self.least.unsqueeze(1), self.most.unsqueeze(1))
        low = (lower - flat).amin(1, keepdim=True)
        high = (upper - flat).amax(1, keepdim=True)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            below = torch.clamp(flat + middle, lower, upper).sum(1, keepdim=True) < goal
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        shift = torch.where(goal == total, 0, high)
        return torch.clamp(flat + shift, lower, upper).view(x.shape)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch count *shape"]:
        """Draw points of the box, corners among them, and project them."""
        points = self.box.sample(count, generator)
        every = torch.arange(self.batch, device=self.device).repeat_interleave(count)
        return self.select(every).project(points.flatten(0, 1)).view(points.shape)

    def select(self, index: Tensor) -> Self:
        """Return the sets that an index tensor names."""
        return type(self)(self.box.select(index), self.least[index], self.most[index])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the sets on a device and in a dtype, rounded outward."""
        least, most = round_down(self.least, dtype), round_up(self.most, dtype)
        return type(self)(self.box.to(device, dtype), least.to(device), most.to(device))
