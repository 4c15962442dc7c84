"""Losses beyond certified cross-entropy: latent attacks, Lipschitz, smoothing, distances."""

from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from absolver.analyzer.training.errors import TrainingError
from absolver.analyzer.training.live import LiveGraph
from absolver.analyzer.training.loss import CertifiedLoss
from absolver.analyzer.training.perturbations import Norm, Perturbation
from absolver.analyzer.training.terms.certified import Certified, SmallBoxes
from absolver.analyzer.training.terms.distances import DistanceLayer, DistanceMargin, set_norm
from absolver.analyzer.training.terms.latent import Taps, linked, split_network
from absolver.analyzer.training.terms.lipschitz import Gloro, pair_constants
from absolver.analyzer.training.terms.smoothing import (
    Consistency,
    Gaussian,
    Macer,
    SmoothAdv,
    Stability,
)
from absolver.analyzer.training.terms.term import Adversarial, Natural, Term
from absolver.dsl.operators.record import Interval


@cache
def network() -> LiveGraph:
    torch.manual_seed(1)
    layers = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)]
    return LiveGraph(nn.Sequential(*layers).double(), (6,))


def loss_of(combine: Term, size: float = 0.1, norm: Norm = "inf") -> CertifiedLoss:
    network().module.zero_grad()
    return CertifiedLoss(network(), "interval", Perturbation(size, norm), combine)


def points(count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.rand((count, 6), generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (count,), generator=generator)


def test_points_follow_the_ends_of_their_box_by_the_derivative_of_the_paper() -> None:
    lower, upper = torch.tensor([[0.0, 0, 0, 0, 1]]), torch.tensor([[2.0, 2, 2, 2, 1]])
    lower, upper = lower.double().requires_grad_(), upper.double().requires_grad_()
    worst = torch.tensor([[[2.0, 1.5, 1.0, 0.0, 1.0]]]).double()
    z = linked(worst, Interval(lower, upper), 0.5)
    assert z.equal(worst)
    of_lower, of_upper = torch.autograd.grad(z.sum(), (lower, upper))
    assert of_upper.tolist() == [[1, 0.5, 0, 0, 0.5]]
    assert of_lower.tolist() == [[0, 0, 0, 1, 0.5]]


def test_the_link_is_what_finite_differences_of_the_clamped_point_say_at_the_ends() -> None:
    # A point that an attack leaves at an end moves with it, and with no other one.
    def at_upper(upper: float) -> float:
        return min(5.0, upper)

    step = 1e-6
    slope = (at_upper(2 + step) - at_upper(2 - step)) / (2 * step)
    lower, upper = torch.zeros(1, 1), torch.full((1, 1), 2.0, requires_grad=True)
    z = linked(torch.full((1, 1, 1), 2.0), Interval(lower, upper), 0.5)
    (gradient,) = torch.autograd.grad(z.sum(), upper)
    assert float(gradient) == pytest.approx(slope)


def test_a_cut_network_is_the_whole_one() -> None:
    graph = network().graph()
    x = torch.rand(4, 1, 6, dtype=torch.float64)
    for behind in (0, 1):
        split, second = split_network(graph, behind)
        values = graph.trace(x)
        torch.testing.assert_close(second(values[split.name]), graph(x))
    with pytest.raises(TrainingError, match="2 operators"):
        split_network(graph, 2)


@pytest.mark.parametrize("inside", [None, SmallBoxes(0.5)])
def test_taps_lies_between_nothing_and_the_square_of_ibp(inside: SmallBoxes | None) -> None:
    batch = loss_of(Taps(inside=inside)).batch(*points())
    ibp = Certified()(batch)
    value = Taps(inside=inside)(batch)
    assert (value > 0).all() and (value <= ibp.square() + 1e-9).all()


def test_the_weight_of_taps_changes_gradients_alone() -> None:
    values, gradients = [], []
    for weight in (1.0, 4.0):
        loss = loss_of(Taps(weight=weight))
        value, _ = loss(*points())
        value.backward()  # type: ignore[no-untyped-call]
        values.append(value.detach())
        gradients.append(network().module[0].weight.grad.clone())
    assert values[0].equal(values[1])
    assert not gradients[0].allclose(gradients[1])


TERMS: tuple[Term, ...] = (Gaussian(0.2, 3), Stability(0.2, 2), Consistency(0.2), Macer(0.2))
TERMS += (SmoothAdv(0.2, distance=0.3), Taps())


@pytest.mark.parametrize("term", TERMS, ids=lambda term: type(term).__name__)
def test_every_family_reaches_every_parameter_with_finite_gradients(term: Term) -> None:
    loss = loss_of(term)
    value, _ = loss(*points(16))
    value.backward()  # type: ignore[no-untyped-call]
    parameters = list(loss.model.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
    assert any(p.grad.abs().sum() > 0 for p in parameters if p.grad is not None)


@pytest.mark.parametrize("kind", [Gaussian, Stability, SmoothAdv])
def test_without_noise_smoothing_losses_are_those_of_the_points(kind: type[Term]) -> None:
    more = {"distance": 0.0} if kind is SmoothAdv else {"weight": 0.0} if kind is Stability else {}
    batch = loss_of(Natural()).batch(*points())
    term = kind(sigma=0.0, **more)  # type: ignore[call-arg]
    torch.testing.assert_close(term(batch), Natural()(batch))


def test_consistent_answers_cost_nothing_more() -> None:
    batch = loss_of(Natural()).batch(*points())
    same = Consistency(0.0, weight=10.0, entropy=0.0)(batch)
    torch.testing.assert_close(same, Natural()(batch))


def test_macer_pushes_nobody_who_is_wrong() -> None:
    x, _ = points(40)
    model = network().module
    wrong = (model(x).argmax(1) + 1) % 3
    batch = loss_of(Natural()).batch(x, wrong)
    torch.testing.assert_close(Macer(0.0)(batch), Macer(0.0, weight=0.0)(batch))


def test_gloro_estimates_products_of_spectral_norms_from_below() -> None:
    dense = [layer.weight.detach() for layer in network().module if isinstance(layer, nn.Linear)]
    product = torch.linalg.matrix_norm(dense[0], 2) * torch.linalg.matrix_norm(dense[1], 2)
    expected = float(product * (dense[2][0] - dense[2][1]).norm())
    last = 0.0
    for iterations in (0, 2, 50):
        found = float(pair_constants(network().graph(), iterations)[0, 1].detach())
        assert last <= found <= expected + 1e-9
        last = found
    assert last == pytest.approx(expected, rel=1e-3)


def test_gloro_costs_at_least_the_cross_entropy_and_reaches_every_weight() -> None:
    loss = loss_of(Gloro(), 0.05, "2")
    x, y = points()
    batch = loss.batch(x, y)
    value = Gloro()(batch)
    assert (value >= functional.cross_entropy(batch.clean, y, reduction="none") - 1e-12).all()
    value.sum().backward()  # type: ignore[no-untyped-call]
    weights = [p for p in loss.model.parameters() if p.dim() == 2]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in weights)


@pytest.mark.soundness
@pytest.mark.parametrize("p", [8.0, 1000.0, float("inf")])
def test_distances_of_any_norm_are_steady_in_the_maximum_norm(p: float) -> None:
    torch.manual_seed(4)
    layer = DistanceLayer(5, 7).double()
    set_norm(layer, p)
    x, y = torch.rand(2, 30, 5, dtype=torch.float64)
    steady = (layer(x) - layer(y)).abs().amax(1)
    # In a p-norm, 5 ** (1 / p) is how much longer a vector may be.
    assert (steady <= 5 ** (1 / p) * (x - y).abs().amax(1) + 1e-9).all()


def test_a_network_of_distances_trains_although_no_graph_has_its_operator() -> None:
    torch.manual_seed(5)
    model = nn.Sequential(DistanceLayer(6, 16), DistanceLayer(16, 3))
    loss = CertifiedLoss(model, "interval", Perturbation(0.05), DistanceMargin())
    x, y = points(30)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    values = []
    for _ in range(25):
        optimizer.zero_grad()
        value, statistics = loss(x.float(), y)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < values[0] and "certified" in statistics


def test_an_attack_finds_what_the_natural_loss_misses() -> None:
    batch = loss_of(Natural()).batch(*points(20))
    assert float(Adversarial()(batch).mean().detach()) > float(Natural()(batch).mean().detach())
