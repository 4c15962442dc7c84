"""Lightning's trainers do with a certified loss what a loop written by hand does."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from absolver.analyzer.training.loss import CertifiedLoss
from absolver.analyzer.training.perturbations import Perturbation
from absolver.analyzer.training.schedules import Linear
from absolver.analyzer.training.terms.certified import Certified
from absolver.analyzer.training.terms.term import Natural

lightning = pytest.importorskip("pytorch_lightning")

# Lightning's advice on workers and devices, and what it still calls of torch.
pytestmark = [pytest.mark.filterwarnings("ignore")]
JUDGED = Perturbation(0.05)


def _model() -> nn.Sequential:
    torch.manual_seed(4)
    hidden = nn.Sequential(nn.Linear(6, 10), nn.BatchNorm1d(10), nn.ReLU())
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(10, 3))


def _points() -> TensorDataset:
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(60, 1, 6, generator=generator)
    return TensorDataset(x, x.flatten(1)[:, :3].argmax(1))


def _loss(model: nn.Module) -> CertifiedLoss:
    ramp = Perturbation(Linear(0.0, 0.05, 0, 20))
    return CertifiedLoss(model, "interval", ramp, 0.5 * Natural() + 0.5 * Certified())


def _module(model: nn.Module) -> Any:  # noqa: ANN401 - its class exists where Lightning does
    from absolver.analyzer.training.lightning import CertifiedModule

    return CertifiedModule(
        _loss(model),
        lambda parameters: torch.optim.Adam(parameters, 0.05),
        JUDGED,
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5),
    )


def _trainer(folder: Path, epochs: int) -> Any:  # noqa: ANN401
    return lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _by_hand(epochs: int) -> nn.Sequential:
    model = _model()
    loss = _loss(model)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    for _ in range(epochs):
        for x, y in DataLoader(_points(), 20):
            optimizer.zero_grad()
            loss(x, y)[0].backward()
            optimizer.step()
        scheduler.step()
    return model


def test_a_trainer_ends_with_the_model_of_a_loop(tmp_path: Path) -> None:
    module, batches = _module(_model()), DataLoader(_points(), 20)
    trainer = _trainer(tmp_path, 3)
    trainer.fit(module, batches, batches)
    torch.testing.assert_close(module.loss.model.state_dict(), _by_hand(3).state_dict())
    rates = {name: float(rate) for name, rate in trainer.callback_metrics.items()}
    assert rates["validation_natural"] > 0.5
    assert 0 < rates["validation_certified"] <= rates["validation_natural"]
    (tested,) = trainer.test(module, batches, verbose=False)
    assert tested["test_certified"] == pytest.approx(rates["validation_certified"])


def test_a_checkpoint_goes_on_at_its_step_of_the_schedules(tmp_path: Path) -> None:
    batches = DataLoader(_points(), 20)
    trainer = _trainer(tmp_path, 1)
    trainer.fit(_module(_model()), batches, batches)
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    module = _module(copy.deepcopy(_model()))
    _trainer(tmp_path, 3).fit(module, batches, batches, ckpt_path=tmp_path / "first.ckpt")
    assert int(module.loss.step) == 9
    torch.testing.assert_close(module.loss.model.state_dict(), _by_hand(3).state_dict())
