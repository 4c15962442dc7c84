"""Families of small networks on which verifiers go wrong, each with boxes that suit it."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from random import Random
from types import MappingProxyType

import numpy as np

from tests.attack.claims import Box
from tests.attack.generate import Network

Family = Callable[[Random], tuple[Network, Box]]
Draw = Callable[[Random], float]


def _single(value: float) -> float:
    return float(np.float32(value))


def _integer(random: Random) -> float:
    return float(random.randint(-3, 3))


def _mixed(random: Random) -> float:
    return _single(random.choice((-1, 1)) * random.uniform(1, 2) * 2.0 ** random.randint(-14, 14))


def _gauss(random: Random) -> float:
    return _single(random.gauss(0, 1))


def _layer(
    random: Random, inputs: int, outputs: int, draw: Draw
) -> tuple[list[list[float]], list[float]]:
    weight = [[draw(random) for _ in range(inputs)] for _ in range(outputs)]
    return weight, [draw(random) for _ in range(outputs)]


def _dense(random: Random, draw: Draw, inputs: int, function: str = "Relu") -> Network:
    network = Network((1, inputs))
    tensor, width = "x", inputs
    attributes = {"alpha": 0.125} if function == "LeakyRelu" else {}
    for _ in range(random.choice((1, 1, 2))):
        outputs = random.randint(2, 3)
        tensor = network.dense(tensor, *_layer(random, width, outputs, draw))
        tensor = network.curve(function, tensor, **attributes)
        width = outputs
    network.dense(tensor, *_layer(random, width, random.randint(1, 2), draw))
    return network


def _integer_box(random: Random, inputs: int) -> Box:
    sides = [sorted(random.sample(range(-3, 4), 2)) for _ in range(inputs)]
    return tuple((Fraction(a), Fraction(b)) for a, b in sides)


def _decimal_box(random: Random, inputs: int) -> Box:
    """Decimals that no float is, some of them of width 0 or 1e-6."""
    sides = []
    for _ in range(inputs):
        low = Fraction(random.randint(-1000, 1000), random.choice((1000, 1000, 10**6)))
        width = random.choice((Fraction(0), Fraction(1, 10**6), Fraction(3, 10), Fraction(7, 5)))
        sides.append((low, low + width))
    return tuple(sides)


def _integers(random: Random) -> tuple[Network, Box]:
    inputs = random.randint(1, 3)
    return _dense(random, _integer, inputs), _integer_box(random, inputs)


def _line(random: Random) -> tuple[Network, Box]:
    """One input: the exact minimum is at an end or a kink."""
    draw = random.choice((_integer, _integer, _gauss))
    function = random.choice(("Relu", "Relu", "LeakyRelu", "Abs"))
    return _dense(random, draw, 1, function), _integer_box(random, 1)


def _mixed_scale(random: Random) -> tuple[Network, Box]:
    inputs = random.randint(1, 2)
    return _dense(random, _mixed, inputs), _integer_box(random, inputs)


def _decimals(random: Random) -> tuple[Network, Box]:
    inputs = random.randint(1, 3)
    return _dense(random, random.choice((_integer, _gauss)), inputs), _decimal_box(random, inputs)


def _cancellation(random: Random) -> tuple[Network, Box]:
    """Rows of two large weights that nearly cancel, behind ones."""
    network = Network((1, 1))
    width = random.randint(3, 5)
    tensor = network.dense("x", [[1.0]] * width, [0.0] * width)
    tensor = network.curve("Relu", tensor)
    large = 2.0 ** random.randint(12, 24)
    row = [large, *(float(random.randint(1, 3)) for _ in range(width - 2)), -large]
    random.shuffle(row)
    network.dense(tensor, [row], [float(random.choice((0, 0, 1)))])
    low = Fraction(random.randint(1, 4))
    return network, ((low, low + random.choice((0, 1, Fraction(1, 2)))),)


def _convolution(random: Random) -> tuple[Network, Box]:
    network = Network((1, 1, 3, 3))
    weight = np.array([_integer(random) for _ in range(8)]).reshape(2, 1, 2, 2)
    tensor = network.conv("x", weight, [_integer(random) for _ in range(2)], 1)
    if random.random() < 0.7:
        tensor = network.max_pool(tensor, random.choice((0, 1)))
    if random.random() < 0.7:
        tensor = network.curve("Relu", tensor)
    tensor = network.flatten(tensor)
    network.dense(tensor, *_layer(random, network.size(tensor), 1, _integer))
    wide = random.randrange(9)
    sides = [
        (Fraction(random.randint(-2, 2)), i == wide or random.random() < 0.2) for i in range(9)
    ]
    return network, tuple((low, low + int(moves)) for low, moves in sides)


def _residual(random: Random) -> tuple[Network, Box]:
    network = Network((1, 2))
    first = network.dense("x", *_layer(random, 2, 2, _integer))
    inner = network.curve("Relu", first)
    inner = network.dense(inner, *_layer(random, 2, 2, _integer))
    joined = network.curve("Relu", network.add(first, inner))
    network.dense(joined, *_layer(random, 2, 2, _integer))
    return network, _integer_box(random, 2)


def _product(random: Random) -> tuple[Network, Box]:
    """The product of two affine forms, and of a ReLU with one."""
    network = Network((1, 2))
    first = network.dense("x", *_layer(random, 2, 2, _integer))
    second = network.dense("x", *_layer(random, 2, 2, _integer))
    if random.random() < 0.5:
        first = network.curve("Relu", first)
    network.dense(network.curve("Mul", first, second), *_layer(random, 2, 1, _integer))
    return network, _integer_box(random, 2)


def _maximum(random: Random) -> tuple[Network, Box]:
    network = Network((1, 2))
    operands = [network.dense("x", *_layer(random, 2, 2, _integer)) for _ in range(3)]
    network.dense(network.curve("Max", *operands), *_layer(random, 2, 1, _integer))
    return network, _integer_box(random, 2)


def _sigmoid(random: Random) -> tuple[Network, Box]:
    network = Network((1, 1))
    tensor = network.dense("x", *_layer(random, 1, 2, _gauss))
    tensor = network.curve("Sigmoid", tensor)
    network.dense(tensor, *_layer(random, 2, 1, _integer))
    low = Fraction(random.randint(-300, 300), 100)
    return network, ((low, low + random.choice((Fraction(0), Fraction(1, 100), Fraction(2)))),)


def _wave(random: Random) -> tuple[Network, Box]:
    """Sines and cosines, of two angles, over a point, a small part of a period, or several."""
    network = Network((1, 1))
    tensor = network.dense("x", *_layer(random, 1, 2, _gauss))
    tensor = network.curve(random.choice(("Sin", "Cos")), tensor)
    network.dense(tensor, *_layer(random, 2, 1, _integer))
    low = Fraction(random.randint(-1000, 1000), 100)
    width = random.choice((Fraction(0), Fraction(1, 1000), Fraction(2), Fraction(9)))
    return network, ((low, low + width),)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "integers": _integers,
        "line": _line,
        "mixed scale": _mixed_scale,
        "decimals": _decimals,
        "cancellation": _cancellation,
        "convolution": _convolution,
        "residual": _residual,
        "product": _product,
        "maximum": _maximum,
        "sigmoid": _sigmoid,
        "wave": _wave,
    }
)
