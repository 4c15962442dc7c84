"""What proved bounds cost: time, and width lost against plain float64 bounds.

python benchmarks/rigour.py [--bench FOLDER] [--networks mnist_256x2 ...] [--batch N] [--device cpu]

For each network and dtype: the time of plain CROWN, and for each semantics the time of a proved
pass as a multiple of it, the largest width that an output's bound loses, and that loss relative to
the width between the output's bounds. Dtypes are compared with plain float64, which rounds too,
but far less than what is lost here.
"""

import argparse
from collections.abc import Callable
from math import prod
from pathlib import Path

import torch
from measure import interleaved
from ours import load_graph, region_of
from tables import print_table
from torch import Tensor
from workloads import BENCH, SOURCES, workload

from absolver import domains
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.propagate.execution import Rounding, Semantics
from absolver.analyzer.regions.box import Box
from absolver.dsl.domain import Domain

SEMANTICS: tuple[Semantics, ...] = ("real", "float32", "tf32", "bf16")
NETWORKS = ("mnist_256x2", "mnist_256x4", "oval_base", "oval_wide", "oval_deep")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
REPEATS, SECONDS = 9, 60.0


def main() -> None:
    """Print one row for each network, dtype and semantics."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--networks", nargs="+", choices=sorted(SOURCES), default=NETWORKS)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--domain", default="crown")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    domain = domains.load(arguments.domain)
    rows: list[tuple[str, ...]] = []
    for name in arguments.networks:
        work = workload(name, arguments.bench, arguments.batch)
        exact: Tensor | None = None
        for label, dtype in reversed(DTYPES.items()):
            graph = load_graph(work.network, arguments.device, dtype)
            region = region_of(work, graph, arguments.device, dtype)
            calls: dict[str, Callable[[], Tensor]] = {"plain": _call(graph, domain, region, None)}
            for semantics in SEMANTICS:
                calls[semantics] = _call(graph, domain, region, Rounding(semantics))
            timed = interleaved(calls, arguments.device, REPEATS, SECONDS)
            plain = timed["plain"]
            exact = plain.result.double() if exact is None else exact
            lower, upper = exact.chunk(2, dim=1)
            width = (-upper - lower).repeat(1, 2)
            rows.append((name, label, "plain", f"{plain.seconds * 1e3:.1f} ms", "", ""))
            for semantics in SEMANTICS:
                found = timed[semantics]
                loss = exact - found.result.double()
                rows.append(
                    (
                        *(name, label, semantics, f"x {found.seconds / plain.seconds:.2f}"),
                        *(f"{float(loss.max()):.1e}", f"{float((loss / width).max()):.2%}"),
                    )
                )
    print_table(("network", "dtype", "semantics", "time", "width lost", "of the width"), rows)


def _call(
    graph: Graph, domain: Domain, region: Box, rounding: Rounding | None
) -> Callable[[], Tensor]:
    unit = torch.eye(prod(graph.output.shape), device=region.device, dtype=region.dtype)
    rows = torch.cat([unit, -unit])[None]
    return lambda: propagate(graph, domain, region, rows, rounding=rounding).rows


if __name__ == "__main__":
    main()
