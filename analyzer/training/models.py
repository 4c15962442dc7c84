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
    if name not in _FLAT and len(shape) != 3:
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


def _cnn_a(shape: Shape) -> Body:
    return _convolutional(shape, [(16, 4, 2), (32, 4, 2)], [100], norm=False)


def _cnn_b(shape: Shape) -> Body:
    body = [(32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 4, 2)]
    return _convolutional(shape, body, [512, 512], norm=False)


def _dense(shape: Shape, widths: list[int]) -> Body:
    """Stack dense layers, a ReLU behind each."""
    features = torch.Size(shape).numel()
    layers: list[nn.Module] = [nn.Flatten()]
    for width in widths:
        layers += [nn.Linear(features, width), nn.ReLU()]
        features = width
    return layers, features


def _mlp(shape: Shape) -> Body:
    return _dense(shape, [256, 128])


def _fcnn_a(shape: Shape) -> Body:
    return _dense(shape, [20, 20])


def _fcnn_b(shape: Shape) -> Body:
    return _dense(shape, [100, 100, 100])


# The last four are the SoK's, by its names: Li, Xie and Li, "SoK: Certified Robustness for Deep
# Neural Networks", S&P 2023, Table III.
_BODIES: Mapping[str, Callable[[Shape], Body]] = {
    "cnn3": _cnn3,
    "cnn5": _cnn5,
    "cnn7": _cnn7,
    "dm-small": _dm_small,
    "dm-large": _dm_large,
    "mlp": _mlp,
    "fcnn-a": _fcnn_a,
    "fcnn-b": _fcnn_b,
    "cnn-a": _cnn_a,
    "cnn-b": _cnn_b,
}
_FLAT = ("mlp", "fcnn-a", "fcnn-b")
NAMES = tuple(_BODIES)
