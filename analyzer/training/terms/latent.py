"""Attacks in the latent space of a network's first part (Mao et al. 2023, "TAPS")."""

from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from absolver import domains
from absolver.analyzer.graph.graph import Graph, Input, Nonlinear, TensorSpec, operands
from absolver.analyzer.training.batch import Batch, log_sum_exp
from absolver.analyzer.training.errors import TrainingError
from absolver.analyzer.training.live import held
from absolver.analyzer.training.schedules import Number
from absolver.analyzer.training.terms.certified import SmallBoxes
from absolver.analyzer.training.terms.term import Term
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval


@dataclass(frozen=True)
class Taps(Term):
    """IBP for the first part of a network times an attack on the second one; with `inside` STAPS.

    The second part has the last `behind` operators. In the first part's box a point is searched
    for each wrong class; gradients go on through it to the box (there, equation 5). The loss is
    the product of both losses, whose gradient has `weight` times that of the attack's
    (equation 7).
    """

    behind: int = 1
    weight: Number = 1.0
    inside: SmallBoxes | None = None
    steps: int = 20
    link: float = 0.5
    domain: Domain = field(default_factory=lambda: domains.load("interval"))

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each set."""
        region = batch.region if self.inside is None else self.inside.regions(batch)
        certified = log_sum_exp(batch.margins(self.domain, region))
        split, second = split_network(batch.network, self.behind)
        hidden = batch.passed(self.domain, region).hidden
        box = split.operator.range([hidden[name] for name in split.inputs])
        worst = self._worst(batch, held(second), Interval(box.lower.detach(), box.upper.detach()))
        latent = linked(worst, box, self.link)
        attacked = log_sum_exp(_margins(second, latent, batch.y))
        return _weighted_gradient(attacked, batch.at(self.weight)) * certified

    def _worst(self, batch: Batch, second: Graph, box: Interval) -> Tensor:
        """Search a point for each wrong class, the one that lifts its logit most over the label's.

        The result is `[batch, classes - 1, *shape]`.
        """
        low, high = box.lower.unsqueeze(1), box.upper.unsqueeze(1)
        size = (len(batch.y), batch.classes - 1, *box.lower.shape[1:])
        generator = batch.generator
        start = torch.rand(size, generator=generator, device=generator.device).to(low)
        z = low + start * (high - low)
        for step in range(self.steps):
            z = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(_margins(second, z, batch.y).sum(), z)
            length = 0.25 * (high - low) * (0.1 if 2 * step >= self.steps else 1.0)
            z = (z.detach() - length * gradient.sign()).clamp(low, high)
        return z.detach()


def linked(worst: Tensor, box: Interval, share: float) -> Tensor:
    """Give points `[batch, points, *shape]` of a box gradients in the box's ends.

    A point moves with an end as far as it is near that end: wholly on it, and not at all from a
    `share` of the width on.
    """
    lower, upper = box.lower.unsqueeze(1), box.upper.unsqueeze(1)
    width = (share * (upper - lower)).detach()
    safe = torch.where(width > 0, width, 1.0)
    # A box of no width has both ends in the point.
    half = torch.where(width > 0, 0.0, 0.5)
    with_upper = ((worst - (upper - width)) / safe).clamp(min=0).detach() + half
    with_lower = ((lower + width - worst) / safe).clamp(min=0).detach() + half
    moved = with_upper * (upper - upper.detach()) + with_lower * (lower - lower.detach())
    return worst + moved


def split_network(graph: Graph, behind: int) -> tuple[Nonlinear, Graph]:
    """Cut a network behind an operator, so that `behind` operators follow: it, and what follows."""
    places = [i for i, node in enumerate(graph.nodes) if isinstance(node, Nonlinear)]
    if not 0 <= behind < len(places):
        raise TrainingError(
            f"a network of {len(places)} operators cannot be cut {behind} operators before its end"
        )
    place = places[len(places) - 1 - behind]
    split = graph.nodes[place]
    assert isinstance(split, Nonlinear), "as it was found"
    later = graph.nodes[place + 1 :]
    known = {split.name, *(node.name for node in later)}
    for node in later:
        if not known.issuperset(operands(node)):
            raise TrainingError(
                f"the network cannot be cut behind {split.origin}: {node.origin} goes past it"
            )
    entry = Input(name=split.name, shape=split.shape, origin=split.origin)
    spec = TensorSpec(split.name, split.shape)
    return split, Graph((entry, *later), (spec,), graph.outputs)


def _margins(second: Graph, latent: Tensor, y: Tensor) -> Tensor:
    """Return the margin over each wrong class at its own point: `[batch, classes - 1]`."""
    logits = second(latent.flatten(0, 1)).flatten(1)
    count = latent.shape[1]
    logits = logits.view(len(y), count, prod(logits.shape[1:]))
    classes = torch.arange(count, device=y.device)
    others = classes + (classes >= y.unsqueeze(1))
    own = logits.gather(2, y.view(-1, 1, 1).expand(-1, count, 1)).squeeze(2)
    return own - logits.gather(2, others.unsqueeze(2)).squeeze(2)


def _weighted_gradient(value: Tensor, weight: float) -> Tensor:
    """Return the value itself, with a gradient that is `weight` times as large."""
    return value.detach() + weight * (value - value.detach())
