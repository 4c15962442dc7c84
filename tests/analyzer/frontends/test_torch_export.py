"""Torch modules become graphs that compute what they do (`from_module` compares them itself)."""

import pytest
import torch
from torch import Tensor, nn

from absolver.analyzer.frontends.errors import (
    DisagreementError,
    UnknownOperatorError,
    UnreadableNetworkError,
    UnsupportedFormError,
)
from absolver.analyzer.frontends.torch_export import from_module
from absolver.analyzer.graph.graph import Affine, Nonlinear
from absolver.analyzer.graph.linear.dense import Dense


def operators(module: nn.Module, shape: tuple[int, ...]) -> list[str]:
    """Names of the non-linear operators of a module's graph."""
    nodes = from_module(module, shape).nodes
    return [n.operator.name for n in nodes if isinstance(n, Nonlinear)]


class Lambda(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


ACTIVATIONS = {
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(0.2),
    "clip": nn.Hardtanh(-0.5, 0.7),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "softplus": nn.Softplus(),
    "elu": nn.ELU(0.7),
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "hard_swish": nn.Hardswish(),
}


def test_an_activation_is_one_operator() -> None:
    assert operators(nn.Sequential(*ACTIVATIONS.values()), (1, 3)) == list(ACTIVATIONS)


class Each(nn.Module):
    """Several modules of the same input, side by side."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(x) for part in self.parts)


class SelfAttention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x, x, need_weights=False)[0]


def test_modules_on_sequences_agree() -> None:
    modules = (
        nn.ReLU6(),
        nn.SELU(),
        nn.Hardsigmoid(),
        nn.GELU(approximate="tanh"),
        nn.Softplus(beta=2.0),
        nn.PReLU(init=-0.3),
        nn.Softmax(-1),
        nn.LogSoftmax(1),
        nn.LayerNorm(4),
        nn.Dropout(),
        SelfAttention(4, 2, batch_first=True),
        nn.Flatten(),
    )
    from_module(Each(*modules), (1, 3, 4))


def test_modules_on_images_agree() -> None:
    modules = (
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        nn.Conv2d(2, 3, 2, dilation=2, padding="same"),
        nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1),
        nn.BatchNorm2d(2),
        nn.BatchNorm2d(2, affine=False),
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False, ceil_mode=True),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((3, 2)),
        nn.Upsample(scale_factor=2),
        nn.ZeroPad2d((1, 0, 2, 1)),
        nn.PReLU(2),
    )
    from_module(Each(*modules), (1, 2, 6, 6))


FUNCTIONS = {
    "products of variables": lambda x: x @ x.transpose(1, 2),
    "products and quotients": lambda x: x * x.flip(1) / (1 + x.abs()) + 2 - 0.5 * x,
    "slices and joins": lambda x: torch.cat([x[:, 1:], x[..., ::2].repeat(1, 1, 2)], 1),
    "stacks and splits": lambda x: torch.stack(x.chunk(2, -1)).squeeze(1),
    "reductions": lambda x: x.mean(1) + x.sum(1) - x.amax(1) + x.amin(1),
    "powers": lambda x: x**2 + x**3 + (x + 1).sqrt() + (x + 1).rsqrt(),
    "choices": lambda x: torch.where(x > 0.5, x, 1 - x),
    "indices": lambda x: x[:, torch.tensor([2, 0])].expand(2, 2, 4),
    "constants": lambda x: x + torch.arange(4.0).exp(),
    "extremes": lambda x: torch.maximum(x, 1 - x).clamp(max=0.8),
}


def test_functions_agree() -> None:
    from_module(Each(*(Lambda(function) for function in FUNCTIONS.values())), (1, 3, 4))


def test_weights_are_shared_with_the_module() -> None:
    layer = nn.Linear(3, 4)
    last = from_module(layer, (1, 3)).output
    assert isinstance(last, Affine)
    assert isinstance(last.maps[0], Dense)
    assert last.maps[0].weight.data_ptr() == layer.weight.data_ptr()


def test_several_outputs_are_joined() -> None:
    graph = from_module(Lambda(lambda x: (x + 1, x[:, :1])), (1, 3))
    assert graph.output.shape == (4,)


def test_a_double_module_gives_a_double_graph() -> None:
    graph = from_module(nn.Linear(3, 2).double(), (1, 3))
    assert graph(torch.zeros(1, 1, 3, dtype=torch.float64)).dtype == torch.float64


def test_the_modules_mode_is_kept() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout())
    from_module(module, (1, 3))
    assert module.training


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(UnknownOperatorError, match=r"aten\.cumprod is not supported; supported"):
        from_module(Lambda(lambda x: x.cumprod(1)), (1, 3))


def test_a_form_that_is_not_covered_is_named() -> None:
    with pytest.raises(UnsupportedFormError, match=r"aten\.pow.*depends on the input"):
        from_module(Lambda(lambda x: x ** (x + 1)), (1, 3))


def test_a_module_that_cannot_be_traced_is_an_error() -> None:
    def branch(x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x

    with pytest.raises(UnreadableNetworkError, match="cannot trace the module Lambda"):
        from_module(Lambda(branch), (1, 3))


def test_a_module_that_is_random_disagrees() -> None:
    with pytest.raises((DisagreementError, UnknownOperatorError)):
        from_module(Lambda(lambda x: x + torch.rand_like(x)), (1, 3))
