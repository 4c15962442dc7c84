"""Milliseconds of a step of certified training, beside auto_LiRPA on the same networks."""

import argparse
import copy
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from measure import interleaved
from rival import load_auto_lirpa
from torch import Tensor, nn
from torch.nn import functional

from absolver.analyzer.regions.box import Box
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
# Random labels at any usual rate switch all neurons off within a few steps, and a dead network
# costs what no training costs.
RATE = 1e-6
LOSSES: Mapping[str, Term] = {
    "IBP": Certified(),
    "CROWN-IBP": CrownIbp(0.5),
    "CROWN-IBP fused": FusedCrownIbp(0.5),
    "MTL-IBP": MtlIbp(0.1, Attack(1)),
    "SABR": Certified(inside=SmallBoxes(0.4, Attack(8))),
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    model: str
    classes: int
    loss: str
    ours_ms: float
    theirs_ms: float | None
    kept_mb: float
    """What a step of ours keeps for its gradients."""


def our_step(model: nn.Module, combine: Term, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """Prepare a step: the loss with the natural one beside it, its gradients, Adam."""
    mixed = 0.3 * Natural() + 0.7 * combine
    loss = CertifiedLoss(model.train(), "interval", Perturbation(SIZE), mixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)

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


class Rival:
    """auto_LiRPA's step as its `examples/vision/cifar_training.py` has it.

    It has no attack: those of MTL-IBP and SABR are run on the torch module, as CTRAIN does.
    """

    def __init__(
        self, library: ModuleType, model: nn.Sequential, loss: str, x: Tensor, y: Tensor
    ) -> None:
        """Trace the model once."""
        self.library, self.model, self.loss, self.x, self.y = library, model, loss, x, y
        last = model[-1]
        assert isinstance(last, nn.Linear), "every model ends in a dense layer"
        classes = last.out_features
        self.fused = loss.endswith("fused")
        self.one_hot = functional.one_hot(y, classes).to(x)
        module: nn.Module = FusedLoss(model) if self.fused else model
        # Two points: batch normalisation in training mode takes no fewer.
        example = (x[:2], self.one_hot[:2]) if self.fused else x[:2]
        options = {"conv_mode": "matrix", "loss_fusion": self.fused}
        self.bounded = library.BoundedModule(module, example, bound_opts=options)
        self.bounded.train()
        identity = torch.eye(classes)
        rows = identity[y].unsqueeze(1) - identity.unsqueeze(0)
        rows = rows[~torch.eye(classes, dtype=torch.bool)[y]].view(len(y), classes - 1, classes)
        self.rows = None if self.fused else rows
        self.optimizer = torch.optim.Adam(self.bounded.parameters(), lr=RATE)
        self.lower, self.upper = (x - SIZE).clamp(min=0), (x + SIZE).clamp(max=1)

    def __call__(self) -> Tensor:
        """Take a step."""
        self.optimizer.zero_grad()
        low, high = self.lower, self.upper
        if self.loss == "SABR":
            half = 0.4 * (high - low) / 2
            middle = self._attacked(8).clamp(low + half, high - half)
            low, high = middle - half, middle + half
        ball = self.library.PerturbationLpNorm(norm=float("inf"), x_L=low, x_U=high)
        point = self.library.BoundedTensor(self.x, ball)
        given = (point, self.one_hot) if self.fused else (point,)
        clean = self.bounded(*given)
        natural = torch.log(clean).mean() if self.fused else functional.cross_entropy(clean, self.y)
        robust = self._bound(given)
        if self.loss == "MTL-IBP":
            adversarial = functional.cross_entropy(self.bounded(self._attacked(1)), self.y)
            robust = 0.9 * adversarial + 0.1 * robust
        value = 0.3 * natural + 0.7 * robust
        value.backward()
        self.optimizer.step()
        result: Tensor = value.detach()
        return result

    def _bound(self, given: tuple[Tensor, ...]) -> Tensor:
        low, high = self.bounded.compute_bounds(IBP=True, method=None, C=self.rows, x=given)
        if self.loss.startswith("CROWN"):
            sides = {"bound_lower": not self.fused, "bound_upper": self.fused}
            crown = self.bounded.compute_bounds(
                IBP=False, method="backward", C=self.rows, x=None, **sides
            )
            low, high = (
                None if c is None or i is None else (c + i) / 2
                for c, i in zip(crown, (low, high), strict=True)
            )
        if self.fused:
            (exponential,) = (
                node for node in self.bounded.modules() if type(node).__name__ == "BoundExp"
            )
            total: Tensor = torch.log(high).mean() + exponential.max_input.mean()
            return total
        padded = torch.cat([low.new_zeros(len(low), 1), low], dim=1)
        return functional.cross_entropy(-padded, torch.zeros_like(self.y))

    def _attacked(self, steps: int) -> Tensor:
        region = Box(self.lower.unsqueeze(1), self.upper.unsqueeze(1))

        def network(points: Tensor) -> Tensor:
            logits: Tensor = self.model(points.flatten(0, 1))
            return logits

        return Attack(steps)(network, region, self.y, torch.Generator()).flatten(0, 1)


def measured(
    library: ModuleType | None, name: str, classes: int, loss: str, options: argparse.Namespace
) -> Row:
    """Time one loss on one network, both sides in turn."""
    torch.manual_seed(0)
    x = torch.rand(options.batch, *SHAPE)
    y = torch.randint(classes, (options.batch,))
    combine = LOSSES[loss]
    model = build_model(name, SHAPE, classes)
    initialise_for_intervals(model)  # as trainings by intervals begin; both sides alike
    sides = {"ours": our_step(copy.deepcopy(model), combine, x, y)}
    if library is not None:
        sides["theirs"] = Rival(library, model, loss, x, y)
    found = interleaved(sides, "cpu", options.repeats, options.seconds)
    theirs = found.get("theirs")
    seconds = None if theirs is None else 1000 * theirs.seconds
    kept = kept_bytes(sides["ours"]) / 1e6
    return Row(name, classes, loss, 1000 * found["ours"].seconds, seconds, kept)


def kept_bytes(step: Callable[[], object]) -> int:
    """Add up the memory of all tensors that are kept for gradients, each storage once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(kept.values())


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
    print("CTRAIN cannot be imported without its GitHub dependencies: its losses over auto_LiRPA's")
    print(f"IBP instead; CPU milliseconds of one thread, batch {options.batch}, medians\n")
    names = ("model", "classes", "loss", "ours ms", "theirs ms", "ratio", "kept MB")
    print("{:10} {:>7} {:16} {:>8} {:>9} {:>6} {:>8}".format(*names))
    worst = 0.0
    for name in options.models:
        for classes in options.classes:
            for loss in options.losses:
                row = measured(library, name, classes, loss, options)
                theirs = "-" if row.theirs_ms is None else f"{row.theirs_ms:.0f}"
                ratio = "-" if row.theirs_ms is None else f"{row.ours_ms / row.theirs_ms:.2f}"
                print(
                    f"{name:10} {classes:7} {loss:16} {row.ours_ms:8.0f} {theirs:>9} {ratio:>6} "
                    f"{row.kept_mb:8.0f}"
                )
                sys.stdout.flush()
                worst = max(worst, row.ours_ms / (row.theirs_ms or float("inf")))
    if library is not None:
        print(f"\nat most {worst:.2f} of its time; the goal is {GOAL}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
