"""Counts of verified images on MNIST 6x100 against published and reproduced ones.

python benchmarks/eran_counts.py
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from ours import load_graph
from tables import machine, number, print_table, write_json
from torch import Tensor
from workloads import BENCH

from absolver import domains
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.regions.box import Box
from absolver.dsl.domain import Domain

EPSILON = 0.026
CORRECT = 960
# Images at a time: a zonotope of 100 images, 784 + 500 symbols and 784 inputs has 0.4 GB.
GROUP = 100
# Ties of adaptive slopes, u = -l, fall to either side with rounding.
TIES = 2
EXPECTED = {
    True: {
        "interval": 0,
        "crown_ibp": 0,
        "fast_lin": 66,
        "zonotope": 66,
        "crown": 166,
        "deeppoly": 166,
    },
    False: {"fast_lin": 0, "zonotope": 0, "crown": 2, "deeppoly": 2},
}
"""Verified images of the first 1000, with the boxes clipped to [0, 1] and without."""
# A domain of our own, written for this comparison as a user would write it.
SAME_HIDDEN = Path(__file__).with_name("zonotope_on_fast_lin.dom")


@dataclass(frozen=True)
class Count:
    """How many images one domain verifies."""

    domain: str
    clipped: bool
    expected: int
    verified: int
    cpu_seconds: float

    @property
    def as_expected(self) -> bool:
        """Whether the count is the known one, up to ties."""
        return abs(self.verified - self.expected) <= (TIES if self.expected else 0)


def main() -> int:
    """Count, compare, and return 1 where a count is not the known one."""
    options = _arguments()
    torch.set_num_threads(1)
    dtype = getattr(torch, options.dtype)
    graph = load_graph(options.bench / "nets/mnist_6_100.onnx", options.device, dtype)
    images, labels = read_images(options.bench)
    images, labels = images.to(options.device, dtype), labels.to(options.device)
    correct = graph(images).flatten(1).argmax(1) == labels
    print(f"{machine()}; {options.dtype}; eps {EPSILON}; correct {int(correct.sum())} of {CORRECT}")
    images, labels = images[correct], labels[correct]

    counts = []
    margins: dict[tuple[str, bool], Tensor] = {}
    for clipped, expected in EXPECTED.items():
        region = Box(*box_around(images, clipped))
        for name, known in expected.items():
            start = time.process_time()
            found = worst_margins(graph, domains.load(name), region, labels)
            seconds = time.process_time() - start
            verified = int((found > 0).sum())
            margins[name, clipped] = found
            counts.append(Count(name, clipped, known, verified, seconds))
    _print_counts(counts)

    region = Box(*box_around(images, clipped=True))
    carried = worst_margins(graph, domains.load(str(SAME_HIDDEN)), region, labels)
    same = _print_same_images(carried, margins["fast_lin", True])
    write_json(options.json, [asdict(count) for count in counts])
    right = same and int(correct.sum()) == CORRECT and all(count.as_expected for count in counts)
    return 0 if right else 1


def read_images(bench: Path) -> tuple[Tensor, Tensor]:
    """Read the first 1000 MNIST test images, `[1000, 1, 1, 28, 28]` in [0, 1], and labels."""
    data = np.load(bench / "data/mnist_test_1000.npz")
    images = torch.from_numpy(data["x"].astype(np.float64) / 255)
    return images.reshape(-1, 1, 1, 28, 28), torch.from_numpy(data["y"].astype(np.int64))


def box_around(images: Tensor, clipped: bool) -> tuple[Tensor, Tensor]:
    """Return the ends of the boxes of radius `EPSILON`, inside [0, 1] where `clipped`."""
    lower, upper = images - EPSILON, images + EPSILON
    return (lower.clamp(0, 1), upper.clamp(0, 1)) if clipped else (lower, upper)


def worst_margins(graph: Graph, domain: Domain, region: Box, labels: Tensor) -> Tensor:
    """Bound, for each image, how far the label's output stays above every other one."""
    outputs = prod(graph.output.shape)
    unit = torch.eye(outputs, device=labels.device, dtype=region.lower.dtype)
    worst = []
    for group in torch.split(torch.arange(len(labels), device=labels.device), GROUP):
        rows = unit[labels[group]][:, None] - unit
        found = propagate(graph, domain, region.select(group), rows).rows
        # The row of the label itself is 0 - 0: it must not decide.
        own = torch.arange(outputs, device=labels.device) == labels[group][:, None]
        worst.append(found.masked_fill(own, torch.inf).amin(1))
    return torch.cat(worst)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--json", type=Path, help="also write the counts to this file")
    return parser.parse_args()


def _print_counts(counts: Sequence[Count]) -> None:
    header = ["domain", "boxes", "expected", "verified", "CPU s", ""]
    rows = [
        [
            count.domain,
            "in [0, 1]" if count.clipped else "not clipped",
            str(count.expected),
            str(count.verified),
            number(count.cpu_seconds),
            "as expected" if count.as_expected else "DIFFERENT",
        ]
        for count in counts
    ]
    print_table(header, rows)


def _print_same_images(zonotope: Tensor, fast_lin: Tensor) -> bool:
    """Compare DeepZ with Fast-Lin on the same hidden bounds, image by image."""
    same = bool(((zonotope > 0) == (fast_lin > 0)).all())
    apart = float(((zonotope - fast_lin).abs() / fast_lin.abs()).max())
    print(
        "zonotope on the hidden bounds of fast_lin verifies "
        f"{'the same' if same else 'OTHER'} images; margins differ by at most {apart:.1e} relative"
    )
    return same


if __name__ == "__main__":
    sys.exit(main())
