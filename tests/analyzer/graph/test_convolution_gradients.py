"""Convolutions with gradients of their own against torch's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from absolver.analyzer.graph.linear.gradients import convolve, transpose

Case = tuple[Tensor, Tensor, Tensor, int, int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw images, a weight, a bias, a stride and a padding."""
    seed, channels = draw(st.integers(0, 2**16)), draw(st.sampled_from((1, 2, 8)))
    kernel, stride, size = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(5, 8))
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        return drawn.requires_grad_()

    x, weight = random(2, channels, size, size + 1), random(3, channels, kernel, kernel)
    return x, weight, random(3), stride, draw(st.integers(0, kernel - 1))


@given(cases())
def test_a_convolution_and_its_gradients_are_torchs(case: Case) -> None:
    x, weight, bias, stride, padding = case
    ours = convolve(x, weight, bias, (stride, stride), (padding, padding))
    theirs = functional.conv2d(x, weight, bias, stride, padding)
    torch.testing.assert_close(ours, theirs)
    way = torch.randn_like(theirs)
    found, expected = (torch.autograd.grad(y, (x, weight, bias), way) for y in (ours, theirs))
    torch.testing.assert_close(found, expected)


@given(cases())
def test_the_adjoint_and_its_gradients_are_those_of_the_convolutions_gradient(case: Case) -> None:
    x, weight, _, stride, padding = case
    result = functional.conv2d(x, weight, None, stride, padding)
    a = torch.randn_like(result).requires_grad_()
    (theirs,) = torch.autograd.grad(result, x, a, create_graph=True)
    ours = transpose(a, weight, (stride, stride), (padding, padding), x.shape[2:])
    torch.testing.assert_close(ours, theirs)
    way = torch.randn_like(theirs)
    found, expected = (torch.autograd.grad(y, (a, weight), way) for y in (ours, theirs))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("channels", [1, 8])
def test_gradients_have_gradients(channels: int) -> None:
    x = torch.randn(1, channels, 4, 4, dtype=torch.float64).requires_grad_()
    weight = torch.randn(2, channels, 3, 3, dtype=torch.float64).requires_grad_()

    def value(x: Tensor, weight: Tensor) -> Tensor:
        return convolve(x, weight, None, (1, 1), (1, 1))

    assert torch.autograd.gradgradcheck(value, (x, weight))
