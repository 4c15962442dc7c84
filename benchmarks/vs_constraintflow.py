"""Domains in ConstraintFlow's language and in ours: lines, proofs, planted mistakes, bounds.

python benchmarks/vs_constraintflow.py [--parts lines proofs mistakes bounds]
"""

import argparse
import itertools
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from ours import load_graph
from planted import MISTAKES
from tables import machine, number, print_table, write_json
from torch import Tensor
from verifiers import AbsentError, checkout, commit
from workloads import BENCH

from absolver import domains
from absolver.analyzer.bench.job import PYTHON
from absolver.analyzer.bench.runner import Ending, Runner
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.regions.box import Box

SIDE = Path(__file__).with_name("constraintflow_side.py")
LIMIT_S = 600.0
EXAMPLES = {
    "interval": ("provesound_examples/ibp.cf", "compiler_examples/ibp.cf"),
    "zonotope": ("provesound_examples/deepz.cf", "compiler_examples/zono.cf"),
    "deeppoly": ("provesound_examples/deeppoly.cf", "compiler_examples/deeppoly.cf"),
}
"""Our domains; theirs among its prover's examples, and among its compiler's, which alone run."""
NETWORKS = {"mnist_tiny_mlp": 0.03, "mnist_6_100": 0.026}
"""Networks and the radius that is usual for each, from the folder's own list."""
QUESTIONS = ("outputs", "margins")
# 1e-4: what float32 rounding of these networks may turn round.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Bounds:
    """How wide the bounds of each row around each image are, and median CPU seconds of an image."""

    widths: NDArray[np.float64]
    seconds: float


@dataclass(frozen=True)
class Rival:
    """A checkout of ConstraintFlow with an environment of its own."""

    folder: Path
    python: Path

    def example(self, name: str) -> Path:
        """Return the path of one of its examples."""
        return self.folder / "examples" / name

    def ask(self, *question: object) -> Ending:
        """Run its side, whose usage says what can be asked."""
        command = [self.python, "-W", "ignore", SIDE, self.folder, *question]
        return Runner().run(list(map(str, command)), LIMIT_S, one_thread=True)


def main() -> int:
    """Print what was asked for."""
    options = _arguments()
    torch.set_num_threads(1)
    try:
        rival = Rival(*checkout("CONSTRAINTFLOW", "constraintflow", "constraintflow/verifier"))
    except AbsentError as absent:
        print(f"skipped ConstraintFlow: {absent}")
        return 0
    print(f"{machine()}; ConstraintFlow {commit(rival.folder)}")
    parts: dict[str, Callable[[], object]] = {
        "lines": partial(compare_lines, rival),
        "proofs": partial(compare_proofs, rival, options.arities),
        "mistakes": partial(compare_mistakes, rival),
        "bounds": partial(compare_bounds, rival, options.bench, options.images),
    }
    results = {}
    for part in options.parts:
        print(f"\n{part}", flush=True)
        results[part] = parts[part]()
    write_json(options.json, results)
    return 0


def compare_lines(rival: Rival) -> list[list[str]]:
    """Count lines that declare each domain, ours with those of the domains that it extends."""
    rows = []
    for name, files in EXAMPLES.items():
        theirs = [_lines(rival.example(file)) for file in files]
        ours = sum(map(_lines, _with_extended(name)))
        rows.append([name, *map(str, (*theirs, ours)), _met(ours < min(theirs))])
    print_table(["domain", "theirs, prover's", "theirs, compiler's", "ours", "fewer"], rows)
    return rows


def compare_proofs(rival: Rival, arities: Sequence[int]) -> list[list[str]]:
    """Time both provers as processes; ours with nothing kept, and with proofs of operators kept.

    Theirs is given a number of operands: for an operator of a list its answer is about no others.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, files in EXAMPLES.items():
            for file in files:
                for arity in arities:
                    ending = rival.ask("prove", rival.example(file), arity)
                    asked = f"theirs, {file}, {arity} operands"
                    rows.append([name, asked, *_proofs(*_their_answers(ending), ending)])
            for kept in ("nothing", "operators"):
                cache = Path(folder, name, kept)
                if kept == "operators":
                    # The domain without rules owes nothing but what the operators do.
                    shutil.copytree(Path(folder, "interval", "nothing"), cache)
                ending = _prove(name, cache)
                found = json.loads(ending.output)["outcomes"]
                undone = sorted({o["subject"] for o in found if o["answer"] != "proved"})
                proved = sorted({o["subject"] for o in found}.difference(undone))
                rows.append([name, f"ours, {kept} kept", *_proofs(proved, undone, ending)])
    print_table(["domain", "prover", "proved", "not proved", "CPU s"], rows)
    return rows


def compare_mistakes(rival: Rival) -> list[list[str]]:
    """Plant each mistake on both sides, and print the answers word for word."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        program, domain = Path(folder, "swapped.cf"), Path(folder, "swapped.dom")
        for mistake in MISTAKES:
            text = rival.example(mistake.example).read_text()
            assert text.count(mistake.right) == 1, f"{mistake.example} is another version"
            program.write_text(text.replace(mistake.right, mistake.wrong))
            # 3: with one operand, which is its default, a wrong sum over a list is right.
            proved, rest = _their_answers(rival.ask("prove", program, 3))
            theirs = "; ".join(rest or proved)
            domain.write_text(f"domain swapped\n  {mistake.ours}")
            ending = _prove(str(domain), Path(folder, "cache")) if mistake.ours else None
            ours = _our_answer(ending) if ending else "cannot be written"
            rows.append([mistake.name, theirs, ours])
    print_table(["swapped", "theirs", "ours"], rows)
    return rows


def compare_bounds(rival: Rival, bench: Path, count: int) -> list[list[str]]:
    """Compare widths and seconds around the first test images, one image at a time."""
    header = ["network", "bounds of", "domain", "width theirs", "width ours", "largest ratio"]
    header += ["s theirs", "s ours", "times faster", "as tight", "10 times faster"]
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "images.npz")
        data = np.load(bench / "data/mnist_test_1000.npz")
        images = (data["x"][:count, None] / 255).astype(np.float32)
        labels = data["y"][:count].astype(np.int64)
        np.savez(file, images=images, labels=labels)
        for network, epsilon in NETWORKS.items():
            path = bench / f"nets/{network}.onnx"
            graph = load_graph(path, "cpu", torch.float32)
            boxes = [_box(graph, torch.from_numpy(image), epsilon) for image in images]
            for question, name in itertools.product(QUESTIONS, EXAMPLES):
                program = rival.example(EXAMPLES[name][1])
                theirs = _their_bounds(rival.ask("bound", program, path, file, epsilon, question))
                asked = [_rows(question, int(label)) for label in labels]
                ours = _our_bounds(graph, name, boxes, asked)
                rows.append([network, question, name, *_cells(theirs, ours)])
    print_table(header, rows)
    return rows


def _arguments() -> argparse.Namespace:
    parts = ("lines", "mistakes", "bounds", "proofs")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--arities", nargs="+", type=int, default=(1,), help="of its proofs")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


def _lines(file: Path) -> int:
    """Count the lines that say something; neither language has comments of several lines."""
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return sum(bool(line) and not line.startswith(("#", "//")) for line in lines)


def _with_extended(name: str) -> list[Path]:
    (file,) = domains.locate(name)
    parents = re.findall(r"^ +extends (\w+)", domains.read(file), re.MULTILINE)
    return [file, *(path for parent in parents for path in _with_extended(parent))]


def _their_answers(ending: Ending) -> tuple[list[str], list[str]]:
    """Return what it has proved, and word for word whatever else it says."""
    said = ending.output.strip().splitlines()
    proved = [line for line in said if line.startswith("Proved ")]
    return proved, [line for line in said if line not in proved] + _failure(ending)


def _proofs(proved: list[str], rest: list[str], ending: Ending) -> list[str]:
    return [str(len(proved)), "; ".join(rest) or "-", number(ending.cpu_seconds)]


def _failure(ending: Ending) -> list[str]:
    if ending.overtime:
        return [f"not done after {LIMIT_S:.0f} s"]
    return ending.errors.strip().splitlines()[-1:] if ending.exit_code else []


def _prove(domain: str, cache: Path) -> Ending:
    """Prove a domain in one process, with the proofs that are kept in a folder."""
    command = ["env", f"XDG_CACHE_HOME={cache}", *PYTHON, "absolver.analyzer.cli.absolver"]
    command += ["domain", "prove", domain, "--jobs", "1", "--json"]
    return Runner().run(command, LIMIT_S, one_thread=True)


def _our_answer(ending: Ending) -> str:
    """Say what is refuted, and where; or else the first line of the refusal."""
    if not ending.output:
        return re.sub(r"^absolver: \S*/", "", ending.errors.splitlines()[0])
    answers = []
    for outcome in json.loads(ending.output)["outcomes"]:
        if outcome["answer"] != "proved":
            values = outcome.get("point", {}).get("values", {})
            at = ", ".join(f"{name} = {value:g}" for name, value in values.items())
            answers.append(f"{outcome['answer']}: {outcome['detail']}, {at}")
    return "; ".join(answers) or "proved"


def _box(graph: Graph, image: Tensor, epsilon: float) -> Box:
    """Return all images that near, inside [0, 1]: what ConstraintFlow takes, too."""
    centre = image.reshape(1, *graph.input.shape)
    return Box((centre - epsilon).clamp(0, 1), (centre + epsilon).clamp(0, 1))


def _rows(question: str, label: int) -> Tensor:
    """Return the rows whose bounds are asked for."""
    unit = torch.eye(10)
    others = [index for index in range(10) if index != label]
    return unit if question == "outputs" else (unit[label] - unit)[others]


def _their_bounds(ending: Ending) -> Bounds | str:
    if ending.exit_code or not ending.output:
        return "; ".join(_failure(ending)) or "no answer"
    found = json.loads(ending.output.splitlines()[-1])
    lower, upper = np.asarray(found["bounds"]).transpose(1, 0, 2)
    return Bounds(upper - lower, found["seconds"])


def _our_bounds(graph: Graph, name: str, boxes: Sequence[Box], asked: Sequence[Tensor]) -> Bounds:
    domain = domains.load(name)
    widths, seconds = [], []
    # The first image twice: the first call loads what is loaded on first use.
    for box, rows in zip([boxes[0], *boxes], [asked[0], *asked], strict=True):
        both = torch.cat([rows, -rows])[None]
        start = time.process_time()
        lower, negated = propagate(graph, domain, box, both).rows[0].chunk(2)
        seconds.append(time.process_time() - start)
        widths.append((-negated - lower).double().numpy())
    return Bounds(np.stack(widths[1:]), median(seconds[1:]))


def _cells(theirs: Bounds | str, ours: Bounds) -> list[str]:
    if isinstance(theirs, str):
        own = number(ours.widths.mean()), number(ours.seconds)
        return ["-", own[0], "-", "-", own[1], "-", theirs, "-"]
    ratio = float((ours.widths / theirs.widths).max())
    faster = theirs.seconds / ours.seconds
    figures = (
        theirs.widths.mean(),
        ours.widths.mean(),
        ratio,
        theirs.seconds,
        ours.seconds,
        faster,
    )
    return [*map(number, figures), _met(ratio <= 1 + ROUNDING), _met(faster >= 10)]


def _met(holds: bool) -> str:
    return "met" if holds else "NOT MET"


if __name__ == "__main__":
    sys.exit(main())
