"""What the losses of certified training promise."""

import copy
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from absolver.analyzer.training.attacks import Attack
from absolver.analyzer.training.batch import log_sum_exp
from absolver.analyzer.training.errors import UntrainableError
from absolver.analyzer.training.live import LiveGraph
from absolver.analyzer.training.loss import CertifiedLoss
from absolver.analyzer.training.perturbations import Perturbation
from absolver.analyzer.training.schedules import Linear
from absolver.analyzer.training.terms import fusion
from absolver.analyzer.training.terms.certified import Certified, CrownIbp, SmallBoxes
from absolver.analyzer.training.terms.expressive import CcIbp, ExpIbp, MtlIbp
from absolver.analyzer.training.terms.regularisers import L1, FastIbp, ReluStability
from absolver.analyzer.training.terms.term import Adversarial, Natural, Term

SHAPE, CLASSES, SIZE = (1, 6, 6), 4, 0.1
ATTACK = Attack(steps=4)


@cache
def convolutional(*, norm: bool = False) -> LiveGraph:
    """Read once: tests change no parameter, or change it back."""
    torch.manual_seed(1)
    norms = [nn.BatchNorm2d(3)] if norm else []
    layers = [nn.Conv2d(1, 3, 3, 2, 1), *norms, nn.ReLU(), nn.Flatten(), nn.Linear(27, 8)]
    norms = [nn.BatchNorm1d(8)] if norm else []
    model = nn.Sequential(*layers, *norms, nn.ReLU(), nn.Linear(8, CLASSES)).double()
    return LiveGraph(model, SHAPE)


def points(count: int = 5, seed: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand((count, *SHAPE), generator=generator, dtype=torch.float64)
    return x, torch.randint(CLASSES, (count,), generator=generator)


def loss_of(combine: Term, domain: str = "interval", *, norm: bool = False) -> CertifiedLoss:
    live = convolutional(norm=norm)
    live.module.train().zero_grad()
    return CertifiedLoss(live, domain, Perturbation(SIZE), combine)


DOMAINS = ("interval", "zonotope", "hybrid_zonotope", "fast_lin", "crown_ibp", "crown")
DOMAINS += ("deeppoly", "symbolic_interval", "interval & crown_ibp", "alpha_crown")


@pytest.mark.soundness
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_certified_loss_is_at_least_the_cross_entropy_everywhere(domain: str) -> None:
    loss = loss_of(Certified(), domain)
    x, y = points()
    batch = loss.batch(x, y)
    bound = loss.combine(batch)
    generator = torch.Generator().manual_seed(3)
    region = batch.region
    found = [region.sample(20, generator)[:, i] for i in range(20)]
    found += [Attack(steps=10, restarts=2)(batch.logits, region, y, generator)]
    for inside in found:
        entropy = functional.cross_entropy(batch.logits(inside), y, reduction="none")
        assert (entropy <= bound + 1e-9).all()


@pytest.mark.parametrize("domain", DOMAINS)
def test_gradients_of_every_domain_are_those_of_finite_differences(domain: str) -> None:
    loss = loss_of(Certified(), domain)
    x, y = points()
    value, _ = loss(x, y)
    value.backward()  # type: ignore[no-untyped-call]
    generator = torch.Generator().manual_seed(4)
    for parameter in loss.model.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()
        way = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * 1e-6 * way
                sides.append(float(loss(x, y)[0]))
                parameter -= sign * 1e-6 * way
        expected = (sides[0] - sides[1]) / 2e-6
        assert float((parameter.grad * way).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("domain", DOMAINS)
def test_gradients_are_finite_where_the_sets_are_points(domain: str) -> None:
    loss = CertifiedLoss(convolutional(), domain, Perturbation(Linear(0, 1, 5, 10)), Certified())
    value, _ = loss(*points())
    value.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.model.parameters())


@pytest.mark.precision
@pytest.mark.parametrize("domain", ["crown_ibp", "interval & crown_ibp"])
def test_bounds_are_the_same_whether_they_are_trained_or_not(domain: str) -> None:
    loss = loss_of(Certified(), domain)
    trained = loss.batch(*points()).margins()
    with torch.no_grad():
        torch.testing.assert_close(loss.batch(*points()).margins(), trained.detach())


def test_a_domain_of_three_lines_trains_a_network_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "soft.dom"
    file.write_text(
        "domain soft\n  lower <= x <= upper over neurons\n"
        "  relu: upper slope chord; lower slope chord * chord\n"
    )
    model = copy.deepcopy(convolutional().module)
    loss = CertifiedLoss(model, str(file), Perturbation(0.02), Certified())
    x, y = points(20)
    optimizer = torch.optim.Adam(loss.model.parameters(), lr=0.05)
    values = []
    for _ in range(25):
        optimizer.zero_grad()
        value, _ = loss(x, y)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.8 * values[0]


def test_small_boxes_of_the_whole_width_are_ibp() -> None:
    x, y = points()
    batch = loss_of(Certified()).batch(x, y)
    small = Certified(inside=SmallBoxes(1.0, ATTACK))(batch)
    torch.testing.assert_close(small, Certified()(batch), rtol=1e-12, atol=1e-12)


def test_small_boxes_lie_in_the_large_ones() -> None:
    batch = loss_of(Certified()).batch(*points())
    lower, upper = batch.region.bounding_box()
    low, high = SmallBoxes(0.3, ATTACK).regions(batch).bounding_box()
    assert (low >= lower - 1e-12).all() and (high <= upper + 1e-12).all()
    torch.testing.assert_close(high - low, 0.3 * (upper - lower))


@pytest.mark.parametrize("kind", [MtlIbp, CcIbp, ExpIbp])
def test_expressive_losses_lead_from_the_attack_to_the_certificate(kind: type[Term]) -> None:
    batch = loss_of(Certified()).batch(*points(12))
    adversarial, certified = Adversarial(ATTACK)(batch), Certified()(batch)
    last = adversarial
    for alpha in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = kind(alpha=alpha, attack=ATTACK)(batch)  # type: ignore[call-arg]
        assert (adversarial - 1e-9 <= value).all() and (value <= certified + 1e-9).all()
        assert (value >= last - 1e-9).all()
        last = value
    torch.testing.assert_close(last, certified)
    first = kind(alpha=0.0, attack=ATTACK)  # type: ignore[call-arg]
    torch.testing.assert_close(first(batch), adversarial)


def test_crown_ibp_leads_from_ibp_to_crown() -> None:
    batch = loss_of(Certified()).batch(*points())
    torch.testing.assert_close(CrownIbp(0.0)(batch), Certified()(batch))
    crown = CrownIbp(1.0)
    torch.testing.assert_close(crown(batch), Certified(crown.second)(batch))
    half = log_sum_exp((batch.margins(crown.first) + batch.margins(crown.second)) / 2)
    torch.testing.assert_close(CrownIbp(0.5)(batch), half)


@pytest.mark.precision
def test_the_dual_of_wong_and_kolter_is_the_bound_of_fast_lin() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3))
    model = model.double()
    x, y = torch.rand(4, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    spec = Perturbation(0.2, limits=None)
    batch = CertifiedLoss(model, "fast_lin", spec, Certified()).batch(x, y)
    passed = batch.passed()
    boxes = [b for name, b in passed.hidden.items()][:2]
    for element in range(4):
        others = [j for j in range(3) if j != y[element]]
        own = [(b.lower[element].flatten(), b.upper[element].flatten()) for b in boxes]
        for row, other in enumerate(others):
            c = torch.zeros(3, dtype=torch.float64)
            c[y[element]], c[other] = 1.0, -1.0
            value = dual_objective(model, own, x[element], c, 0.2)
            bound = passed.rows[element, row].detach()
            assert float(value.detach()) == pytest.approx(float(bound), abs=1e-9)


def dual_objective(
    model: nn.Sequential, boxes: list[tuple[Tensor, Tensor]], x: Tensor, c: Tensor, size: float
) -> Tensor:
    """Wong and Kolter 2018, equations 5 and 6, written down: a lower bound of c · output."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    nu, value = -c, torch.zeros((), dtype=torch.float64)
    for layer, box in zip(reversed(layers), [*reversed(boxes), None], strict=True):
        value = value - nu @ layer.bias
        nu = layer.weight.T @ nu
        if box is None:
            break
        lower, upper = box
        unstable = (lower < 0) & (upper > 0)
        slope = torch.where(unstable, upper / (upper - lower), (lower >= 0).double())
        nu = slope * nu
        value = value + (lower * nu.clamp(min=0))[unstable].sum()
    return value - x @ nu - size * nu.abs().sum()


def test_batch_norms_share_the_moments_of_the_clean_batch_everywhere() -> None:
    x, y = points(16)
    loss = loss_of(Certified(), norm=True)
    model, batch = loss.model, loss.batch(x, y)
    torch.testing.assert_close(batch.logits(x.unsqueeze(1)), batch.clean)
    before = [buffer.clone() for buffer in model.buffers()]
    batch.margins()
    batch.attacked(ATTACK)
    assert all((a == b).all() for a, b in zip(before, model.buffers(), strict=True))


def test_gradients_go_through_the_moments_of_the_batch() -> None:
    loss = loss_of(Certified(), norm=True)
    x, y = points(16)
    value, _ = loss(x, y)
    value.backward()  # type: ignore[no-untyped-call]
    (first, *_) = loss.model.parameters()
    assert first.grad is not None
    way = torch.randn(first.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            first += sign * 1e-6 * way
            sides.append(float(loss(x, y)[0]))
            first -= sign * 1e-6 * way
    expected = (sides[0] - sides[1]) / 2e-6
    assert float((first.grad * way).sum()) == pytest.approx(expected, rel=1e-4)


class Doubling(nn.Module):
    """A layer whose weight is computed from its parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.root = nn.Parameter(torch.rand(3, 36))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x.flatten(1), 2 * self.root)


def test_a_parameter_that_no_gradient_would_reach_is_refused_by_name() -> None:
    loss = CertifiedLoss(Doubling(), "interval", Perturbation(SIZE), Certified())
    with pytest.raises(UntrainableError, match="root"):
        loss(torch.rand(2, *SHAPE), torch.tensor([0, 1]))


def test_regularisers_give_finite_gradients_from_the_first_step_on() -> None:
    terms = 0.5 * FastIbp() + 0.1 * ReluStability() + 1e-3 * L1() + Natural()
    loss = CertifiedLoss(convolutional(), "interval", Perturbation(Linear(0, 0.1, 0, 3)), terms)
    for _ in range(3):
        value, _ = loss(*points())
        value.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.model.parameters())


def test_a_loss_that_is_loaded_goes_on_at_its_step_with_its_random_numbers() -> None:
    x, y = points()
    first = loss_of(MtlIbp(Linear(0, 1, 0, 10), ATTACK))
    for _ in range(3):
        first(x, y)
    second = loss_of(MtlIbp(Linear(0, 1, 0, 10), ATTACK))
    second.load_state_dict(first.state_dict())
    assert first(x, y)[0].equal(second(x, y)[0])


@pytest.mark.soundness
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("most_shared", [0, 1000])
def test_a_fused_loss_is_at_least_the_log_of_the_sum_everywhere(
    share: float, most_shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion, "MOST_SHARED", most_shared)  # either way to bound differences
    batch = loss_of(Certified()).batch(*points())
    bound = fusion.FusedCrownIbp(share)(batch)
    generator = torch.Generator().manual_seed(5)
    samples = batch.region.sample(50, generator)
    worst = Attack(steps=10)(batch.logits, batch.region, batch.y, generator)
    for inside in (*samples.unbind(1), worst):
        entropy = functional.cross_entropy(batch.logits(inside), batch.y, reduction="none")
        assert (entropy <= bound + 1e-9).all()


def test_a_fused_loss_in_a_point_is_the_cross_entropy() -> None:
    loss = CertifiedLoss(convolutional(), "interval", Perturbation(0.0), Certified())
    batch = loss.batch(*points())
    torch.testing.assert_close(fusion.FusedCrownIbp(1.0)(batch), Natural()(batch))


@pytest.mark.regression
@pytest.mark.parametrize("domain", ["crown", "fast_lin", "crown & interval", "zonotope"])
def test_gradients_through_normalisations_are_finite_where_stable_neurons_have_no_bounds(
    domain: str,
) -> None:
    """Back-substitution leaves such bounds infinite: they went into the gradients of factors."""
    torch.manual_seed(0)
    hidden = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()]
    hidden += [nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()]
    model = nn.Sequential(*hidden, nn.Linear(8, 3))
    x, y = torch.rand(6, 4), torch.arange(6) % 3
    value, _ = CertifiedLoss(model, domain, Perturbation(0.05), Certified())(x, y)
    value.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.soundness
@pytest.mark.parametrize("pixels", [1, 3])
@pytest.mark.parametrize("domain", ["interval", "crown_ibp"])
def test_few_pixels_are_bounded_by_the_first_layers_largest_gains(pixels: int, domain: str) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    x, y = points()
    spec = Perturbation(pixels, norm="0", reach=0.5)
    batch = CertifiedLoss(model, domain, spec, Certified()).batch(x, y % 3)
    (first, *_) = batch.passed().hidden.values()
    samples = batch.region.sample(200, torch.Generator().manual_seed(1)).flatten(0, 1)
    inside = model[1](samples.flatten(1)).view(len(x), 200, 8)
    lower, upper = first.lower.view(-1, 1, 8), first.upper.view(-1, 1, 8)
    assert ((lower - 1e-9 <= inside) & (inside <= upper + 1e-9)).all()
    # Exact: the pixels of the largest gains, changed all the way, attain the bound.
    weight, base = model[1].weight[0].detach(), x[0].flatten()
    gains = 0.5 * torch.where(weight > 0, weight * base, weight * (base - 1))
    least = weight @ base + model[1].bias[0].detach() - gains.topk(pixels).values.sum()
    assert float(least) == pytest.approx(float(lower[0, 0, 0].detach()))
