"""Means over a training: of a model's weights (Izmailov et al. 2018), of its moments."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn


@dataclass
class Average:
    """A running mean of parameters; with none added it stands for the model itself."""

    mean: dict[str, Tensor] = field(default_factory=dict)
    count: int = 0

    @classmethod
    def of(cls, state: Mapping[str, object]) -> "Average":
        """Return what `state` was taken of."""
        mean, count = state["mean"], state["count"]
        assert isinstance(mean, dict) and isinstance(count, int), "as `state` has written it"
        return cls(mean, count)

    def state(self) -> dict[str, object]:
        """Return what a checkpoint keeps."""
        return {"mean": self.mean, "count": self.count}

    @torch.no_grad()
    def add(self, model: nn.Module) -> None:
        """Count the present parameters in."""
        self.count += 1
        for name, parameter in model.named_parameters():
            mean = self.mean.setdefault(name, torch.zeros_like(parameter))
            mean += (parameter - mean) / self.count

    @contextmanager
    def inside(
        self, model: nn.Module, batches: Callable[[], Iterable[Tensor]], *, moments: bool = False
    ) -> Iterator[None]:
        """Give the model the mean for a while, and normalisations the moments that belong to it.

        These are the mean of the batches' moments; with `moments` even where no mean is taken.
        """
        if self.count == 0 and not moments:
            yield
            return
        own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        norms = [part for part in model.modules() if isinstance(part, _BatchNorm)]
        momenta, mode = [norm.momentum for norm in norms], model.training
        try:
            if self.count:
                model.load_state_dict(self.mean, strict=False)
            update_bn(batches(), model)
            yield
        finally:
            model.load_state_dict(own)
            # What is left of a pass over the batches that was cut short.
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            model.train(mode)
