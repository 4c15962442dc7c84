"""Elementwise steps over pieces of tensors that stay in a CPU's cache."""

from collections.abc import Callable
from itertools import repeat
from math import prod

import torch
from torch import Tensor

# Elements of the largest piece: some five of them fit a few megabytes of cache.
_PIECE = 1 << 17


def in_pieces(step: Callable[..., None], *tensors: Tensor | None) -> None:
    """Run a step on tensors, one piece of their common first axis after the other.

    The step writes its results into some of the pieces; None stays None. On a GPU there is one
    piece.
    """
    some = [tensor for tensor in tensors if tensor is not None]
    widest = max(prod(tensor.shape[1:]) for tensor in some)
    size = max(1, _PIECE // max(1, widest))
    if some[0].device.type != "cpu" or size >= len(some[0]):
        step(*tensors)
        return
    parts = (repeat(None) if tensor is None else torch.split(tensor, size) for tensor in tensors)
    for pieces in zip(*parts, strict=False):
        step(*pieces)
