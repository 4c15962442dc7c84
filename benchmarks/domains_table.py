"""Mean widths and times of the library's domains on a few networks, and how they are ordered.

python benchmarks/domains_table.py
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from measure import interleaved
from ours import bounds_by, load_graph, region_of
from tables import machine, number, print_table, write_json
from torch import Tensor
from workloads import BENCH, SOURCES, workload

from absolver import domains

DOMAINS = (
    "interval",
    "symbolic_interval",
    "zonotope",
    "fast_lin",
    "crown_ibp",
    "crown",
    "deeppoly",
    "crown & interval",
)
NETWORKS = ("mnist_256x2", "mnist_256x4", "oval_base", "oval_deep", "cifar10_resnet")
# A domain that takes longer than this on its first call is not timed again, warm.
SECONDS = 3.0
ORDERINGS = (
    ("interval", "crown & interval"),
    ("crown", "crown & interval"),
    ("interval", "crown_ibp"),
    ("crown_ibp", "crown"),
    ("fast_lin", "crown"),
    ("zonotope", "fast_lin"),
)
"""Pairs (wider, narrower). Only the first two need to hold for every neuron: a domain that picks
its slopes from the bounds is not monotone in them."""


@dataclass(frozen=True)
class Entry:
    """One domain on one network."""

    network: str
    domain: str
    mean_width: float
    cpu_seconds: float


def main() -> int:
    """Print both tables."""
    options = _arguments()
    torch.set_num_threads(1)
    dtype = getattr(torch, options.dtype)
    print(f"{machine()}; {options.dtype}; batch {options.batch}")
    entries: list[Entry] = []
    widths: dict[tuple[str, str], Tensor] = {}
    for name in options.nets:
        work = workload(name, options.bench, options.batch)
        graph = load_graph(work.network, "cpu", dtype)
        region = region_of(work, graph, "cpu", dtype)
        for domain in DOMAINS:
            call = partial(bounds_by, graph, domains.load(domain), region)
            timed = interleaved({domain: call}, "cpu", 1, SECONDS)[domain]
            lower, upper = timed.result
            widths[name, domain] = upper - lower
            entries.append(Entry(name, domain, float((upper - lower).mean()), timed.seconds))
    _print_entries(entries, options.nets)
    print()
    _print_orderings(widths, options.nets)
    write_json(options.json, [asdict(entry) for entry in entries])
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--nets", nargs="+", choices=tuple(SOURCES), default=NETWORKS)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


def _print_entries(entries: Sequence[Entry], networks: Sequence[str]) -> None:
    """Print mean width and CPU seconds, a row a domain."""
    found = {(entry.network, entry.domain): entry for entry in entries}
    header = ["domain", *(f"{name} {what}" for name in networks for what in ("width", "s"))]
    rows = []
    for domain in DOMAINS:
        row = [found[name, domain] for name in networks]
        figures = [figure for entry in row for figure in (entry.mean_width, entry.cpu_seconds)]
        rows.append([domain, *map(number, figures)])
    print_table(header, rows)


def _print_orderings(widths: dict[tuple[str, str], Tensor], networks: Sequence[str]) -> None:
    """Print for each pair on how many outputs the second is no wider than the first."""
    rows = []
    for wider, narrower in ORDERINGS:
        row = []
        for name in networks:
            first, second = widths[name, wider], widths[name, narrower]
            # 1e-4: what float32 rounding of these networks may turn round.
            holds = second <= first * (1 + 1e-4)
            row.append(f"{int(holds.sum())}/{holds.numel()}")
        rows.append([f"{narrower} <= {wider}", *row])
    print_table(["outputs on which", *networks], rows)


if __name__ == "__main__":
    sys.exit(main())
