"""What may happen to an input: a set around each point, whose size may change while training."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from absolver.analyzer.regions.ball import Ball
from absolver.analyzer.regions.ball_in_box import BallInBox
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.sparse import FewPixels
from absolver.analyzer.training.errors import TrainingError
from absolver.analyzer.training.schedules import Number, stretch

Norm = Literal["inf", "2", "1", "0"]


@dataclass(frozen=True)
class Perturbation:
    """All points within a distance in a norm, and within the limits of the data.

    In the norm 0 the size is a number of pixels, which may take any value within the limits;
    `reach` is how much of the way there they go, so that a training can begin with small changes.
    """

    size: Number
    norm: Norm = "inf"
    limits: tuple[float, float] | None = (0.0, 1.0)
    reach: Number = 1.0

    def __post_init__(self) -> None:
        """Check that pixels have limits."""
        if self.norm == "0" and self.limits is None:
            raise TrainingError(
                "a perturbation of pixels (norm 0) needs the limits of their values"
            )

    def stretched(self, factor: float) -> "Perturbation":
        """Multiply the times of both schedules."""
        return replace(self, size=stretch(self.size, factor), reach=stretch(self.reach, factor))

    def around(self, x: Tensor, size: float, reach: float = 1.0) -> Region:
        """Return the sets around points `[batch, 1, *shape]` of the data."""
        limits = None
        if self.limits is not None:
            # A point outside of the limits, as rounding leaves some, still belongs to its set.
            low, high = self.limits
            limits = x.clamp(max=low), x.clamp(min=high)
        match self.norm:
            case "inf":
                lower, upper = x - size, x + size
                if limits is None:
                    return Box(lower, upper)
                return Box(torch.maximum(lower, limits[0]), torch.minimum(upper, limits[1]))
            case "0":
                assert limits is not None, "checked above"
                reached = Box(*(x + reach * (limit - x) for limit in limits))
                # Channels of an image `[1, channels, height, width]` change together.
                axis = 1 if x.dim() == 5 and x.shape[2] > 1 else None
                return FewPixels(Box(x, x), reached, round(size), axis)
        ball = Ball(x, x.new_full((len(x),), size), int(self.norm))
        return ball if limits is None else BallInBox(ball, Box(*limits))
