"""Points of a set that a network does badly on, by projected gradient descent."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from absolver.analyzer.regions.region import Region

Network = Callable[[Tensor], Tensor]
"""From points `[batch, 1, *shape]` to logits `[batch, classes]`."""


@dataclass(frozen=True)
class Attack:
    """Projected gradient ascent on the cross-entropy (Madry et al. 2018), the best point kept.

    A step is a share of the set's half width; it is divided by ten after half and after three
    quarters of the steps where there are at least eight.
    """

    steps: int = 8
    restarts: int = 1
    step_size: float = 0.5

    def __call__(
        self, network: Network, region: Region, y: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return the worst point that was seen of each set."""
        best = worst = None
        for _ in range(self.restarts):
            x, loss = self._one(network, region, y, generator)
            if best is None or worst is None:
                best, worst = x, loss
                continue
            better = (loss > worst).view(-1, *(1 for _ in range(x.dim() - 1)))
            best, worst = torch.where(better, x, best), torch.maximum(loss, worst)
        assert best is not None, "an attack starts at least once"
        return best

    def _one(
        self, network: Network, region: Region, y: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        lower, upper = region.bounding_box()
        half = (upper - lower) / 2
        start = torch.rand(lower.shape, generator=generator, device=generator.device)
        x = region.project(lower + start.to(lower) * (upper - lower))
        for step in range(self.steps):
            x = x.detach().requires_grad_()
            loss = functional.cross_entropy(network(x), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x)
            x = region.project(x.detach() + self._length(step) * half * gradient.sign())
        if self.restarts == 1:
            return x.detach(), x.new_zeros(len(x))
        with torch.no_grad():
            return x.detach(), functional.cross_entropy(network(x), y, reduction="none")

    def _length(self, step: int) -> float:
        decays = sum(2 * step >= self.steps * part for part in (1, 1.5)) if self.steps >= 8 else 0
        return self.step_size * 0.1**decays
