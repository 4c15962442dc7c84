"""What refinement oracles gain: RefineZono and RefinePoly on MNIST, each oracle over alpha-CROWN.

python benchmarks/refinement.py eran --resume eran_refined.jsonl [--images 50] [--seconds 12]
python benchmarks/refinement.py public --resume public_refined.jsonl [--count 10] [--seconds 15]

`eran` counts images that facts verify: bounds that an evaluation of multipliers proves, up to
rounding. `shown` counts those whose refutation a certificate can hold, and `seconds` is without it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from eran_counts import read_images
from eran_images import NETWORKS
from sweep import read_instances
from tables import append_line, machine, number, print_table, read_lines
from workloads import BENCH

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.engines.engine import Control
from absolver.analyzer.engines.known import KnownSet, known_sets, tangents_domain
from absolver.analyzer.engines.prover import TreeProver
from absolver.analyzer.problem import Ball, Query, Safety, pose
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.refine.refinement import ORACLES, Refinement, Setting, prepared
from absolver.analyzer.search.strategy import Task
from absolver.domains import load

EXECUTION = Execution(engine="refine")
PUBLISHED = {
    "DeepPoly": {"6x100": 160, "9x100": 182, "6x200": 292, "9x200": 259},
    "RefineZono": {"6x100": 312, "9x100": 304, "6x200": 341, "9x200": 316},
    "kPoly": {"6x100": 441, "9x100": 369, "6x200": 574, "9x200": 506},
}
"""Of the first 1000 images: Singh et al., NeurIPS 2019 (k-ReLU), as far as it has them."""
FAMILIES = ("acasxu", "mnist_fc", "safenlp")
# A proof takes as long as it needs; what takes longer counts as not shown.
_PROVING_S = 30.0
# Of the time, what searching hidden bounds may take where a domain has slopes to be searched.
_SEARCHING = 0.3


@dataclass(frozen=True)
class Way:
    """A domain, and the oracles that refine it."""

    domain: str
    oracles: Sequence[str] = ()


NEURONS = ("lp rows", "lp", "milp")
WAYS = {
    "DeepZ": Way("zonotope"),
    "RefineZono": Way("zonotope", NEURONS),
    "DeepPoly": Way("crown"),
    "RefinePoly": Way("crown", NEURONS),
    "k-ReLU": Way("krelu", NEURONS),
    "all by turns": Way("alpha_crown", ORACLES),
    **{f"a-CROWN, {oracle}": Way("alpha_crown", (oracle,)) for oracle in ORACLES},
}
ON_IMAGES = [name for name, way in WAYS.items() if way.domain != "alpha_crown"]


@dataclass(frozen=True)
class Line:
    """What one way has made of one question."""

    about: str
    """The network, or the family."""
    question: str
    way: str
    limit_s: float
    verified: bool
    shown: bool
    seconds: float
    oracles: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By name: the seconds that it took, and which share of what was missing it brought."""

    @property
    def key(self) -> tuple[str, str, str, float]:
        """What makes a run the same run."""
        return self.about, self.question, self.way, self.limit_s


def main() -> int:
    """Run what is not in the file yet, and print the tables."""
    options = _arguments()
    torch.set_num_threads(1)
    known = {line.key: line for line in (Line(**one) for one in read_lines(options.resume))}
    print(f"{machine()}; at most {options.seconds:g} s of refinement each", flush=True)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        asked = _images(options, Path(folder)) if options.what == "eran" else _instances(options)
        for about, question, network, query in asked:
            for way in options.ways:
                key = about, question, way, options.seconds
                if key not in known:
                    known[key] = _run(key, network, query, options)
                    append_line(options.resume, asdict(known[key]))
                    print(_words(known[key]), file=sys.stderr, flush=True)
                found.append(known[key])
    (_print_images if options.what == "eran" else _print_gains)(options, found)
    return 0


Asked = Iterator[tuple[str, str, Path, Query]]


def _images(options: argparse.Namespace, folder: Path) -> Asked:
    """Yield the images that a network classifies rightly."""
    images, labels = read_images(options.bench)
    for name in options.nets:
        network = NETWORKS[name]
        path = options.bench / "nets" / f"{network.file}.onnx"
        for i in options.only or range(options.images):
            center = folder / f"{i}.npy"
            np.save(center, images[i].numpy().astype(np.float32).reshape(1, 1, 28, 28))
            unit = Fraction(0), Fraction(1)
            ball = Ball(center=center, epsilon=Fraction(network.epsilon), clip=unit)
            problem = pose(path, ball, EXECUTION)
            graph = problem.graph(EXECUTION, torch.float32)
            x = torch.from_numpy(np.load(center)).reshape(1, *graph.input.shape)
            if int(graph(x).argmax()) == int(labels[i]):
                yield name, str(i), path, ball


def _instances(options: argparse.Namespace) -> Asked:
    """Yield instances all over each family, the families in turn."""
    whole = read_instances(options.bench)
    for turn in range(options.count):
        for family in options.families:
            own = [one for one in whole if one.family == family]
            one = own[turn * len(own) // options.count]
            name = f"{Path(one.onnx).stem} {Path(one.vnnlib).stem}"
            yield family, name, options.bench / one.onnx, options.bench / one.vnnlib


def _run(
    key: tuple[str, str, str, float], network: Path, query: Query, options: argparse.Namespace
) -> Line:
    way = WAYS[key[2]]
    problem = pose(network, query, EXECUTION)
    assert isinstance(problem, Safety), "a question has something to be shown"
    whole = problem.specify(torch.float64)
    domain = load(way.domain)
    task = Task(problem, whole, domain, None, problem.replay(None), EXECUTION, float32=False)
    start, deadline = time.monotonic(), Deadline.after(key[3])
    verified, oracles, refined = True, dict[str, tuple[float, float]](), list[Refinement]()
    for known in known_sets(task):
        known = prepared(known, domain, _SEARCHING * deadline.remaining)
        one = Refinement(known, Setting(domain, deadline.remaining, oracles=way.oracles))
        scheduled = one.run()
        verified &= bool(scheduled.refuted.all())
        refined.append(one)
        for turn in scheduled.turns:
            seconds, gain = oracles.get(turn.reducer, (0.0, 0.0))
            oracles[turn.reducer] = seconds + turn.seconds, gain + turn.gain
    seconds = time.monotonic() - start
    shown = verified and bool(way.oracles) and all(_shown(one) for one in refined)
    return Line(*key, verified, shown, seconds, oracles)


def _shown(refined: Refinement) -> bool:
    """Say whether a tree proves every clause, which a checker would read."""
    known: KnownSet = refined.evidence.known
    control = Control(Deadline.after(_PROVING_S))
    for goal in known.goals():
        relaxation = Relaxation(known.encoding, tangents_domain(), known.root.points)
        for guide in (None, refined.guide(goal)):
            prover = TreeProver(goal, relaxation, control)
            proof = prover.prove(guide, most=1, deadline=control.deadline)
            if proof is not None:
                break
        if proof is None:
            return False
    return True


def _words(line: Line) -> str:
    gains = ", ".join(f"{n} {g:.0%} in {s:.1f} s" for n, (s, g) in line.oracles.items())
    verdict = "verified" if line.verified else "open"
    return f"{line.about} {line.question} {line.way}: {verdict} {line.seconds:.1f} s; {gains}"


def _print_images(options: argparse.Namespace, found: Sequence[Line]) -> None:
    rows = []
    for name in options.nets:
        for way in options.ways:
            own = [line for line in found if line.about == name and line.way == way]
            verified, shown = (sum(getattr(a, w) for a in own) for w in ("verified", "shown"))
            mean = sum(line.seconds for line in own) / max(1, len(own))
            published = [
                f"{counts.get(name, 0) / NETWORKS[name].correct:.0%}"
                for counts in PUBLISHED.values()
            ]
            counts = f"{verified} of {len(own)}", str(shown), f"{verified / max(1, len(own)):.0%}"
            rows.append([name, way, *counts, f"{mean:.1f}", *published])
    header = ["network", "way", "verified", "shown", "rate", "s an image"]
    print_table([*header, *(f"{name} 1000" for name in PUBLISHED)], rows)
    print()
    _print_gains(options, found)


def _print_gains(options: argparse.Namespace, found: Sequence[Line]) -> None:
    """Print what each oracle has brought on the questions that its domain's pass leaves open."""
    rows = []
    for about in dict.fromkeys(line.about for line in found):
        for way in options.ways:
            own = [line for line in found if (line.about, line.way) == (about, way)]
            for oracle in WAYS[way].oracles:
                parts = [line.oracles[oracle] for line in own if oracle in line.oracles]
                seconds, gain = (sum(part[i] for part in parts) for i in (0, 1))
                share = gain / max(1, len(parts))
                rate = gain / seconds if seconds else None
                figures = f"{share:.1%}", f"{seconds:.1f}", number(None if rate is None else rate)
                verified = f"{sum(line.verified for line in own)} of {len(own)}"
                rows.append([about, way, verified, oracle, str(len(parts)), *figures])
    header = ["about", "way", "verified", "oracle", "asked"]
    print_table([*header, "share of the gap closed", "s", "share a s"], rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("eran", "public"))
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--only", nargs="+", type=int, help="these images instead of the first")
    parser.add_argument("--count", type=int, default=10, help="instances of each family")
    parser.add_argument("--seconds", type=float, default=12.0, help="of refinement, each")
    parser.add_argument("--nets", nargs="+", choices=NETWORKS, default=["6x100"])
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--ways", nargs="+", choices=WAYS)
    parser.add_argument("--resume", type=Path, help="a JSON Lines file to add to and to continue")
    options = parser.parse_args()
    options.ways = options.ways or [
        name
        for name, way in WAYS.items()
        if (way.domain == "alpha_crown") == (options.what == "public")
    ]
    return options


if __name__ == "__main__":
    sys.exit(main())
