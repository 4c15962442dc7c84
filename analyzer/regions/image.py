"""Affine images of other sets: zonotopes, and changes of few parameters."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import add_up, next_above, next_below, round_up


@dataclass(frozen=True, eq=False)
class AffineImage(Region):
    """The points `offset + sum of t_j * matrix_j + e` for t in `source` and `|e| <= radius`.

    `source` has points of one axis, the parameters.
    """

    source: Region
    matrix: Float[Tensor, "batch parameters *shape"]
    offset: Float[Tensor, "batch *shape"]
    radius: Float[Tensor, "batch *shape"]

    @property
    def _like(self) -> Tensor:
        return self.offset

    def bounding_box(self) -> tuple[Tensor, Tensor]:
        """Return the smallest box around each image, rounded outward."""
        return self._bounding_box

    @cached_property
    def _bounding_box(self) -> tuple[Tensor, Tensor]:
        rows = self.matrix.flatten(2).transpose(1, 2)
        offset, radius = self.offset.flatten(1), self.radius.flatten(1)
        low, high = self.source.minimum(rows), -self.source.minimum(-rows)
        least, most = self.source.bounding_box()
        reach = torch.maximum(least.abs(), most.abs()).unsqueeze(2)
        size = (rows.abs() @ reach).squeeze(2) + offset.abs() + radius
        # Twice gamma of a sum over the parameters, for both sums of `minimum`.
        error = 2 * (rows.shape[2] + 4) * torch.finfo(self.dtype).eps * size
        lower, upper = offset + low - radius - error, offset + high + radius + error
        shape = self.offset.shape
        return next_below(lower).view(shape), next_above(upper).view(shape)

    def minimum(self, rows: Float[Tensor, "batch rows *shape"]) -> Float[Tensor, "batch rows"]:
        """Return the minimum of each linear form, as exact as the source's own."""
        return self._minimum(rows, self.offset)

    def minimum_around(
        self, rows: Float[Tensor, "batch rows *shape"], center: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch rows"]:
        """Return the minimum of `rows · (x - center)`, as exact as the source's own."""
        return self._minimum(rows, self.offset - center)

    def _minimum(self, rows: Tensor, start: Tensor) -> Tensor:
        flat = rows.flatten(2)
        value = (flat @ start.flatten(1).unsqueeze(2)).squeeze(2)
        value = value - (flat.abs() @ self.radius.flatten(1).unsqueeze(2)).squeeze(2)
        return value + self.source.minimum(flat @ self.matrix.flatten(2).transpose(1, 2))

    @torch.no_grad()
    def project(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Move points to near ones: the nearest parameters, then the nearest point around them."""
        columns = self.matrix.flatten(2).transpose(1, 2)
        change = (x - self.offset).flatten(1).unsqueeze(2)
        parameters = (torch.linalg.pinv(columns) @ change).squeeze(2)
        middle = self._map(self.source.project(parameters))
        return torch.clamp(x, middle - self.radius, middle + self.radius)

    def _map(self, parameters: Float[Tensor, "batch parameters"]) -> Tensor:
        moved = (parameters.unsqueeze(1) @ self.matrix.flatten(2)).squeeze(1)
        return self.offset + moved.view(self.offset.shape)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch count *shape"]:
        """Draw images of the source's points, every second one at a corner of the radius."""
        every = torch.arange(self.batch, device=self.device).repeat_interleave(count)
        many = self.select(every)
        middle = many._map(self.source.sample(count, generator).flatten(0, 1))
        noise = Box(-torch.ones_like(self.offset), torch.ones_like(self.offset))
        around = noise.sample(count, generator).flatten(0, 1) * many.radius
        return (middle + around).view(self.batch, count, *self.shape)

    def select(self, index: Tensor) -> Self:
        """Return the images that an index tensor names."""
        parts = (self.matrix[index], self.offset[index], self.radius[index])
        return type(self)(self.source.select(index), *parts)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the images on a device and in a dtype, with radii that cover the rounding."""
        matrix, offset = self.matrix.to(dtype), self.offset.to(dtype)
        least, most = self.source.bounding_box()
        reach = torch.maximum(least.abs(), most.abs()).double().unsqueeze(1)
        change = (matrix.double() - self.matrix.double()).abs().flatten(2)
        moved = (reach @ change).squeeze(1).view(self.offset.shape)
        moved = moved + (offset.double() - self.offset.double()).abs()
        # float64 sums: one part in 10^9 is far above their rounding error.
        radius = round_up(add_up(self.radius.double(), moved * (1 + 1e-9)), dtype)
        parts = (part.to(device) for part in (matrix, offset, radius))
        return type(self)(self.source.to(device, dtype), *parts)


def zonotope(
    center: Float[Tensor, "batch *shape"], generators: Float[Tensor, "batch symbols *shape"]
) -> AffineImage:
    """Return the zonotope of a centre and generators: the image of the unit cube of symbols."""
    one = torch.ones(generators.shape[:2], dtype=center.dtype, device=center.device)
    return AffineImage(Box(-one, one), generators, center, torch.zeros_like(center))
