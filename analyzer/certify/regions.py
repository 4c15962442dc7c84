"""Input sets as the checker bounds linear forms over them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.regions.ball_in_box import BallInBox
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.region import Region


@dataclass(frozen=True, eq=False)
class BallAndBox(BallInBox):
    """A ball cut by a box, whose forms are bounded over the one or over the other."""

    def minimum(self, rows: Float[Tensor, "batch rows *shape"]) -> Float[Tensor, "batch rows"]:
        """Return the better of the minima over the ball and over the box."""
        return torch.maximum(self.ball.minimum(rows), self.box.minimum(rows))

    def minimum_around(
        self, rows: Float[Tensor, "batch rows *shape"], center: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch rows"]:
        """Return the better of the minima of `rows · (x - center)`."""
        return torch.maximum(
            self.ball.minimum_around(rows, center), self.box.minimum_around(rows, center)
        )


def as_checked(region: Region) -> Region:
    """Return the set over which the checker bounds rows: it is at least as large."""
    match region:
        case BallInBox(ball=ball, box=box):
            return BallAndBox(ball, box)
        case Polytope(box=box):
            return box
    return region
