"""The architectures of the literature, for any shape of images and number of classes."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from absolver.analyzer.graph.linear.map import Shape
from absolver.analyzer.training.errors import TrainingError


def build_model(name: str, shape: Shape, classes: int) -> nn.Sequential:
    """Build an architecture by its name: one of `NAMES`."""
    if name not in _BODIES:
        raise TrainingError(f"no model is called {name}; there are {', '.join(NAMES)}")
    if name != "mlp" and len(shape) != 3:
        raise TrainingError(f"{name} takes images, and the data has points of shape {list(shape)}")
    layers, features = _BODIES[name](shape)
    return nn.Sequential(*layers, nn.Linear(features, classes))


Body = tuple[list[nn.Module], int]
"""All layers but the last, and how many features they give."""


def _convolutional(
    shape: Shape, convolutions: list[tuple[int, int, int]], dense: list[int], *, norm: bool
) -> Body:
    """Stack convolutions (channels, kernel, stride) and dense layers, a ReLU behind each."""
    layers: list[nn.Module] = []
    channels = shape[0]
    for width, kernel, stride in convolutions:
        layers.append(nn.Conv2d(channels, width, kernel, stride, 1))
        layers += [nn.BatchNorm2d(width)] if norm else []
        layers.append(nn.ReLU())
        channels = width
    layers.append(nn.Flatten())
    with torch.no_grad():
        features = nn.Sequential(*layers).eval()(torch.zeros(1, *shape)).shape[1]
    for width in dense:
        layers.append(nn.Linear(features, width))
        layers += [nn.BatchNorm1d(width)] if norm else []
        layers.append(nn.ReLU())
        features = width
    return layers, features


def _cnn3(shape: Shape) -> Body:
    return _convolutional(shape, [(16, 4, 2), (32, 4, 2)], [], norm=False)


def _dm_small(shape: Shape) -> Body:
    return _convolutional(shape, [(16, 4, 2), (32, 4, 1)], [100], norm=False)


def _dm_large(shape: Shape) -> Body:
    body = [(64, 3, 1), (64, 3, 1), (128, 3, 2), (128, 3, 1), (128, 3, 1)]
    return _convolutional(shape, body, [512], norm=False)


def _cnn5(shape: Shape) -> Body:
    return _convolutional(shape, [(16, 3, 1), (16, 4, 2), (32, 4, 2)], [512], norm=True)


def _cnn7(shape: Shape) -> Body:
    body = [(64, 3, 1), (64, 3, 1), (128, 3, 2), (128, 3, 1), (128, 3, 1)]
    return _convolutional(shape, body, [512], norm=True)


def _mlp(shape: Shape) -> Body:
    features = torch.Size(shape).numel()
    layers: list[nn.Module] = [nn.Flatten()]
    for width in (256, 128):
        layers += [nn.Linear(features, width), nn.ReLU()]
        features = width
    return layers, features


_BODIES: Mapping[str, Callable[[Shape], Body]] = {
    "cnn3": _cnn3,
    "cnn5": _cnn5,
    "cnn7": _cnn7,
    "dm-small": _dm_small,
    "dm-large": _dm_large,
    "mlp": _mlp,
}
NAMES = tuple(_BODIES)
