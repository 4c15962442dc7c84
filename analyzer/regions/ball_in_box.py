"""Balls of the 1-norm and the 2-norm, cut by the range of the data."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.regions.ball import Ball
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.errors import EmptyRegionError
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import next_above

# The search for the multiplier ends by itself, in practice after three to six steps; any
# multiplier is sound.
STEPS = 100
# Bisection halves the interval to the last bit of float64.
_BISECTIONS = 60


@dataclass(frozen=True, eq=False)
class BallInBox(Region):
    """The points of a ball that lie in a box as well; the ball's centre is one of them.

    The minimum of a linear form comes from the dual in the one multiplier of the ball: any
    multiplier is sound, and the best one is found in closed form.
    """

    ball: Ball
    box: Box

    def __post_init__(self) -> None:
        """Check that the centre lies in the box."""
        center = self.ball.center
        if not ((self.box.lower <= center) & (center <= self.box.upper)).all():
            raise EmptyRegionError(
                "the centre of the ball lies outside of the data range; give the range in the "
                "units of the network's input"
            )

    @property
    def _like(self) -> Tensor:
        return self.ball.center

    def bounding_box(self) -> tuple[Tensor, Tensor]:
        """Return the smallest box around each set: one coordinate may move all by itself."""
        lower, upper = self.ball.bounding_box()
        return torch.maximum(lower, self.box.lower), torch.minimum(upper, self.box.upper)

    def minimum(self, rows: Float[Tensor, "batch rows *shape"]) -> Float[Tensor, "batch rows"]:
        """Return the minimum of each linear form, exact up to rounding."""
        at_center = (rows.flatten(2) @ self.ball.center.flatten(1).unsqueeze(2)).squeeze(2)
        return at_center - self._gain(rows)

    def minimum_around(
        self, rows: Float[Tensor, "batch rows *shape"], center: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch rows"]:
        """Return the minimum of `rows · (x - center)`, exact up to rounding."""
        shift = (self.ball.center - center).flatten(1).unsqueeze(2)
        return (rows.flatten(2) @ shift).squeeze(2) - self._gain(rows)

    def _gain(self, rows: Tensor) -> Tensor:
        """Return how far each form can fall below its value at the centre."""
        flat = rows.flatten(2)
        down, up = self._room()
        room = torch.where(flat > 0, down.unsqueeze(1), up.unsqueeze(1))
        size = flat.abs()
        # The minimum is homogeneous in the row; scaled, its squares neither over- nor underflow.
        scale = size.amax(2, keepdim=True).detach()
        scale = torch.where(scale > 0, scale, 1)
        radius = self.ball.radius.view(-1, 1, 1)
        gain = _gain_1 if self.ball.norm == 1 else _gain_2
        return (scale * gain(size / scale, room, radius)).squeeze(2)

    def _room(self) -> tuple[Tensor, Tensor]:
        """Return how far each coordinate may go down and up in the box, rounded up."""
        center, zero = self.ball.center, torch.zeros_like(self.ball.center)
        down, up = center - self.box.lower, self.box.upper - center
        down = torch.where(down > 0, next_above(down), zero)
        up = torch.where(up > 0, next_above(up), zero)
        return down.flatten(1), up.flatten(1)

    @torch.no_grad()
    def project(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Move points to the nearest ones of the sets, up to bisection.

        Guarantee: the result lies in the ball and in the box, exactly.
        """
        center = self.ball.center.flatten(1)
        lower, upper = self.box.lower.flatten(1) - center, self.box.upper.flatten(1) - center
        offset = x.flatten(1) - center
        radius = self.ball.inner_radius().unsqueeze(1)
        size = torch.linalg.vector_norm(offset, ord=self.ball.norm, dim=1, keepdim=True)
        low, high = torch.zeros_like(size), size.clone()
        if self.ball.norm == 2:
            high = size / torch.where(radius > 0, radius, 1)

        def moved(multiplier: Tensor) -> Tensor:
            if self.ball.norm == 2:
                shrunk = offset / (1 + multiplier)
            else:
                shrunk = offset.sign() * (offset.abs() - multiplier).clamp(min=0)
            return torch.minimum(torch.maximum(shrunk, lower), upper)

        def fits(multiplier: Tensor) -> Tensor:
            norms: Tensor = torch.linalg.vector_norm(moved(multiplier), ord=self.ball.norm, dim=1)
            return norms.unsqueeze(1) <= radius

        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            good = fits(middle)
            low, high = torch.where(good, low, middle), torch.where(good, middle, high)
        best = torch.where(fits(torch.zeros_like(high)), 0, high)
        result = torch.where(fits(best), moved(best), 0) + center
        return self.box.project(result.view(x.shape))

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch count *shape"]:
        """Draw points of the ball, every second one on its sphere, and project them."""
        points = self.ball.sample(count, generator)
        every = torch.arange(self.batch, device=self.device).repeat_interleave(count)
        return self.select(every).project(points.flatten(0, 1)).view(points.shape)

    def select(self, index: Tensor) -> Self:
        """Return the sets that an index tensor names."""
        return type(self)(self.ball.select(index), self.box.select(index))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the sets on a device and in a dtype, rounded outward."""
        return type(self)(self.ball.to(device, dtype), self.box.to(device, dtype))


def _gain_1(size: Tensor, room: Tensor, radius: Tensor) -> Tensor:
    """Maximise `size · move` for `0 <= move <= room` and `sum of move <= radius`.

    A fractional knapsack. Its dual, for any multiplier m >= 0, is
    `m * radius + sum of room * (size - m)+`; the best m is the size at which the budget ends.
    """
    sizes, order = size.sort(dim=2, descending=True)
    spent = room.gather(2, order).cumsum(2)
    last = (spent < radius).sum(2, keepdim=True)
    beyond = last == size.shape[2]
    multiplier = sizes.gather(2, last.clamp(max=size.shape[2] - 1))
    # With budget left at the end the ball does not bind.
    multiplier = torch.where(beyond, 0, multiplier)
    rest = (room * (size - multiplier).clamp(min=0)).sum(2, keepdim=True)
    return multiplier * radius + rest


def _gain_2(size: Tensor, room: Tensor, radius: Tensor) -> Tensor:
    """Maximise `size · move` for `0 <= move <= room` and `|move| <= radius` in the 2-norm.

    The dual for any multiplier m > 0 is reached at `move = min(size / m, room)`:
    `sum of size * move - m/2 * move² + m/2 * radius²`; with m = 0 it is `size · room`.
    """
    multiplier = _multiplier_2(size.detach(), room, radius)
    full = size >= multiplier * room
    move = torch.where(full, room, size / torch.where(multiplier > 0, multiplier, 1))
    value = (move * (size - multiplier / 2 * move)).sum(2, keepdim=True)
    bound = value + multiplier / 2 * radius.square()
    without_ball = (size * room).sum(2, keepdim=True)
    return torch.where(radius > 0, torch.minimum(bound, without_ball), 0)


@torch.no_grad()
def _multiplier_2(size: Tensor, room: Tensor, radius: Tensor) -> Tensor:
    """Solve `|min(size / m, room)| = radius` for m, from above.

    While the coordinates that are at their limit stay the same, m has a closed form. A smaller m
    only adds to them, so the iteration descends to the solution and ends after finitely many steps.
    """
    norm: Tensor = torch.linalg.vector_norm(size, dim=2, keepdim=True)
    multiplier = norm / torch.where(radius > 0, radius, 1)
    for _ in range(STEPS):
        full = size >= multiplier * room
        spent = torch.where(full, room, 0).square().sum(2, keepdim=True)
        left = radius.square() - spent
        free = torch.where(full, 0, size).square().sum(2, keepdim=True)
        following = (free / torch.where(left > 0, left, 1)).sqrt()
        following = torch.where(left > 0, torch.minimum(following, multiplier), multiplier)
        if torch.equal(following, multiplier):
            break
        multiplier = following
    return multiplier
