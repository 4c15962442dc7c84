"""One batch of labelled points, and everything that losses ask of it, each computed once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.engine import Given, Propagation, Walk, propagate, walked
from absolver.analyzer.regions.region import Region
from absolver.analyzer.training.attacks import Attack
from absolver.analyzer.training.first_layer import first_bounds
from absolver.analyzer.training.live import held
from absolver.analyzer.training.margins import margin_rows
from absolver.analyzer.training.perturbations import Perturbation
from absolver.analyzer.training.schedules import Number, value
from absolver.dsl.domain import Carrier, Domain


@dataclass(eq=False)
class Batch:
    """What a loss is a function of.

    `x` is `[batch, 1, *shape]`, `clean` the logits there. All networks are the `network`, which is
    read when it is first asked for: its
    parameters and its moments of batch normalisation are the same in every evaluation.
    """

    read: Callable[[], Graph]
    x: Tensor
    y: Tensor
    clean: Tensor
    domain: Domain
    perturbation: Perturbation
    step: float
    generator: torch.Generator
    seen: dict[str, Tensor] = field(default_factory=dict)
    """What was computed on the way and is of interest to people, by name."""
    _passes: dict[tuple[int, int], Propagation] = field(default_factory=dict)
    _attacked: dict[Attack, Tensor] = field(default_factory=dict)
    _kept: list[object] = field(default_factory=list)
    _walks: dict[int, Walk] = field(default_factory=dict)

    def at(self, number: Number) -> float:
        """Return a number at this batch's step."""
        return value(number, self.step)

    @cached_property
    def network(self) -> Graph:
        """The network with the parameters of this step."""
        return self.read()

    @cached_property
    def held(self) -> Graph:
        """The same network for attacks, with parameters in which no gradients are computed."""
        return held(self.network)

    @cached_property
    def region(self) -> Region:
        """The sets around the points."""
        size, reach = self.at(self.perturbation.size), self.at(self.perturbation.reach)
        self.seen["size"] = torch.tensor(size)
        return self.perturbation.around(self.x, size, reach)

    @property
    def classes(self) -> int:
        """How many logits there are."""
        return self.clean.shape[1]

    def logits(self, x: Tensor, *, held: bool = False) -> Tensor:
        """Evaluate the network on points `[batch, 1, *shape]`, or what is held for attacks."""
        return (self.held if held else self.network)(x).flatten(1)

    def attacked(self, attack: Attack) -> Tensor:
        """Return the worst points of the sets that an attack finds."""
        if attack not in self._attacked:
            self._attacked[attack] = attack(
                partial(self.logits, held=True), self.region, self.y, self.generator
            )
        return self._attacked[attack]

    def passed(self, domain: Domain | None = None, region: Region | None = None) -> Propagation:
        """Run a domain (this batch's own if none is named) over sets; rows are the margins."""
        domain, region = domain or self.domain, region or self.region
        key = (id(domain), id(region))
        if key not in self._passes:
            rows, picked = margin_rows(self.classes, self.y, domain, self.x.dtype)
            found = self.bounded(rows, domain, region)
            if picked is not None:
                chosen = found.rows.gather(1, picked)
                found = Propagation(chosen, found.hidden, found.notes)
            self._passes[key] = found
            self._kept += [domain, region]  # what has an identity in a key stays alive
        return self._passes[key]

    def margins(self, domain: Domain | None = None, region: Region | None = None) -> Tensor:
        """Bound `z_y - z_j` from below over sets, for each class j but y: `[batch, classes - 1]`.

        Guarantee: up to rounding, no point of a set has a smaller margin.
        """
        margins = self.passed(domain, region).rows
        if region is None or region is self.region:
            self.seen["certified"] = (margins.detach() > 0).all(1).float().mean()
        return margins

    def bounded(self, rows: Tensor, domain: Domain, region: Region) -> Propagation:
        """Bound linear forms of the logits over sets."""
        walk = self._walk(domain, region)
        if walk is not None and walk.by_intervals and _is_interval(domain):
            return Propagation(walk.interval_minimum(rows), walk.hidden, ())
        if walk is not None and walk.domain is domain:
            return walk.bound(rows)
        return propagate(self.network, domain, region, rows, given=self._given(region))

    def logit_bounds(self, domain: Domain) -> tuple[Tensor, Tensor]:
        """Bound the logits over the batch's sets, each `[batch, classes]`."""
        walk = self._walk(domain, self.region)
        if walk is not None and walk.by_intervals and _is_interval(domain):
            box = walk.interval_outputs()
            return box.lower.flatten(1), box.upper.flatten(1)
        identity = torch.eye(self.classes, dtype=self.x.dtype, device=self.x.device)
        rows = torch.cat([identity, -identity]).unsqueeze(0)
        lower, negated = self.bounded(rows, domain, self.region).rows.chunk(2, dim=1)
        return lower, -negated

    def _walk(self, domain: Domain, region: Region) -> Walk | None:
        """Return the walk over the sets, or begin one if the domain's is worth keeping."""
        if id(region) not in self._walks and _by_intervals(domain):
            self._walks[id(region)] = self._walked(domain, region)
            self._kept.append(region)
        return self._walks.get(id(region))

    def prepare(self, domain: Domain) -> None:
        """Walk with a domain first whose hidden bounds are intervals': they need no other walk."""
        self._walk(domain, self.region)

    def _walked(self, domain: Domain, region: Region) -> Walk:
        return walked(self.network, domain, region, self._given(region))

    def _given(self, region: Region) -> Given:
        return Given(first_bounds(self.network, region))


def _is_interval(domain: Domain) -> bool:
    return domain.carrier is Carrier.VALUES and not domain.factors and domain.parts == 1


def _by_intervals(domain: Domain) -> bool:
    """Whether intervals alone decide a domain's hidden bounds, in a walk that is never split."""
    if domain.factors or domain.parts > 1:
        return False
    behind = domain.bounds_from
    return _is_interval(domain) or (
        domain.carrier is Carrier.NEURONS and behind is not None and _is_interval(behind)
    )


def log_sum_exp(margins: Tensor) -> Tensor:
    """Return the cross-entropy of margins: log(1 + sum of exp(-margin)), one for each point.

    Guarantee: for lower bounds of margins it is an upper bound of the cross-entropy.
    """
    zero = margins.new_zeros(len(margins), 1)
    return torch.cat([zero, -margins], dim=1).logsumexp(1)
