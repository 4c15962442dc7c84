"""A thin adapter: a certified loss as a module that PyTorch Lightning's trainers take."""

from collections.abc import Callable, Iterable

import pytorch_lightning as lightning
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from absolver import domains
from absolver.analyzer.training.accuracy import Judge
from absolver.analyzer.training.datasets import Labelled
from absolver.analyzer.training.loss import CertifiedLoss
from absolver.analyzer.training.perturbations import Perturbation
from absolver.dsl.domain import Domain

Points = tuple[Float[Tensor, "batch *shape"], Int[Tensor, " batch"]]


class CertifiedModule(lightning.LightningModule):
    """A certified loss, what minimises it, and what its model is judged by.

    Batches are pairs of points and labels. Logged in training are the loss's statistics; in
    validation and tests the natural accuracy, `natural`, and that by a domain, `certified`, which
    is in floats. Schedules of the loss count its steps, of which a checkpoint keeps the number.
    """

    def __init__(
        self,
        loss: CertifiedLoss,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        judged: Perturbation,
        *,
        domain: str | Domain = "crown & interval",
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> None:
        """Describe a training; a scheduler, where there is one, is stepped after each epoch."""
        super().__init__()
        self.loss = loss
        self._optimizer, self._scheduler = optimizer, scheduler
        self._judged = judged
        self._domain = domains.load(domain) if isinstance(domain, str) else domain

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch classes"]:
        """Return the model's outputs."""
        outputs: Tensor = self.loss.model(x)
        return outputs

    def training_step(self, batch: Points, _index: int) -> Tensor:
        """Return the loss of a batch."""
        value: Tensor
        value, statistics = self.loss(*batch)
        self.log_dict(dict(statistics), prog_bar=True, batch_size=len(batch[1]))
        return value

    def validation_step(self, batch: Points, _index: int) -> None:
        """Log accuracies of a batch."""
        self._judge("validation", batch)

    def test_step(self, batch: Points, _index: int) -> None:
        """Log accuracies of a batch."""
        self._judge("test", batch)

    def configure_optimizers(self) -> dict[str, Optimizer | LRScheduler]:
        """Make the optimizer, and the scheduler, of the model's parameters."""
        optimizer = self._optimizer(self.loss.model.parameters())
        if self._scheduler is None:
            return {"optimizer": optimizer}
        return {"optimizer": optimizer, "lr_scheduler": self._scheduler(optimizer)}

    def _judge(self, stage: str, batch: Points) -> None:
        # Trainers evaluate in inference mode, whose tensors training could not use: the graph
        # that is read here would have some.
        with torch.inference_mode(False), torch.no_grad():
            points = Labelled(batch[0].clone(), batch[1].clone())
            judge = Judge(self.loss.live(points.x), self._judged, len(points))
            found = {"natural": judge.natural(points)}
            found["certified"] = found["natural"] & judge.certified(points, self._domain)
        rates = {f"{stage}_{name}": right.float().mean() for name, right in found.items()}
        self.log_dict(rates, prog_bar=True, on_epoch=True, on_step=False, batch_size=len(points))
