"""Real networks and the real boxes that their bounds are measured on."""

import gzip
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[np.float32]
"""A float32 array, `[batch, *input shape]` with the network's own leading 1 left out."""

ROOT = Path(__file__).resolve().parents[1]
BENCH = Path(os.environ.get("ABSOLVER_BENCH", ROOT.parent / "shared/bench"))
"""The folder of real networks and properties: `$ABSOLVER_BENCH`, or beside the repository."""

BOUND = re.compile(r"\(assert \((<=|>=) X_(\d+) (\S+)\)\)")
"""How these families write a bound of one input; their properties have one box each."""


@dataclass(frozen=True)
class Workload:
    """A network and a batch of input boxes: what both sides are asked to bound.

    Guarantee: `lower <= upper`; the first box is a property of the family (or an image of the
    test set) as it stands, and the same batch size always gives the same boxes.
    """

    name: str
    network: Path
    lower: Array
    upper: Array

    def alone(self, element: int) -> "Workload":
        """Return one element as a batch of its own."""
        own = slice(element, element + 1)
        return replace(self, lower=self.lower[own], upper=self.upper[own])


@dataclass(frozen=True)
class Source:
    """Where a network and its boxes lie in the benchmark folder."""

    network: str
    boxes: Callable[[Path, int], tuple[Array, Array]]


def workload(name: str, bench: Path, batch: int) -> Workload:
    """Read one of `SOURCES` and make a batch of boxes for it."""
    source = SOURCES[name]
    network = bench / source.network
    lower, upper = source.boxes(bench, batch)
    shape = input_shape(network)
    return Workload(
        name, network, lower.reshape(batch, *shape[1:]), upper.reshape(batch, *shape[1:])
    )


def input_shape(network: Path) -> tuple[int, ...]:
    """Return the declared shape of a network's one input, dynamic axes set to 1."""
    graph = onnx.load(network).graph
    constants = {tensor.name for tensor in graph.initializer}
    (declared,) = (value for value in graph.input if value.name not in constants)
    return tuple(axis.dim_value or 1 for axis in declared.type.tensor_type.shape.dim)


def property_box(path: Path) -> tuple[Array, Array]:
    """Return the input box of a VNN-LIB property that has exactly one."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    bounds = BOUND.findall(text.decode())
    sides = {
        side: {int(index): float(value) for relation, index, value in bounds if relation == side}
        for side in ("<=", ">=")
    }
    count = len(sides["<="])
    lower, upper = ([sides[side][i] for i in range(count)] for side in (">=", "<="))
    return np.asarray(lower, np.float32), np.asarray(upper, np.float32)


def _of_properties(pattern: str) -> Callable[[Path, int], tuple[Array, Array]]:
    """Boxes of a family's properties; once they run out, the same ones around moved centres."""

    def boxes(bench: Path, batch: int) -> tuple[Array, Array]:
        paths = sorted(bench.glob(pattern))[:batch]
        pairs = [property_box(path) for path in paths]
        lower, upper = (
            np.resize(side, (batch, side[0].size))
            for side in map(np.stack, zip(*pairs, strict=True))
        )
        # Half the box's own width moves the centres enough to change which neurons are stable.
        generator = np.random.default_rng(0)
        shift: Array = generator.random((batch, lower.shape[1]), np.float32) - np.float32(0.5)
        shift[: len(paths)] = 0
        shift *= upper - lower
        return lower + shift, upper + shift

    return boxes


def _around_images(bench: Path, batch: int) -> tuple[Array, Array]:
    """Boxes of radius 2/255 around CIFAR-10 test images, inside [0, 1]."""
    images = np.load(bench / "data/cifar10_test_lossless.npz")["x"][:batch]
    centre = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    radius = np.float32(2 / 255)
    return np.clip(centre - radius, 0, 1), np.clip(centre + radius, 0, 1)


_MNIST = _of_properties("mnist_fc/vnnlib/prop_*.vnnlib")

SOURCES = {
    "mnist_256x2": Source("mnist_fc/onnx/mnist-net_256x2.onnx", _MNIST),
    "mnist_256x4": Source("mnist_fc/onnx/mnist-net_256x4.onnx", _MNIST),
    "oval_base": Source("nets/oval_cifar_base.onnx", _around_images),
    "oval_wide": Source("nets/oval_cifar_wide.onnx", _around_images),
    "oval_deep": Source("nets/oval_cifar_deep.onnx", _around_images),
    "cifar10_resnet": Source(
        "cifar10_resnet/onnx/resnet_2b.onnx",
        _of_properties("cifar10_resnet/vnnlib/prop_*_eps_0.008.vnnlib.gz"),
    ),
    "sri_resnet_a": Source(
        "sri_resnet_a/onnx/resnet_3b2_bn_mixup_adv_4.0_bs128_lr-1.onnx",
        _of_properties("sri_resnet_a/vnnlib/*.vnnlib.gz"),
    ),
    "vit_pgd": Source("vit/onnx/pgd_2_3_16.onnx", _of_properties("vit/vnnlib/pgd_2_3_16_*.gz")),
    "vit_ibp": Source("vit/onnx/ibp_3_3_8.onnx", _of_properties("vit/vnnlib/ibp_3_3_8_*.gz")),
}
"""Every network of the comparison, small ones first."""

SAME_SLOPES = frozenset(name for name in SOURCES if not name.startswith("vit"))
"""ReLU networks: both sides draw the same lines, so that bounds must agree up to rounding."""
