"""How much of what plain float32 CROWN claims stays certified over executions in floats.

python benchmarks/float_semantics.py
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from eran_counts import read_images
from tables import machine, print_table, write_json
from workloads import BENCH, input_shape

from absolver import domains
from absolver.analyzer.certify.errors import NotCertifiable
from absolver.analyzer.certify.produce import Target, certify
from absolver.analyzer.certify.query_record import write_query_record
from absolver.analyzer.decide import Execution
from absolver.analyzer.problem import Ball, Safety, pose
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.properties.query import Neighbourhood
from absolver.certificates.format import read_records
from absolver.certificates.network import Broken, Network, Property
from absolver.certificates.onnx_reader import read_network
from absolver.certificates.proof import check_proof
from absolver.certificates.query import read_query

NETWORKS = (
    "mnist_fc/onnx/mnist-net_256x2.onnx",
    "mnist_fc/onnx/mnist-net_256x4.onnx",
    "nets/mnist_6_100.onnx",
)
RADII = ("0.005", "0.01", "0.015", "0.02", "0.026")
IMAGES = 15
SEMANTICS = ("real", "float32", "tf32", "bf16")
KEPT = 0.99  # of the plain claims, the goal for float32


@dataclass(frozen=True)
class Count:
    """What was claimed, and certified over each semantics, for one network and radius."""

    network: str
    radius: str
    claimed: int
    certified: Mapping[str, int]
    seconds: float


def main() -> int:
    """Count; the exit code is 1 where too few claims stay certified over float32."""
    options = _arguments()
    torch.set_num_threads(1)
    counts = [count for name in NETWORKS for count in _counted(options.bench, name)]
    claimed = sum(count.claimed for count in counts)
    total = Counter[str]()
    for count in counts:
        total.update(count.certified)
    rows = [
        [Path(c.network).stem, c.radius, str(c.claimed), *(str(c.certified[s]) for s in SEMANTICS)]
        for c in counts
    ]
    rows.append(["all", "", str(claimed), *(str(total[s]) for s in SEMANTICS)])
    print(machine())
    print_table(["network", "radius", "plain float32 CROWN", *SEMANTICS], rows)
    print(f"kept over float32: {total['float32'] / claimed:.1%} (goal {KEPT:.0%})")
    write_json(options.json, [asdict(count) for count in counts])
    return 0 if total["float32"] >= KEPT * claimed else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures")
    return parser.parse_args()


def _counted(bench: Path, name: str) -> Iterator[Count]:
    network = read_network((bench / name).read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for radius in RADII:
            start = time.perf_counter()
            claimed, certified = 0, Counter[str](dict.fromkeys(SEMANTICS, 0))
            for problem in _problems(bench, bench / name, radius, scratch):
                if _claimed(problem):
                    claimed += 1
                    certified.update(_certified(problem, network, scratch))
            seconds = round(time.perf_counter() - start, 1)
            print(f"{name} {radius}: {claimed} {dict(certified)}", file=sys.stderr, flush=True)
            yield Count(name, radius, claimed, certified, seconds)


def _problems(bench: Path, network: Path, radius: str, scratch: Path) -> Iterator[Safety]:
    """Pose the first correctly classified images, inside [0, 1]."""
    images, labels = read_images(bench)
    found = 0
    for image, label in zip(images, labels.tolist(), strict=True):
        if found == IMAGES:
            return
        center = scratch / "image.npy"
        np.save(center, image.numpy().astype(np.float32).reshape(input_shape(network)))
        ball = Ball(center=center, epsilon=Fraction(radius), clip=(Fraction(0), Fraction(1)))
        problem = pose(network, ball, Execution())
        assert isinstance(problem, Safety) and isinstance(problem.claim, Neighbourhood)
        if problem.claim.label == label:
            found += 1
            yield problem


def _claimed(problem: Safety) -> bool:
    """Say whether float32 CROWN, with no regard to rounding, refutes every clause."""
    specification = problem.specify(torch.float32)
    graph = problem.network.graph.to("cpu", torch.float32)
    found = propagate(graph, domains.load("crown"), specification.region, specification.rows)
    return specification.verified(found.rows)


def _certified(problem: Safety, network: Network, scratch: Path) -> Iterator[str]:
    """Name the semantics over which the checker accepts the certificate."""
    assert isinstance(problem.claim, Neighbourhood)
    query, path = scratch / "query.json", scratch / "proof"
    write_query_record(query, problem.claim)
    try:
        certify(problem, domains.load("crown"), Execution(), Target(path=path, query=query))
    except NotCertifiable:
        return
    prop = read_query(query.read_bytes(), network.inputs, network.outputs)
    with path.open("rb") as stream:
        _, *records = read_records(stream)
    for semantics in SEMANTICS:
        if _accepted(network, prop, records, semantics):
            yield semantics


def _accepted(
    network: Network, prop: Property, records: Sequence[Mapping[str, Any]], semantics: str
) -> bool:
    try:
        check_proof(network, prop, records, semantics, "fast")
    except Broken:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
