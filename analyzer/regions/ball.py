"""Balls of the 1-norm and the 2-norm."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.regions.errors import EmptyRegionError
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import add_up, next_above, round_up, subtract_down


@dataclass(frozen=True, eq=False)
class Ball(Region):
    """One closed ball of the 1-norm or the 2-norm for each batch element.

    The ball of the maximum norm is a `Box`.
    """

    center: Float[Tensor, "batch *shape"]
    radius: Float[Tensor, "batch"]
    norm: int

    def __post_init__(self) -> None:
        """Check the norm and the radii."""
        if self.norm not in (1, 2):
            raise EmptyRegionError(f"a ball has the norm 1 or 2, not {self.norm}")
        if not (self.radius.isfinite() & (self.radius >= 0)).all():
            raise EmptyRegionError(
                f"a ball has a finite radius that is not negative, not {self.radius.tolist()}"
            )

    @property
    def _like(self) -> Tensor:
        return self.center

    def bounding_box(self) -> tuple[Tensor, Tensor]:
        """Return the smallest box around each ball, rounded outward."""
        radius = self.radius.view(-1, *(1 for _ in self.shape))
        return subtract_down(self.center, radius), add_up(self.center, radius)

    def minimum(self, rows: Float[Tensor, "batch rows *shape"]) -> Float[Tensor, "batch rows"]:
        """Return the minimum of each linear form, exact up to rounding (Hölder's inequality)."""
        at_center = (rows.flatten(2) @ self.center.flatten(1).unsqueeze(2)).squeeze(2)
        return at_center - self._spread(rows)

    def minimum_around(
        self, rows: Float[Tensor, "batch rows *shape"], center: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch rows"]:
        """Return the minimum of `rows · (x - center)`, exact up to rounding."""
        shift = (self.center - center).flatten(1).unsqueeze(2)
        return (rows.flatten(2) @ shift).squeeze(2) - self._spread(rows)

    def _spread(self, rows: Tensor) -> Tensor:
        """Return the radius times the dual norm of each row."""
        flat = rows.flatten(2).abs()
        largest = flat.amax(2)
        if self.norm == 1:
            return largest * self.radius.unsqueeze(1)
        # Squares of the entries themselves could underflow, and the norm would be too small.
        scale = torch.where(largest > 0, largest, 1).detach()
        scaled: Tensor = torch.linalg.vector_norm(flat / scale.unsqueeze(2), dim=2)
        return scale * scaled * self.radius.unsqueeze(1)

    @torch.no_grad()
    def project(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Move points outside to the nearest ones of a ball smaller by the rounding error.

        Guarantee: the result lies in the ball, exactly.
        """
        offset, radius = (x - self.center).flatten(1), self.inner_radius().unsqueeze(1)
        size = torch.linalg.vector_norm(offset, ord=self.norm, dim=1, keepdim=True)
        if self.norm == 2:
            nearest = offset * (radius / torch.where(size > 0, size, 1))
        else:
            nearest = _project_cross(offset, radius)
        inside = torch.where(size <= radius, offset, nearest)
        return self.center + inside.view(self.center.shape)

    def inner_radius(self) -> Float[Tensor, "batch"]:
        """Return a radius so small that rounding a point inside does not leave the ball."""
        flat = self.center.flatten(1)
        size: Tensor = torch.linalg.vector_norm(flat, ord=self.norm, dim=1)
        # Adding the centre costs half a unit of each coordinate, the norm a sum of n terms.
        slack = torch.finfo(self.dtype).eps * (size + (flat.shape[1] + 4) * self.radius)
        return (self.radius - slack).clamp(min=0)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch count *shape"]:
        """Draw points, every second one on the sphere; for the 1-norm a corner."""
        size = (self.batch, count, self.center[0].numel())
        direction = torch.randn(size, generator=generator, device=generator.device).to(self._like)
        if self.norm == 1:
            direction[:, 1::2] *= torch.nn.functional.one_hot(
                direction[:, 1::2].abs().argmax(2), size[2]
            )
        direction = torch.nn.functional.normalize(direction, p=self.norm, dim=2)
        length = torch.rand(size[:2], generator=generator, device=generator.device).to(self._like)
        length[:, 1::2] = 1
        points = direction * length.unsqueeze(2) * self.radius.view(-1, 1, 1)
        points = points.view(self.batch, count, *self.shape) + self.center.unsqueeze(1)
        every = torch.arange(self.batch, device=self.device).repeat_interleave(count)
        return self.select(every).project(points.flatten(0, 1)).view(points.shape)

    def select(self, index: Tensor) -> Self:
        """Return the balls that an index tensor names."""
        return type(self)(self.center[index], self.radius[index], self.norm)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the balls on a device and in a dtype, with radii that cover the rounding."""
        center = self.center.to(dtype)
        moved = (center.double() - self.center.double()).flatten(1)
        distance = torch.linalg.vector_norm(moved, ord=self.norm, dim=1)
        # float64 norms of n terms: one part in 10^9 is far above their rounding error.
        radius = add_up(self.radius.double(), distance * (1 + 1e-9))
        return type(self)(center.to(device), round_up(radius, dtype).to(device), self.norm)


def _project_cross(offset: Tensor, radius: Tensor) -> Tensor:
    """Project onto the 1-norm ball by soft thresholding (Duchi et al. 2008, figure 1)."""
    size = offset.abs().sort(dim=1, descending=True).values
    rank = torch.arange(1, size.shape[1] + 1, device=size.device, dtype=size.dtype)
    excess = (size.cumsum(1) - radius) / rank
    # The threshold is the excess at the last rank whose entry stays positive.
    last = (size > excess).sum(1, keepdim=True).clamp(min=1) - 1
    threshold = next_above(excess.gather(1, last).clamp(min=0))
    return offset.sign() * (offset.abs() - threshold).clamp(min=0)
