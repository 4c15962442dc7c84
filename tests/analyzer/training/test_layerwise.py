"""What attacks in relaxations of a network's first part promise (COLT)."""

import pytest
import torch

from absolver.analyzer.graph.graph import Nonlinear
from absolver.analyzer.training.errors import TrainingError
from absolver.analyzer.training.loss import CertifiedLoss
from absolver.analyzer.training.perturbations import Perturbation
from absolver.analyzer.training.terms.certified import Certified
from absolver.analyzer.training.terms.layerwise import Layerwise, Relaxed
from absolver.analyzer.training.terms.term import Natural, Term
from tests.analyzer.training.test_families import network, points

DOMAINS = ("interval", "zonotope", "crown", "crown & interval")


def _loss(term: Term, domain: str = "zonotope", size: float = 0.2) -> CertifiedLoss:
    network().module.zero_grad()
    return CertifiedLoss(network(), domain, Perturbation(size), term)


@pytest.mark.soundness
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_network_is_within_its_relaxation(domain: str) -> None:
    batch = _loss(Natural(), domain).batch(*points())
    graph = batch.held
    relaxed = Relaxed(graph, batch.domain, batch.region)
    inside = batch.region.sample(50, torch.Generator().manual_seed(3))
    for x in inside.unbind(1):
        values = graph.trace(x)
        for node in graph.nodes:
            if isinstance(node, Nonlinear):
                ends = relaxed._ends[node.name]
                lower, upper = ends([values[name] for name in node.inputs])
                assert (lower <= values[node.name] + 1e-12).all()
                assert (values[node.name] <= upper + 1e-12).all()


@pytest.mark.soundness
@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_no_point_is_worse_than_what_the_domain_certifies(domain: str, stage: int) -> None:
    batch = _loss(Natural(), domain).batch(*points(20))
    least, most = Natural()(batch), Certified()(batch)
    found = Layerwise(stage, steps=20)(batch)
    assert (found <= most + 1e-9).all()
    assert found.mean() > least.mean()


def test_a_relaxation_of_points_is_the_network() -> None:
    batch = _loss(Natural(), size=0.0).batch(*points())
    for stage in (0, 1, 2):
        torch.testing.assert_close(Layerwise(stage)(batch), Natural()(batch))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_what_stands_before_the_cut_is_not_trained(stage: int) -> None:
    loss = _loss(Layerwise(stage))
    value, _ = loss(*points(16))
    value.backward()  # type: ignore[no-untyped-call]
    parameters = list(loss.model.parameters())
    assert all(p.grad is None or not p.grad.any() for p in parameters[: 2 * stage])
    assert all(p.grad is not None and p.grad.any() for p in parameters[2 * stage :])


def test_between_two_stages_both_count_by_nearness() -> None:
    batch = _loss(Natural()).batch(*points())
    first, second = Layerwise(1.0)(batch), Layerwise(2.0)(batch)
    again = _loss(Natural()).batch(*points())
    torch.testing.assert_close(Layerwise(1.25)(again), 0.75 * first + 0.25 * second)


def test_a_stage_behind_the_last_operator_is_an_error() -> None:
    batch = _loss(Natural()).batch(*points())
    with pytest.raises(TrainingError, match="2 operators"):
        Layerwise(3)(batch)
