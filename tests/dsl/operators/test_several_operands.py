"""What is particular to max, min and mul."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from absolver.dsl.operators.max import Max
from absolver.dsl.operators.min import Min
from absolver.dsl.operators.mul import Mul
from absolver.dsl.operators.record import Interval, Operator
from absolver.dsl.relaxation import Slopes, relax
from tests.strategies import Case, cases, magnitude

few = settings(max_examples=5)


def least_of_max(case: Case, i: int) -> float:
    """Minimise `a · x + b max(x)` over one box by a linear program for each winner."""
    k = len(case.box)
    bounds = [(x.lower[i].item(), x.upper[i].item()) for x in case.box]
    least = torch.inf
    for winner in range(k):
        others = [j for j in range(k) if j != winner]
        rows = [[float(c == j) - float(c == winner) for c in range(k)] for j in others]
        cost = [case.a[c][i].item() + (case.b[i].item() if c == winner else 0) for c in range(k)]
        found = linprog(cost, A_ub=rows, b_ub=[0] * len(rows), bounds=bounds)
        least = min(least, found.fun) if found.status == 0 else least
    return least


@pytest.mark.precision
@pytest.mark.parametrize("operands", [2, 3, 5])
@few
@given(data=st.data())
def test_support_of_max_and_min_is_the_minimum(operands: int, data: st.DataObject) -> None:
    case = data.draw(cases(operands, neurons=6, adversarial=False, limit=8.0))
    bound = Max().support(case.a, case.b, case.box)
    mirrored = [Interval(-x.upper, -x.lower) for x in case.box]
    of_min = Min().support([-a for a in case.a], -case.b, mirrored)
    scale = 1 + magnitude(Max(), case, case.points)
    for i in range(6):
        least = least_of_max(case, i)
        assert bound[i].item() == pytest.approx(least, abs=1e-7 * scale[i].item())
        assert of_min[i].item() == pytest.approx(least, abs=1e-7 * scale[i].item())


@pytest.mark.precision
@few
@given(case=cases(2, neurons=64))
def test_support_of_mul_is_the_least_vertex(case: Case) -> None:
    (x, y), (a, c) = case.box, case.a
    vertices = torch.stack([a * p + c * q + case.b * p * q for p, q in product(x, y)])
    slack = 1e-14 * magnitude(Mul(), case, case.points) + 1e-300
    assert ((Mul().support(case.a, case.b, case.box) - vertices.amin(0)).abs() <= slack).all()


@pytest.mark.precision
def test_mccormick_envelopes_of_mul_follow_from_their_slopes() -> None:
    box = [Interval(torch.tensor([-1.0]), torch.tensor([2.0]))] * 2
    low, high = torch.tensor([-1.0]), torch.tensor([2.0])
    lines = relax(Mul(), Slopes(lower=(low, low), upper=(high, low)), box)
    assert lines.lower_offset.item() == -1.0  # -(l_x l_y)
    assert lines.upper_offset.item() == 2.0  # -(u_y l_x)


@pytest.mark.parametrize("operator", [Max(), Min()], ids=["max", "min"])
def test_one_operand_is_its_own_extremum(operator: Operator) -> None:
    x = torch.tensor([-1.0, 2.0])
    box = [Interval(x, x + 1)]
    assert operator.affine_on(box)[0].all()
    assert torch.equal(operator.support([-torch.ones(2)], torch.ones(2), box), torch.zeros(2))


def test_max_is_affine_where_one_operand_is_above_all_others() -> None:
    low, high = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0])
    other = Interval(torch.tensor([1.0, 0.5]), torch.tensor([2.0, 2.0]))
    affine, slopes = Max().affine_on([Interval(low, high), other])
    assert affine.tolist() == [True, False]
    assert (slopes[0][0].item(), slopes[1][0].item()) == (0.0, 1.0)
    assert [i.lower[0].item() for i in Max().derivative([Interval(low, high), other])] == [0, 0]


@pytest.mark.soundness
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), symbols=st.integers(0, 5))
def test_linearise_encloses_the_product_of_two_affine_forms(seed: int, symbols: int) -> None:
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    x, y, g, h = draw(2, 3), draw(2, 3), draw(2, symbols, 3), draw(2, symbols, 3)
    center, linear, radius = Mul().linearise(x, g, y, h)
    signs = list(product((-1.0, 1.0), repeat=symbols))
    corners = torch.tensor(signs, dtype=torch.float64).view(len(signs), symbols)
    inner = 2 * torch.rand(64, symbols, generator=random, dtype=torch.float64) - 1
    for noise in torch.cat((corners, inner)):
        symbol = noise[None, :, None]
        exact = (x + (g * symbol).sum(1)) * (y + (h * symbol).sum(1))
        error = (exact - center - (linear * symbol).sum(1)).abs()
        assert (error <= radius + 1e-12).all()


@pytest.mark.precision
def test_linearise_centres_a_square_exactly() -> None:
    # (e)^2 lies in [0, 1]: centre 1/2, radius 1/2.
    one = torch.ones(1, 1, 1)
    center, linear, radius = Mul().linearise(0 * one[0], one, 0 * one[0], one)
    assert (center.item(), linear.item(), radius.item()) == (0.5, 0.0, 0.5)
