"""Boxes cut by half-spaces; the minimum of a linear form by Lagrange multipliers."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import next_above, next_below, round_up

# Coordinate ascent gains little after the second sweep; a third is insurance.
SWEEPS = 3
# Rows of the identity that `bounding_box` holds at once: 256 x 3072 float32 are 3 MB.
_ROWS = 256
_PROJECTIONS = 20
_BISECTIONS = 60


@dataclass(frozen=True, eq=False)
class Polytope(Region):
    """The points x of a box with `matrix x <= bound`; rows of zeros with bound 0 are padding.

    By weak duality, `min (a + multipliers · matrix) · x over the box - multipliers · bound` is
    a lower bound of the minimum of `a · x` for any multipliers that are not negative.
    """

    box: Box
    matrix: Float[Tensor, "batch constraints *shape"]
    bound: Float[Tensor, "batch constraints"]

    @property
    def _like(self) -> Tensor:
        return self.box.lower

    def within(self, box: Box) -> Self:
        """Return the parts of the polytopes in smaller boxes."""
        return type(self)(box, self.matrix, self.bound)

    def bounding_box(self) -> tuple[Tensor, Tensor]:
        """Return a box around each polytope: the smallest if there is one constraint."""
        return self._bounding_box

    @cached_property
    def _bounding_box(self) -> tuple[Tensor, Tensor]:
        size = self.box.center[0].numel()
        lower, upper = [], []
        for start in range(0, size, _ROWS):
            count = min(_ROWS, size - start)
            rows = torch.zeros(1, count, size, dtype=self.dtype, device=self.device)
            rows[0, torch.arange(count), torch.arange(start, start + count)] = 1
            rows = rows.view(1, count, *self.shape).expand(self.batch, -1, *self.shape)
            lower.append(self._safe_minimum(rows))
            upper.append(-self._safe_minimum(-rows))
        low = torch.cat(lower, 1).view(-1, *self.shape)
        high = torch.cat(upper, 1).view(-1, *self.shape)
        low, high = torch.maximum(low, self.box.lower), torch.minimum(high, self.box.upper)
        # They cross where rounding or an empty set makes them; the hull is still a box around it.
        return torch.minimum(low, high), torch.maximum(low, high)

    def _safe_minimum(self, rows: Tensor) -> Tensor:
        """Return the minimum less the rounding error that its evaluation can have."""
        multipliers = self.multipliers(rows)
        value = self.minimum_with(rows, multipliers)
        reach = torch.maximum(self.box.lower.abs(), self.box.upper.abs()).flatten(1)
        size = rows.abs().flatten(2) + multipliers @ self.matrix.abs().flatten(2)
        magnitude = (size @ reach.unsqueeze(2)).squeeze(2)
        magnitude = magnitude + (multipliers @ self.bound.abs().unsqueeze(2)).squeeze(2)
        # Twice gamma of the longest sum, of coordinates and of constraints, for both passes.
        terms = 2 * (reach.shape[1] + self.bound.shape[1] + 4)
        return next_below(value - terms * torch.finfo(self.dtype).eps * magnitude)

    def minimum(self, rows: Float[Tensor, "batch rows *shape"]) -> Float[Tensor, "batch rows"]:
        """Bound each linear form from below; exact up to rounding if there is one constraint.

        A gradient takes the multipliers as constants.
        """
        return self.minimum_with(rows, self.multipliers(rows))

    def minimum_with(
        self,
        rows: Float[Tensor, "batch rows *shape"],
        multipliers: Float[Tensor, "batch rows constraints"],
    ) -> Float[Tensor, "batch rows"]:
        """Bound each linear form from below with given multipliers; negative ones count as 0.

        Guarantee: sound for any multipliers, up to rounding.
        """
        multipliers = multipliers.clamp(min=0)
        cut = (multipliers @ self.matrix.flatten(2)).view(rows.shape)
        offset = (multipliers @ self.bound.unsqueeze(2)).squeeze(2)
        return self.box.minimum(rows + cut) - offset

    @torch.no_grad()
    def multipliers(
        self, rows: Float[Tensor, "batch rows *shape"]
    ) -> Float[Tensor, "batch rows constraints"]:
        """Return good multipliers: coordinate ascent on the dual, each step exact.

        Guarantee: the bound with them is at least the box's own, up to rounding.
        """
        combined = rows.flatten(2)
        matrix = self.matrix.flatten(2)
        count = matrix.shape[1]
        result = torch.zeros(*combined.shape[:2], count, dtype=self.dtype, device=self.device)
        for _ in range(SWEEPS if count > 1 else 1):
            for j in range(count):
                direction = matrix[:, j].unsqueeze(1)
                rest = combined - result[:, :, j].unsqueeze(2) * direction
                result[:, :, j] = self._best_multiplier(rest, direction, self.bound[:, j])
                combined = rest + result[:, :, j].unsqueeze(2) * direction
        return result

    def _best_multiplier(self, rows: Tensor, direction: Tensor, bound: Tensor) -> Tensor:
        """Maximise `min (rows + t * direction) · x over the box - t * bound` over t >= 0.

        The function is concave and piecewise linear in t. Its slope starts at `direction · x -
        bound` for the x that is least for a small t, and falls by `|direction_i| * width_i` where
        coefficient i changes its sign.
        """
        lower = self.box.lower.flatten(1).unsqueeze(1)
        upper = self.box.upper.flatten(1).unsqueeze(1)
        at_lower = (rows > 0) | ((rows == 0) & (direction > 0))
        slope = (direction * torch.where(at_lower, lower, upper)).sum(2) - bound.unsqueeze(1)
        turns = (rows * direction.sign() < 0) & (direction != 0)
        where = torch.where(turns, -rows / torch.where(turns, direction, 1), torch.inf)
        falls = torch.where(turns, direction.abs() * (upper - lower), 0)
        where, order = where.sort(dim=2)
        after = slope.unsqueeze(2) - falls.gather(2, order).cumsum(2)
        best = torch.where(after <= 0, where, torch.inf).amin(2)
        # No turn stops the ascent only where the set is empty, up to rounding: any t is sound.
        last = torch.where(where.isfinite(), where, 0).amax(2)
        return torch.where(slope <= 0, 0, torch.where(best.isfinite(), best, last))

    @torch.no_grad()
    def project(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Move points to near ones: the nearest, up to bisection, if there is one constraint.

        With several constraints the projections alternate, and the last ones may leave a rest.
        """
        matrix, point = self.matrix.flatten(2), self.box.project(x).flatten(1)
        for _ in range(_PROJECTIONS if matrix.shape[1] > 1 else 1):
            for j in range(matrix.shape[1]):
                point = self._project_one(point, matrix[:, j], self.bound[:, j : j + 1])
        return point.view(-1, *self.shape)

    def _project_one(self, point: Tensor, direction: Tensor, bound: Tensor) -> Tensor:
        """Project onto the box and one half-space: `clip(point - t * direction)`, t >= 0 least."""
        lower, upper = self.box.lower.flatten(1), self.box.upper.flatten(1)

        def moved(step: Tensor) -> Tensor:
            return torch.clamp(point - step * direction, lower, upper)

        def fits(step: Tensor) -> Tensor:
            return (direction * moved(step)).sum(1, keepdim=True) <= bound

        corner = torch.where(direction > 0, lower, upper)
        reach = (point - corner) / torch.where(direction == 0, torch.inf, direction)
        low = torch.zeros_like(bound)
        high = reach.amax(1, keepdim=True)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            good = fits(middle)
            low, high = torch.where(good, low, middle), torch.where(good, middle, high)
        return torch.where(fits(torch.zeros_like(bound)), point, moved(high))

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch count *shape"]:
        """Draw points of the box, corners among them, and project them."""
        points = self.box.sample(count, generator)
        every = torch.arange(self.batch, device=self.device).repeat_interleave(count)
        return self.select(every).project(points.flatten(0, 1)).view(points.shape)

    def select(self, index: Tensor) -> Self:
        """Return the polytopes that an index tensor names."""
        return type(self)(self.box.select(index), self.matrix[index], self.bound[index])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the polytopes on a device and in a dtype, rounded outward.

        A half-space whose sums may overflow there becomes padding.
        """
        matrix = self.matrix.to(dtype)
        reach = torch.maximum(self.box.lower.abs(), self.box.upper.abs()).unsqueeze(1)
        change = (matrix.double() - self.matrix.double()).abs() * reach.double()
        # float64 sums of float64 terms: one part in 10^9 is far above their rounding error.
        slack = change.flatten(2).sum(2) * (1 + 1e-9)
        exact = (change == 0).flatten(2).all(2)
        loose = torch.where(exact, self.bound.double(), next_above(self.bound.double() + slack))
        bound = round_up(loose, dtype)
        # Four times: for differences of such sums.
        size = 4 * ((matrix.abs() * reach.to(dtype)).flatten(2).sum(2) + bound.abs())
        fits = size.isfinite()
        matrix = matrix.masked_fill(~fits.view(*fits.shape, *[1] * len(self.shape)), 0)
        bound = bound.masked_fill(~fits, 0)
        return type(self)(self.box.to(device, dtype), matrix.to(device), bound.to(device))
