"""Architectures have the neurons that the literature counts."""

import pytest
import torch
from torch import Tensor, nn

from absolver.analyzer.training.models import build_model

# Outputs of all dense and convolutional layers but the input, on MNIST; the SoK's architectures
# are counted from the layers that its repository, VeriGauge, defines.
NEURONS = {
    "mlp": 256 + 128 + 10,
    "fcnn-a": 20 + 20 + 10,
    "fcnn-b": 3 * 100 + 10,
    "cnn-a": 16 * 14**2 + 32 * 7**2 + 100 + 10,
    "cnn-b": 32 * 28**2 + 32 * 14**2 + 64 * 14**2 + 64 * 7**2 + 2 * 512 + 10,
}


@pytest.mark.parametrize(("name", "neurons"), NEURONS.items())
def test_an_architecture_has_the_neurons_of_its_source(name: str, neurons: int) -> None:
    model, counted = build_model(name, (1, 28, 28), 10), list[int]()

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counted.append(output[0].numel())

    for layer in model:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, 1, 28, 28))
    assert sum(counted) == neurons
