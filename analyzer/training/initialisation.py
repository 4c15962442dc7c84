"""How weights start, where torch's own start would make intervals explode."""

from math import pi, sqrt

import torch
from torch import nn

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def initialise_for_intervals(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw weights so that intervals keep their width from layer to layer (Shi et al. 2021, 4.1).

    A weight has the deviation sqrt(2 pi) / n for n operands of a neuron; biases are 0.
    """
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, _LAYERS):
                fan_in = layer.weight[0].numel()
                layer.weight.normal_(0, sqrt(2 * pi) / fan_in, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
