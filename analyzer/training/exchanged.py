"""Which few inputs change a linear form the most, for many forms and points at a time."""

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

# Gains of a few megabytes at a time, which stay in a CPU's cache.
_MOST_GAINS = 1 << 20
# A row's order is looked at this many budgets deep; the few rows that need more of it have all of
# their inputs looked at.
_DEPTH = 4


def best_choices(
    weight: Float[Tensor, "rows inputs"],
    down: Float[Tensor, "batch inputs"],
    width: Float[Tensor, "batch inputs"],
    budget: int,
    slack: float = 0.0,
) -> Int[Tensor, "batch rows budget"]:
    """Choose the inputs of the largest gains `max(w, 0) down + max(-w, 0) (width - down)`.

    That is `w down + max(-w, 0) width`, whose second part is nearly always the same for all points:
    widths that differ by at most `slack`, as rounding makes them, are taken for the same. Where
    `down` is 0, as at the background of drawn digits, there is no first part either, so that one
    order of a row's inputs serves all points.
    """
    common = bool((width - width[:1]).abs().max() <= slack)
    fixed = torch.relu(-weight) * width[:1].unsqueeze(1) if common else None
    if fixed is not None and budget > 1 and _suits_sorting(weight, down):
        return _among_drawn(weight, fixed[0], down, budget)
    size = max(1, _MOST_GAINS // weight.numel())
    chosen = []
    for below, across in zip(
        torch.split(down.unsqueeze(1), size), torch.split(width.unsqueeze(1), size), strict=True
    ):
        own = torch.relu(-weight) * across if fixed is None else fixed
        gains = torch.addcmul(own, weight, below)
        if budget == 1:
            chosen.append(gains.argmax(2, keepdim=True))
        else:
            chosen.append(gains.topk(budget, dim=2, sorted=False).indices)
    return torch.cat(chosen)


def _suits_sorting(weight: Tensor, down: Tensor) -> bool:
    """Say whether few inputs have some `down`, and keys of 64 bits hold gains, where numpy is."""
    sparse = 5 * down.count_nonzero() < 2 * down.numel()
    return bool(sparse) and weight.device.type == "cpu" and weight.dtype == torch.float32


def _among_drawn(weight: Tensor, fixed: Tensor, down: Tensor, budget: int) -> Tensor:
    """Choose among the inputs with `down`, and the first of a row's order that have none.

    A key is a gain's bits above its input's number. Sorting keys is what numpy does with vector
    instructions, at a sixth of the time of torch's `topk`.
    """
    order = fixed.argsort(dim=1, descending=True)
    columns, fixed_columns = (x.T.contiguous().numpy() for x in (weight, fixed))
    names = order[:, : _DEPTH * budget].contiguous()
    first, first_keys = names.numpy(), _keys(fixed.gather(1, names).numpy(), names.numpy())
    chosen = np.empty((len(down), len(weight), budget), np.int64)
    for point, row in zip(down.numpy(), chosen, strict=True):
        drawn = point != 0
        taken = drawn.take(first)
        (number,) = drawn.nonzero()
        gains = columns.take(number, 0) * point[number, None] + fixed_columns.take(number, 0)
        keys = np.hstack([_keys(gains.T, number), np.where(taken, np.int64(-1), first_keys)])
        keys.sort(axis=1)
        row[:] = keys[:, -budget:] & 0xFFFFFFFF
        short = first.shape[1] - taken.sum(1) < budget
        if short.any():
            some = torch.from_numpy(short)
            gains = torch.addcmul(fixed[some], weight[some], torch.from_numpy(point))
            row[short] = gains.topk(budget, dim=1, sorted=False).indices.numpy()
    return torch.from_numpy(chosen)


def _keys(gains: NDArray[np.float32], names: NDArray[np.int64]) -> NDArray[np.int64]:
    """Put gains above names, in integers of their order; below 0 they are only by rounding."""
    bits = np.maximum(np.ascontiguousarray(gains).view(np.int32), 0).astype(np.int64)
    keys: NDArray[np.int64] = (bits << 32) | names
    return keys
