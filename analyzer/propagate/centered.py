"""Centre and width of boxes through affine maps, with gradients of a pass over memory each."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Pair = tuple[Float[Tensor, "batch *shape"], Float[Tensor, "batch *shape"]]


def center_and_width(lower: Tensor, upper: Tensor) -> Pair:
    """Return a box's centre and its width."""
    apply: Callable[..., Pair] = _CenterAndWidth.apply
    return apply(lower, upper)


def ends(center: Tensor, width: Tensor) -> Pair:
    """Return the lower and the upper end of a box from its centre and its width."""
    apply: Callable[..., Pair] = _Ends.apply
    return apply(center, width)


class _CenterAndWidth(torch.autograd.Function):
    """Half the sum of two ends, and their difference."""

    @staticmethod
    def forward(ctx: Any, lower: Tensor, upper: Tensor) -> Pair:  # noqa: ANN401
        """Compute both."""
        return torch.lerp(lower, upper, 0.5), upper - lower

    @staticmethod
    def backward(ctx: Any, in_center: Tensor, in_width: Tensor) -> Pair:  # noqa: ANN401
        """Return half the centre's gradient less or more the width's."""
        in_upper = torch.add(in_width, in_center, alpha=0.5)
        return in_center - in_upper, in_upper


class _Ends(torch.autograd.Function):
    """The centre less and more half the width."""

    @staticmethod
    def forward(ctx: Any, center: Tensor, width: Tensor) -> Pair:  # noqa: ANN401
        """Compute both."""
        return torch.sub(center, width, alpha=0.5), torch.add(center, width, alpha=0.5)

    @staticmethod
    def backward(ctx: Any, in_lower: Tensor, in_upper: Tensor) -> Pair:  # noqa: ANN401
        """Return the sum, and half the difference: the upper one less half the sum."""
        in_center = in_lower + in_upper
        return in_center, torch.sub(in_upper, in_center, alpha=0.5)
