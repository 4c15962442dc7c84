"""The gradient of ReLU's support, which is written by hand."""

import torch

from absolver.dsl.operators.record import Interval
from absolver.dsl.operators.relu import Relu


def test_the_gradient_of_relus_support_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    slope = torch.randn(200, generator=generator, dtype=torch.float64).requires_grad_()
    ends = torch.randn(2, 200, generator=generator, dtype=torch.float64).sort(0).values
    lower, upper = (end.clone().requires_grad_() for end in ends)
    for sign in (1.0, -1.0):
        b = torch.full_like(slope, sign)

        def support(a: torch.Tensor, *ends: torch.Tensor) -> torch.Tensor:
            return Relu().support([a], b, [Interval(*ends)])  # noqa: B023 - used in this turn alone

        assert torch.autograd.gradcheck(support, (slope, lower, upper), eps=1e-7, atol=1e-5)


def test_relus_support_is_the_same_with_and_without_gradients() -> None:
    generator = torch.Generator().manual_seed(2)
    slope = torch.randn(3, 50, generator=generator)
    lower, upper = torch.randn(2, 50, generator=generator).sort(0).values
    lower[:3], upper[1:4] = -torch.inf, torch.inf
    slope[:, 4] = torch.nan
    b = torch.ones_like(slope)
    plain = Relu().support([slope], b, [Interval(lower, upper)])
    with_gradients = Relu().support([slope.clone().requires_grad_()], b, [Interval(lower, upper)])
    assert plain.equal(with_gradients.detach())
    with_gradients[:, 5:].sum().backward()  # type: ignore[no-untyped-call]
