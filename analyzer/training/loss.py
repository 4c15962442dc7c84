"""The loss of a certified training, as a torch module."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from absolver import domains
from absolver.analyzer.training.batch import Batch
from absolver.analyzer.training.errors import TrainingError
from absolver.analyzer.training.live import LiveGraph
from absolver.analyzer.training.perturbations import Perturbation
from absolver.analyzer.training.terms.term import Term
from absolver.dsl.domain import Domain

Norms = Literal["clean-batch", "eval"]
"""Whose moments batch normalisations use: those of the clean batch, or the running ones."""


class CertifiedLoss(nn.Module):
    """A loss of a module's parameters that any declared domain may enter, one of a user's too.

    `loss(x, y)` gives (loss, statistics). In training mode each call is one step for schedules,
    which count in steps; the number of steps is all that it has of state. With the default
    "clean-batch" the moments of batch normalisations are those of the batch `x`, with their
    gradients, in every evaluation of the step: of bounds, of attacks, of attacked points; and only
    the clean batch updates the running ones.
    """

    step: Tensor

    def __init__(
        self,
        model: nn.Module | LiveGraph,
        domain: str | Domain,
        spec: Perturbation,
        combine: Term,
        *,
        batch_norm: Norms = "clean-batch",
        seed: int = 0,
    ) -> None:
        """Describe the loss; a model is read when the first batch shows what it takes.

        Losses may share what was read already, a `LiveGraph`.
        """
        super().__init__()
        self._live = model if isinstance(model, LiveGraph) else None
        self.model = model.module if isinstance(model, LiveGraph) else model
        self.domain = domains.load(domain) if isinstance(domain, str) else domain
        self.spec = spec
        self.combine = combine
        self.batch_norm = batch_norm
        self.generator = torch.Generator().manual_seed(seed)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean loss of a batch, and what people want to know of it."""
        batch = self.batch(x, y)
        loss = self.combine(batch).mean()
        if self.training:
            self.step += 1
        accuracy = (batch.clean.detach().argmax(1) == y).float().mean()
        return loss, {"loss": loss.detach(), "natural": accuracy, **batch.seen}

    def batch(self, x: Tensor, y: Tensor) -> Batch:
        """Evaluate the model on a batch, and prepare everything that losses may ask for."""
        live = self.live(x)
        clean, graph = live.clean(x, batch_moments=self.batch_norm == "clean-batch")
        parts = x.unsqueeze(1), y, clean.flatten(1), self.domain, self.spec
        return Batch(graph, *parts, float(self.step), self.generator)

    def live(self, x: Tensor) -> LiveGraph:
        """Return the model as a graph for inputs like `x`."""
        shape = tuple(x.shape[1:])
        if self._live is None:
            self._live = LiveGraph(self.model, shape)
        if self._live.shape != shape:
            raise TrainingError(
                f"the model was read for inputs of shape {self._live.shape}, not {shape}"
            )
        return self._live

    def get_extra_state(self) -> Tensor:
        """Return the state of the random numbers of attacks."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Go on with the random numbers of attacks."""
        self.generator.set_state(state.cpu())
