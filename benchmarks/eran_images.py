"""How many of the first MNIST test images we verify on ERAN's networks, beside published counts.

python benchmarks/eran_images.py --resume eran.jsonl [--ways search crown triple_crown ...]

`search` is `analyze` as it is, with a time limit; the name of a domain stands for its bounds
alone, optimised where the domain has parameters, without any branching.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from eran_counts import read_images
from tables import append_line, machine, print_table, read_lines
from workloads import BENCH

from absolver import domains
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.problem import Ball, Safety, pose
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.search.ascent import ascend
from absolver.analyzer.search.hidden import Effort, search_hidden
from absolver.analyzer.search.instance import Instance
from absolver.analyzer.search.paths import Paths
from absolver.analyzer.session import Session
from absolver.analyzer.verify import verify
from absolver.dsl.domain import Domain


@dataclass(frozen=True)
class Network:
    """A network of ERAN's with its radius, and published counts of the first 1000 images."""

    file: str
    epsilon: str
    correct: int
    published: dict[str, int]


# Correct images and DeepPoly's, kPoly's and PRIMA's counts: Singh et al., "Beyond the Single Neuron
# Convex Barrier", NeurIPS 2019; Mueller et al., "PRIMA", POPL 2022; ERAN's README. beta-CROWN's:
# Wang et al., NeurIPS 2021. PRIMA's count on 6x100 took 159 s an image, beta-CROWN's 102 s.
NETWORKS = {
    "6x100": Network(
        "mnist_6_100", "0.026", 960, {"DeepPoly": 160, "kPoly": 441, "PRIMA": 510, "b-CROWN": 699}
    ),
    "9x100": Network(
        "mnist_9_100", "0.026", 947, {"DeepPoly": 182, "kPoly": 369, "PRIMA": 428, "b-CROWN": 620}
    ),
    "6x200": Network(
        "mnist_6_200", "0.015", 972, {"DeepPoly": 292, "kPoly": 574, "PRIMA": 690, "b-CROWN": 774}
    ),
    "9x200": Network(
        "mnist_9_200", "0.015", 950, {"DeepPoly": 259, "kPoly": 506, "PRIMA": 624, "b-CROWN": 735}
    ),
    "ConvSmall": Network(
        "mnist_conv_small",
        "0.12",
        980,
        {"DeepPoly": 158, "kPoly": 347, "PRIMA": 598, "b-CROWN": 727},
    ),
}
SEARCH = "search"


@dataclass(frozen=True)
class Answer:
    """What one way says of one image."""

    network: str
    way: str
    image: int
    limit_s: float
    verdict: str
    seconds: float

    @property
    def key(self) -> tuple[str, str, int, float]:
        """What makes a run the same run."""
        return self.network, self.way, self.image, self.limit_s


def main() -> int:
    """Run what is not in the file yet, and print the tables."""
    options = _arguments()
    torch.set_num_threads(1)
    images, labels = read_images(options.bench)
    known = {a.key: a for a in (Answer(**line) for line in read_lines(options.resume))}
    print(f"{machine()}; the first {options.images} images, {options.seconds:g} s each", flush=True)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.nets:
            for way in options.ways:
                for i in range(options.images):
                    key = name, way, i, options.seconds
                    if key not in known:
                        center = Path(folder) / f"{i}.npy"
                        np.save(center, images[i].numpy().astype(np.float32).reshape(1, 1, 28, 28))
                        known[key] = _answer(options, key, center, int(labels[i]))
                        append_line(options.resume, asdict(known[key]))
                    found.append(known[key])
    _print(options, found)
    return 0


def _answer(
    options: argparse.Namespace, key: tuple[str, str, int, float], center: Path, label: int
) -> Answer:
    name, way, number, seconds = key
    network = NETWORKS[name]
    path = options.bench / "nets" / f"{network.file}.onnx"
    unit = Fraction(0), Fraction(1)
    ball = Ball(center=center, epsilon=Fraction(network.epsilon), clip=unit)
    execution = Execution()
    start = time.monotonic()
    problem = pose(path, ball, execution)
    assert isinstance(problem, Safety)
    graph = problem.graph(execution, torch.float32)
    x = torch.from_numpy(np.load(center)).reshape(1, *graph.input.shape)
    if int(graph(x).argmax()) != label:
        return Answer(*key, "misclassified", 0.0)
    if way == SEARCH:
        report = verify(path, ball, session=Session(Deadline.after(seconds)))
        verdict = report.verdict.value
        if verdict == "verified" and not report.certificate:
            verdict = "unchecked"
    else:
        verdict = "verified" if bounded(problem, domains.load(way), seconds) else "unknown"
    return Answer(name, way, number, seconds, verdict, time.monotonic() - start)


def bounded(problem: Safety, domain: Domain, seconds: float) -> bool:
    """Say whether a domain's bounds refute every clause, without branching or a certificate."""
    execution = Execution(dtype="float32")
    graph, whole = problem.graph(execution, torch.float32), problem.specify(torch.float32)
    # A search never ends below the bounds that it starts from.
    plain = propagate(graph, domain, whole.region, whole.rows)
    if bool(whole.refuted(plain.rows).all()) or not domain.optimised:
        return bool(whole.refuted(plain.rows).all())
    root = search_hidden(graph, whole, Effort(domain, seconds, execution.memory_bytes))
    pairs = (whole.clause >= 0).nonzero(as_tuple=True)
    instance = Instance.of(graph, domain, whole, root, pairs)
    every = torch.arange(len(pairs[0]))
    dual = instance.dual(every, Paths.none(len(every), instance.rows.bound))
    _, bounds, _ = ascend(dual, dual.start(), steps=40, enough=0.0)
    return bool((bounds > 0).all())


def _print(options: argparse.Namespace, found: list[Answer]) -> None:
    rows = []
    for name in options.nets:
        network = NETWORKS[name]
        for way in options.ways:
            own = [a for a in found if a.network == name and a.way == way]
            asked = [a for a in own if a.verdict != "misclassified"]
            verified = sum(a.verdict == "verified" for a in asked)
            falsified = sum(a.verdict == "falsified" for a in asked)
            mean = sum(a.seconds for a in asked) / max(1, len(asked))
            rate = verified / max(1, len(asked))
            counts = f"{verified} of {len(asked)}", str(falsified), f"{rate:.0%}", f"{mean:.1f}"
            rates = [f"{n / network.correct:.0%}" for n in network.published.values()]
            rows.append([name, way, *counts, *rates])
    header = ["network", "way", "verified", "falsified", "rate", "s an image"]
    published = list(NETWORKS[options.nets[0]].published)
    print_table([*header, *published], rows)
    print(
        "\nOur rates are of the first images, the published ones of 1000: a prefix's rate is no "
        "count of the whole."
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0, help="limit for each image")
    parser.add_argument("--nets", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--ways", nargs="+", default=[SEARCH], metavar="WAY")
    parser.add_argument("--resume", type=Path, help="a JSON Lines file to add to and to continue")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
