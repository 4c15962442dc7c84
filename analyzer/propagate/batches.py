"""How neurons that are wanted are split into groups that fit into memory."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def batches(
    wanted: Bool[Tensor, "batch n"], most: int
) -> Iterator[tuple[slice, Int[Tensor, "group rows"], Bool[Tensor, "group rows"]]]:
    """Split the wanted neurons into groups of consecutive elements, at most so many in a group.

    Elements of a group have their neurons padded to the group's largest count; the third tensor
    says which are real.
    """
    batch = wanted.shape[0]
    counts = wanted.sum(1).tolist()
    # Wanted neurons first, in order: a stable sort of the mask.
    order = wanted.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    start = 0
    while start < batch:
        end = start + 1
        largest = counts[start]
        while end < batch and max(largest, counts[end]) * (end + 1 - start) <= most:
            largest = max(largest, counts[end])
            end += 1
        for first in range(0, largest, most):
            last = min(first + most, largest)
            neurons = order[start:end, first:last]
            real = wanted[start:end].gather(1, neurons)
            yield slice(start, end), neurons, real
        start = end
