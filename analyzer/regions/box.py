"""The axis-aligned box."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.regions.errors import EmptyBoxError
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import next_above, round_down, round_up


@dataclass(frozen=True, eq=False)
class Box(Region):
    """One axis-aligned box for each batch element, in the network's input units.

    Guarantee: `lower <= upper` elementwise, both finite; anything else raises `EmptyBoxError`.
    """

    lower: Float[Tensor, "batch *shape"]
    upper: Float[Tensor, "batch *shape"]

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_box(self.lower, self.upper)

    @cached_property
    def center(self) -> Float[Tensor, "batch *shape"]:
        """The middle."""
        # Halves first: the sum of two large bounds would overflow.
        return self.lower / 2 + self.upper / 2

    @cached_property
    def radius(self) -> Float[Tensor, "batch *shape"]:
        """How far to go from the centre: `center - radius <= lower`, `upper <= center + radius`.

        That holds over the reals.
        """
        radius = torch.maximum(self.upper - self.center, self.center - self.lower)
        # A difference of floats is 0 only if it is exact; any other may have been rounded down.
        return torch.where(radius > 0, next_above(radius), radius)

    def bounding_box(self) -> tuple[Tensor, Tensor]:
        """Return the box itself."""
        return self.lower, self.upper

    def minimum(self, rows: Float[Tensor, "batch rows *shape"]) -> Float[Tensor, "batch rows"]:
        """Return the minimum of each linear form, exact up to rounding."""
        flat = rows.flatten(2)
        middle = flat @ self.center.flatten(1).unsqueeze(2)
        spread = flat.abs() @ self.radius.flatten(1).unsqueeze(2)
        return (middle - spread).squeeze(2)

    def minimum_around(
        self, rows: Float[Tensor, "batch rows *shape"], center: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch rows"]:
        """Bound `rows · (x - center)` from below; exact up to rounding where it is the centre."""
        radius = torch.maximum(self.upper - center, center - self.lower)
        radius = torch.where(radius > 0, next_above(radius), radius)
        return -(rows.flatten(2).abs() @ radius.flatten(1).unsqueeze(2)).squeeze(2)

    def project(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Move points to the nearest ones of the boxes."""
        return torch.clamp(x, self.lower, self.upper)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch count *shape"]:
        """Draw points, every second one a corner of its box."""
        lower, upper = self.lower.unsqueeze(1), self.upper.unsqueeze(1)
        size = (self.batch, count, *self.shape)
        where = torch.rand(size, generator=generator, device=generator.device, dtype=lower.dtype)
        where = where.to(lower.device)
        where[:, 1::2] = where[:, 1::2].round()
        return torch.clamp(lower + where * (upper - lower), lower, upper)

    def select(self, index: Tensor) -> Self:
        """Return the boxes that an index tensor names."""
        return type(self)(self.lower[index], self.upper[index])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the boxes on a device and in a dtype, rounded outward."""
        return type(self)(
            round_down(self.lower, dtype).to(device), round_up(self.upper, dtype).to(device)
        )


def check_box(lower: Float[Tensor, "batch *shape"], upper: Float[Tensor, "batch *shape"]) -> None:
    """Raise unless `lower <= upper` elementwise, both finite."""
    if lower.numel():
        # No difference is negative, infinite or NaN: a third of the passes over memory.
        least, most = (upper - lower).aminmax()
        if bool((least >= 0) & most.isfinite()):
            return
    wrong = ~((lower <= upper) & lower.isfinite() & upper.isfinite())
    if not wrong.any():
        return
    element, *coordinate = wrong.nonzero()[0].tolist()
    low, high = lower[wrong][0].item(), upper[wrong][0].item()
    where = coordinate[0] if len(coordinate) == 1 else tuple(coordinate)
    if low > high:
        raise EmptyBoxError(
            f"box {element} is empty at coordinate {where}: lower = {low} > upper = {high}. "
            "An infeasible branch should be closed before its bounds are propagated."
        )
    raise EmptyBoxError(
        f"box {element} has no finite bounds at coordinate {where}: lower = {low}, upper = {high}. "
        "Bound every coordinate by finite numbers."
    )
