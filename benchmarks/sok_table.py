"""The SoK's Table III on MNIST: percent verified by every domain and engine, beside its figures.

python benchmarks/sok_table.py --folder sok [--published sok_tables.csv] [--epsilons 0.1 0.3]

Networks are trained first (see sok_networks.py); what is in the folder already is not done again.
Images are every 300th of MNIST's test set, a part of the SoK's. A domain stands for its bounds
alone, in floats, without branching; an engine is `analyze` with it, its certificate included. Time
is CPU time; that of `audit`, a process of its own, is counted, but not limited.
"""

import argparse
import csv
import itertools
import multiprocessing
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from eran_images import bounded
from measure import count_own_time
from sok_networks import EPSILONS, MODELS, TRAININGS, VALIDATION, Column, train
from sok_ways import WAYS, Way
from tables import append_line, machine, number, print_table, read_lines
from workloads import BENCH

from absolver import domains
from absolver.analyzer.deadline import Deadline, DeadlineExpired
from absolver.analyzer.decide import Execution
from absolver.analyzer.engines.engine import engine_named
from absolver.analyzer.engines.names import ENGINES
from absolver.analyzer.errors import AbsolverError
from absolver.analyzer.problem import Ball, Safety, pose
from absolver.analyzer.session import Session
from absolver.analyzer.training.accuracy import Judge
from absolver.analyzer.training.attacks import Attack
from absolver.analyzer.training.datasets import Labelled, load_data
from absolver.analyzer.training.evaluation import load_model
from absolver.analyzer.training.perturbations import Perturbation
from absolver.analyzer.verify import verify

FORK = multiprocessing.get_context("fork")
ATTACK = Attack(steps=40, restarts=3, step_size=0.25)
# What a run may compute beyond its time before it is killed.
_GRACE_S = 5.0


@dataclass(frozen=True)
class Run:
    """What one way has said of one image, whether a certificate of it was checked, and why not."""

    column: str
    way: str
    image: int
    limit_s: float
    verdict: str
    seconds: float
    checked: bool = False
    message: str = ""

    @property
    def key(self) -> tuple[str, str, int, float]:
        """What makes a run the same run."""
        return self.column, self.way, self.image, self.limit_s


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a column: which of the test set, which it classifies rightly, and attacked."""

    numbers: Sequence[int]
    points: Labelled
    right: frozenset[int]
    robust: frozenset[int]
    """Those that it classifies rightly after the attack, too."""


Columns = Mapping[Column, Images]
Published = Mapping[tuple[str, str], float]
"""Percentages by method and column."""
Found = dict[tuple[str, str, int, float], Run]


def main() -> int:
    """Train and run what is not in the folder yet, print the tables; 1 where a verdict is wrong."""
    options = _arguments()
    torch.set_num_threads(1)
    data = load_data(options.data, VALIDATION)
    known: Found = {run.key: run for run in (Run(**line) for line in read_lines(options.runs))}
    print(
        f"{machine()}; {options.images} images, {options.seconds:g} s of CPU time for each run",
        flush=True,
    )
    numbers = range(0, len(data.test), 100 * (100 // options.images))[: options.images]
    columns = {}
    for column in _columns(options):
        if not options.table or (options.folder / column.name / "network.onnx").exists():
            folder = train(column, data, options.folder)
            columns[column] = _judged(column, folder, numbers, data.test)
    if not options.table:
        _import()
        for task in _tasks(columns):
            if task[1].name in options.ways:
                _ask(options, known, columns, task)
    for epsilon in options.epsilons:
        if own := {c: images for c, images in columns.items() if c.epsilon == epsilon}:
            _print(own, known, options)
    return 1 if _print_wrong(columns, known) else 0


def _import() -> None:
    """Import and compile here what runs need, since that is no part of their time."""
    for way in WAYS:
        if way.engine in ENGINES:
            engine_named(way.engine)
        if way.domain:
            domains.load(way.domain)


def _columns(options: argparse.Namespace) -> Iterator[Column]:
    for epsilon, name, training in itertools.product(options.epsilons, options.nets, TRAININGS):
        yield Column(name, training, epsilon)


def _judged(column: Column, folder: Path, numbers: Sequence[int], test: Labelled) -> Images:
    points = test.part(torch.tensor(numbers))
    judge = Judge(load_model(folder), Perturbation(column.epsilon))
    right, robust = judge.natural(points), judge.adversarial(points, ATTACK)
    sets = (frozenset(np.array(numbers)[of.numpy()].tolist()) for of in (right, robust))
    return Images(numbers, points, *sets)


def _tasks(columns: Columns) -> Iterator[tuple[Column, Way, int]]:
    """Yield what to run, by the place of an image; what an attack has broken is asked last."""
    for broken, turn in itertools.product((False, True), range(3)):
        for column, images in columns.items():
            for way in (way for way in WAYS if way.turn == turn):
                for place, image in enumerate(images.numbers):
                    if image in images.right and (image not in images.robust) == broken:
                        yield column, way, place


def _ask(
    options: argparse.Namespace,
    known: Found,
    columns: Columns,
    task: tuple[Column, Way, int],
) -> None:
    """Run one way on one image, unless that has been done or the way was given up there."""
    column, way, place = task
    images = columns[column]
    key = column.name, way.name, images.numbers[place], options.seconds
    if key in known or _given_up(options, known, columns, column, way):
        return
    # One a column, since some may be worked on at the same time.
    center = options.folder / column.name / "image.npy"
    np.save(center, images.points.x[place : place + 1].numpy())
    ball = Ball(
        center=center,
        epsilon=Fraction(str(column.epsilon)),
        label=int(images.points.y[place]),
        clip=(Fraction(0), Fraction(1)) if way.clipped else None,
    )
    known[key] = _run(key, way, options.folder / column.name / "network.onnx", ball)
    append_line(options.runs, asdict(known[key]))


def _given_up(
    options: argparse.Namespace, known: Found, columns: Columns, column: Column, way: Way
) -> bool:
    """Say whether a way has no answer in time to the first images, here or on smaller networks.

    On smaller ones that is so for both trainings of an architecture.
    """

    def silent(one: Column) -> bool:
        asked = [image for image in columns[one].numbers if image in columns[one].robust]
        keys = [(one.name, way.name, image, options.seconds) for image in asked]
        first = [known[key].verdict for key in keys if key in known][: options.patience]
        return len(first) == options.patience and {"timeout", "refused"}.issuperset(first)

    same = [one for one in columns if one.epsilon == column.epsilon]
    names = list(MODELS)
    smaller = names[: names.index(column.architecture)]
    both = ([one for one in same if one.architecture == name] for name in smaller)
    return options.patience > 0 and (
        silent(column) or any(pair and all(map(silent, pair)) for pair in both)
    )


def _run(key: tuple[str, str, int, float], way: Way, network: Path, ball: Ball) -> Run:
    """Run in a process that has everything imported, and is killed if it does not end."""
    ours, theirs = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_answer, args=(theirs, key, way, network, ball))
    child.start()
    theirs.close()
    try:
        run: Run = ours.recv()
        return run
    except EOFError:
        child.join()
        if child.exitcode in (-signal.SIGXCPU, -signal.SIGKILL):
            return Run(*key, "timeout", key[3] + _GRACE_S, message="did not end after its time")
        return Run(*key, "error", 0.0, message=f"has ended with exit code {child.exitcode}")
    finally:
        child.kill()
        child.join()


def _answer(
    answers: Connection,
    key: tuple[str, str, int, float],
    way: Way,
    network: Path,
    ball: Ball,
) -> None:
    count_own_time(key[3] + _GRACE_S)
    start = time.monotonic()
    deadline, checked, message = Deadline.after(key[3]), False, ""
    try:
        if way.engine:
            execution, session = Execution(engine=way.engine), Session(deadline)
            domain = way.domain or None
            report = verify(network, ball, domain=domain, execution=execution, session=session)
            verdict, checked = report.verdict.value, report.checked
            message = report.reason or report.unchecked
        else:
            with deadline.enforced():
                problem = pose(network, ball, Execution())
                assert isinstance(problem, Safety), "a ball around an image has a label to keep"
                # Half of the time is for hidden bounds, where a domain searches any.
                found = bounded(problem, domains.load(way.domain), deadline.remaining / 2)
            verdict = "verified" if found else "unknown"
    except DeadlineExpired:
        verdict = "timeout"
    except AbsolverError as error:
        verdict, message = "refused", str(error)
    except Exception as error:
        verdict, message = "error", f"{type(error).__name__}: {error}"
    checkers = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.monotonic() - start + checkers.ru_utime + checkers.ru_stime
    answers.send(Run(*key, verdict, seconds, checked, message[:300]))


def _print(columns: Columns, known: Found, options: argparse.Namespace) -> None:
    """Print one radius: percent verified, the SoK's in brackets, and how the two are ordered."""
    published = _published(options.published)
    rows, shares = [], dict[tuple[str, str], float]()
    for way in WAYS:
        cells = []
        for column, images in columns.items():
            keys = [(column.name, way.name, i, options.seconds) for i in images.numbers]
            runs = [known[key] for key in keys if key in known]
            share = 100 * sum(run.verdict == "verified" for run in runs) / len(keys)
            left = images.robust - {run.image for run in runs}
            up = bool(left) and _given_up(options, known, columns, column, way)
            if up or not left:
                shares[way.name, column.name] = share
            cell = f"{share:.0f}" + ("*" if up else "")
            cell = cell if up or not left else f">= {cell}" if runs else "?"
            cells.append(cell + _bracket(published, way.published, column))
        names = {column.name for column in columns}
        own = [run for run in known.values() if run.way == way.name and run.column in names]
        rows.append([way.group, way.published, way.name, *cells, *_summary(way, own)])
    for title, of in {"PGD Upper Bound": "robust", "Clean Acc.": "right"}.items():
        percent = [100 * len(getattr(own, of)) / len(own.numbers) for own in columns.values()]
        cells = [
            f"{p:.0f}{_bracket(published, title, c)}" for p, c in zip(percent, columns, strict=True)
        ]
        rows.append(["", title, "", *cells, "", ""])
    print()
    header = ["approach", "the SoK's", "ours", *(column.name for column in columns)]
    print_table([*header, "checked", "CPU s"], rows)
    _print_orderings(shares, published, [column.name for column in columns])


def _bracket(published: Published, method: str, column: Column) -> str:
    share = published.get((method, column.name))
    return "" if share is None else f" [{share:.0f}]"


def _summary(way: Way, runs: Sequence[Run]) -> list[str]:
    """Say how many of the verified have a checked certificate, and what a run takes on average."""
    verified = [run for run in runs if run.verdict == "verified"]
    checked = f"{sum(run.checked for run in verified)} of {len(verified)}"
    seconds = [run.seconds for run in runs if run.verdict != "refused"]
    mean = number(sum(seconds) / len(seconds) if seconds else None)
    return [checked if way.engine else "in floats", mean]


def _print_orderings(
    shares: Mapping[tuple[str, str], float],
    published: Published,
    columns: Sequence[str],
) -> None:
    """Count pairs of methods that the SoK orders strictly in a column, by how ours are ordered."""
    counts, against = defaultdict[str, int](int), defaultdict[str, list[str]](list)
    ways = [way for way in WAYS if way.published]
    for (first, second), column in itertools.product(itertools.permutations(ways, 2), columns):
        theirs = [published.get((way.published, column), 0.0) for way in (first, second)]
        ours = [shares.get((way.name, column)) for way in (first, second)]
        if theirs[0] <= theirs[1] or ours[0] is None or ours[1] is None:
            continue
        order = "same" if ours[0] > ours[1] else "equal" if ours[0] == ours[1] else "opposite"
        counts[order] += 1
        if order == "opposite":
            ours_, theirs_ = (" against ".join(f"{x:.0f}" for x in both) for both in (ours, theirs))
            words = f"{column} ({ours_}; the SoK {theirs_})"
            against[f"{first.published} > {second.published}"].append(words)
    if counts:
        print(
            f"\nOf {sum(counts.values())} pairs that the SoK orders strictly, {counts['same']} are "
            f"ordered so here, {counts['equal']} are equal, {counts['opposite']} are opposite:"
        )
    for pair, where in against.items():
        print(f"* {pair}: {', '.join(where)}")


def _print_wrong(columns: Columns, known: Found) -> bool:
    """Print errors, and verified images for which an adversarial example is known."""
    images = {column.name: own for column, own in columns.items()}
    found = [run for run in known.values() if run.column in images]
    wide = {way.name for way in WAYS if not way.clipped}
    falsified = [run for run in found if run.verdict == "falsified"]
    broken = {(run.column, run.image) for run in falsified if run.way not in wide}
    broken |= {(n, i) for n, own in images.items() for i in own.numbers if i not in own.robust}
    # A point outside [0, 1] stands against those only whose set it belongs to.
    outside = {(run.column, run.image) for run in falsified if run.way in wide}
    wrong = [
        run
        for run in found
        if run.verdict == "verified"
        and (run.column, run.image) in (broken | outside if run.way in wide else broken)
    ]
    errors = [run for run in found if run.verdict == "error"]
    asked = sum((run.column, run.image) in broken for run in found)
    print(
        f"\nOf {len(found)} runs {asked} are about images with a known adversarial example; "
        f"{len(wrong)} of these say verified. {len(errors)} have ended with an error."
    )
    for run in (*wrong, *errors):
        print(f"* {run}")
    return bool(wrong or errors)


def _published(path: Path | None) -> Published:
    """Read the SoK's percentages by method and column, where the file is at hand."""
    if path is None:
        return {}
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == "mnist"]
    return {
        (row["method"], f"{row['net']}-{row['weights']}"): float(row["value"].rstrip("%"))
        for row in rows
        if (row["mode"], row["kind"]) == ("verify", "robust-acc")
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="networks and runs")
    parser.add_argument("--data", type=Path, default=BENCH / "train/mnist.npz")
    parser.add_argument(
        "--published",
        type=Path,
        help="the SoK's tables, as CSV: dataset, mode, kind, eps, net, weights, method, value",
    )
    parser.add_argument("--epsilons", type=float, nargs="+", choices=EPSILONS, default=EPSILONS)
    parser.add_argument("--nets", nargs="+", choices=MODELS, default=list(MODELS))
    names = [way.name for way in WAYS]
    parser.add_argument("--ways", nargs="+", choices=names, default=names, help="what is run")
    parser.add_argument("--images", type=int, default=30, help="at most 100")
    parser.add_argument("--seconds", type=float, default=5.0, help="CPU time for each run")
    parser.add_argument(
        "--patience",
        type=int,
        default=4,
        help="give a way up after so many first images without an answer in time; 0: never",
    )
    parser.add_argument("--table", action="store_true", help="only print what the folder has")
    options = parser.parse_args()
    options.runs = options.folder / "runs.jsonl"
    return options


if __name__ == "__main__":
    sys.exit(main())
