"""Images shifted and mirrored at random."""

import torch
from torch import Tensor
from torch.nn import functional


def augmented(x: Tensor, shift: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Shift images by up to `shift` pixels each way, their edges repeated, and mirror half."""
    if x.dim() != 4 or not (shift or flip):
        return x
    count, _, height, width = x.shape
    if flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        x = torch.where(mirrored.view(-1, 1, 1, 1), x.flip(3), x)
    if shift:
        padded = functional.pad(x, [shift] * 4, mode="replicate")
        top, left = torch.randint(2 * shift + 1, (2, count, 1), generator=generator)
        rows = (top + torch.arange(height)).view(count, 1, height, 1)
        columns = (left + torch.arange(width)).view(count, 1, 1, width)
        images = torch.arange(count).view(-1, 1, 1, 1)
        channels = torch.arange(x.shape[1]).view(1, -1, 1, 1)
        x = padded[images, channels, rows, columns]
    return x
