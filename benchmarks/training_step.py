"""Milliseconds of a step of certified training, beside auto_LiRPA on the same networks."""

import argparse
import copy
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from measure import interleaved
from rival import load_auto_lirpa
from torch import Tensor, nn
from torch.nn import functional

from absolver.analyzer.training.attacks import Attack
from absolver.analyzer.training.initialisation import initialise_for_intervals
from absolver.analyzer.training.loss import CertifiedLoss
from absolver.analyzer.training.models import build_model
from absolver.analyzer.training.perturbations import Perturbation
from absolver.analyzer.training.terms.certified import Certified, CrownIbp, SmallBoxes
from absolver.analyzer.training.terms.expressive import MtlIbp
from absolver.analyzer.training.terms.fusion import FusedCrownIbp
from absolver.analyzer.training.terms.term import Natural, Term

GOAL = 0.7
SIZE = 0.1
SHAPE = (1, 28, 28)
LOSSES: Mapping[str, tuple[Term, str]] = {
    # ours, and the rival's method that it is compared with
    "IBP": (Certified(), "IBP"),
    "CROWN-IBP": (CrownIbp(0.5), "CROWN-IBP"),
    "CROWN-IBP fused": (FusedCrownIbp(0.5), "fused"),
    "MTL-IBP, 1 step": (MtlIbp(0.1, Attack(1)), "IBP"),
    "SABR, 8 steps": (Certified(inside=SmallBoxes(0.4, Attack(8))), "IBP"),
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    model: str
    classes: int
    loss: str
    ours_ms: float
    theirs_ms: float | None


def our_step(model: nn.Module, combine: Term, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """Prepare a step: the loss with the natural one beside it, its gradients, Adam."""
    mixed = 0.3 * Natural() + 0.7 * combine
    loss = CertifiedLoss(model.train(), "interval", Perturbation(SIZE), mixed)
    optimizer = torch.optim.Adam(model.parameters())

    def step() -> Tensor:
        optimizer.zero_grad()
        value, _ = loss(x, y)
        value.backward()
        optimizer.step()
        return value.detach()

    return step


class FusedLoss(nn.Module):
    """auto_LiRPA's `CrossEntropyWrapper`, whose gather it cannot read from a torch this new."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap a model."""
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, one_hot: Tensor) -> Tensor:
        """Return the sum of exp(z_j - z_y)."""
        logits = self.model(x)
        own = (logits * one_hot).sum(1, keepdim=True)
        return torch.exp(logits - own).sum(1, keepdim=True)


def rival_step(
    library: ModuleType, model: nn.Module, method: str, x: Tensor, y: Tensor
) -> Callable[[], Tensor]:
    """Prepare auto_LiRPA's step as its `examples/vision/cifar_training.py` has it."""
    fused, module = method == "fused", model
    classes = model[-1].out_features
    one_hot = functional.one_hot(y, classes).to(x)
    example: Any = x[:1]
    if fused:
        module, example = FusedLoss(model), (x[:1], one_hot[:1])
    options = {"conv_mode": "matrix", "loss_fusion": fused}
    bounded = library.BoundedModule(module, example, bound_opts=options)
    bounded.train()
    identity = torch.eye(classes)
    rows = identity[y].unsqueeze(1) - identity.unsqueeze(0)
    rows = rows[~torch.eye(classes, dtype=torch.bool)[y]].view(len(y), classes - 1, classes)
    optimizer = torch.optim.Adam(bounded.parameters())
    lower, upper = (x - SIZE).clamp(min=0), (x + SIZE).clamp(max=1)
    exponential = [n for n in bounded.modules() if type(n).__name__ == "BoundExp"]

    def bounds(given: tuple[Tensor, ...] | None) -> Tensor:
        spec: dict[str, Any] = {"C": None if fused else rows, "x": given}
        low, high = bounded.compute_bounds(IBP=True, method=None, **spec)
        if method != "IBP":
            spec["x"] = None
            sides = {"bound_lower": not fused, "bound_upper": fused}
            crown = bounded.compute_bounds(IBP=False, method="backward", **spec, **sides)
            low, high = (
                None if c is None or i is None else (c + i) / 2
                for c, i in zip(crown, (low, high), strict=True)
            )
        if fused:
            return torch.log(high).mean() + exponential[0].max_input.mean()
        padded = torch.cat([low.new_zeros(len(low), 1), low], dim=1)
        return functional.cross_entropy(-padded, torch.zeros_like(y))

    def step() -> Tensor:
        optimizer.zero_grad()
        ball = library.PerturbationLpNorm(norm=float("inf"), x_L=lower, x_U=upper)
        point = library.BoundedTensor(x, ball)
        if fused:
            natural = torch.log(bounded(point, one_hot)).mean()
            value = 0.3 * natural + 0.7 * bounds((point, one_hot))
        else:
            natural = functional.cross_entropy(bounded(point), y)
            value = 0.3 * natural + 0.7 * bounds((point,))
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def measured(
    library: ModuleType | None, name: str, classes: int, loss: str, options: argparse.Namespace
) -> Row:
    """Time one loss on one network, both sides in turn."""
    torch.manual_seed(0)
    x = torch.rand(options.batch, *SHAPE)
    y = torch.randint(classes, (options.batch,))
    combine, method = LOSSES[loss]
    model = build_model(name, SHAPE, classes)
    initialise_for_intervals(model)  # as trainings by intervals begin; both sides alike
    sides = {"ours": our_step(copy.deepcopy(model), combine, x, y)}
    if library is not None:
        sides["theirs"] = rival_step(library, model, method, x, y)
    found = interleaved(sides, "cpu", options.repeats, options.seconds)
    theirs = found.get("theirs")
    seconds = None if theirs is None else 1000 * theirs.seconds
    return Row(name, classes, loss, 1000 * found["ours"].seconds, seconds)


def main() -> int:
    """Print the table, and whether the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--auto-lirpa", type=Path, default=Path("../auto_LiRPA"))
    parser.add_argument("--models", nargs="+", default=["mlp", "cnn3", "dm-small", "cnn5"])
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--classes", nargs="+", type=int, default=[10])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="for a side of a line")
    options = parser.parse_args()
    torch.set_num_threads(1)
    library = load_auto_lirpa(options.auto_lirpa)
    if library is None:
        print(f"no auto_LiRPA at {options.auto_lirpa}: ours alone")
    print("CTRAIN cannot be imported without its GitHub dependencies: auto_LiRPA's IBP instead,")
    print("which is a lower bound of what a step of MTL-IBP or SABR takes there\n")
    print(f"{'model':10} {'classes':>7} {'loss':18} {'ours ms':>9} {'theirs ms':>9} {'ratio':>6}")
    rows = []
    for name in options.models:
        for classes in options.classes:
            for loss in options.losses:
                row = measured(library, name, classes, loss, options)
                rows.append(row)
                theirs = "-" if row.theirs_ms is None else f"{row.theirs_ms:.0f}"
                ratio = "-" if row.theirs_ms is None else f"{row.ours_ms / row.theirs_ms:.2f}"
                print(f"{name:10} {classes:7} {loss:18} {row.ours_ms:9.0f} {theirs:>9} {ratio:>6}")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
