"""The few inputs that change linear forms the most are those that a full sort finds."""

import pytest
import torch
from torch import Tensor

from absolver.analyzer.training.exchanged import best_choices


def _points(drawn: float, reach: float) -> tuple[Tensor, Tensor]:
    x = torch.rand(6, 90) * (torch.rand(6, 90) < drawn)
    x[0] = x[1].clamp(max=0)
    return x * reach, torch.full_like(x, reach)


def _gains(weight: Tensor, down: Tensor, width: Tensor) -> Tensor:
    down, up = down.unsqueeze(1), (width - down).unsqueeze(1)
    return weight.clamp(min=0) * down - weight.clamp(max=0) * up


@pytest.mark.parametrize("budget", [1, 2, 7, 90])
@pytest.mark.parametrize("drawn", [0.0, 0.2, 0.9])
@pytest.mark.parametrize("reach", [0.0, 0.37, 1.0])
def test_choices_gain_as_much_as_the_largest(budget: int, drawn: float, reach: float) -> None:
    torch.manual_seed(budget)
    weight = torch.randn(40, 90)
    weight[0], weight[1], weight[2, ::2] = 0.0, weight[1].abs(), -0.0
    # The first inputs of this row's order are drawn in no point, the first of that one in all.
    weight[3, :45], weight[4, 45:] = -3.0, -3.0
    down, width = _points(drawn, reach)
    if drawn > 0:
        down[:, :9] = reach
    chosen = best_choices(weight, down, width, budget)
    assert chosen.shape == (6, 40, budget)
    assert (chosen.sort(2).values.diff(dim=2) > 0).all(), "an input is chosen twice"
    gains = _gains(weight, down, width)
    most = gains.topk(budget, dim=2).values.sum(2)
    torch.testing.assert_close(gains.gather(2, chosen).sum(2), most)


def test_points_whose_inputs_have_widths_of_their_own() -> None:
    torch.manual_seed(1)
    weight, width = torch.randn(5, 30), torch.rand(4, 30)
    down = torch.where(torch.rand(4, 30) < 0.2, width / 2, 0)
    chosen = best_choices(weight, down, width, 3)
    gains = _gains(weight, down, width)
    most = gains.topk(3, dim=2).values.sum(2)
    torch.testing.assert_close(gains.gather(2, chosen).sum(2), most)
