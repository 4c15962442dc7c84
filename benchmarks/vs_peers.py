"""Decide one fixed list of instances by our analyzer, alpha,beta-CROWN and nnenum, in turn.

python benchmarks/vs_peers.py --resume peers.jsonl
"""

import argparse
import csv
import gzip
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median

from tables import append_line, machine, number, print_table, read_lines
from verifiers import AbsentError, Absolver, AlphaBetaCrown, Nnenum, Task, Verifier
from workloads import BENCH

from absolver.analyzer.bench.runner import Runner

LIST = Path(__file__).with_name("peers.csv")
VERIFIERS: tuple[type[Verifier], ...] = (Absolver, AlphaBetaCrown, Nnenum)
OURS = Absolver.name
# After its time, which everyone is told: start-up may not be part of what it counts.
KILL_AFTER_S = 10.0
GOALS = {"acasxu": 0.5, "all": 0.7}
"""Median ratio of our time over a peer's, over the instances that both decide."""


@dataclass(frozen=True)
class Instance:
    """A row of the list; the file says which configuration of alpha,beta-CROWN goes with it."""

    family: str
    onnx: str
    vnnlib: str
    expected: str
    alpha_beta_crown: str


@dataclass(frozen=True)
class Run:
    """What one verifier made of one instance.

    `seconds` is the wall time of the whole process, `own_seconds` what the verifier counts itself.
    """

    verifier: str
    version: str
    family: str
    onnx: str
    vnnlib: str
    expected: str
    limit_s: float
    cores: int
    answer: str
    seconds: float
    own_seconds: float | None
    cpu_seconds: float
    peak_memory_bytes: int
    message: str

    @property
    def right(self) -> bool:
        """Whether the known verdict was found."""
        return self.answer == self.expected

    @property
    def wrong(self) -> bool:
        """Whether the other verdict was found."""
        return self.answer in ("sat", "unsat") and not self.right


Runs = Mapping[tuple[str, str, str], Run]
"""By verifier, network and property."""


def main() -> int:
    """Run what is left, and compare; the exit code is 1 where an answer of ours is wrong."""
    options = _arguments()
    verifiers = _found(options.verifiers)
    instances = [
        instance
        for instance in _read_list()
        if options.families is None or instance.family in options.families
    ]
    conditions = f"{options.limit:g} s each, threads or processes: {options.cores}"
    print(f"{machine()}; {len(instances)} instances, {conditions}")
    for verifier in verifiers:
        print(f"{verifier.name} {verifier.version}", flush=True)
    known = _known(options, {verifier.name: verifier.version for verifier in verifiers})
    runs: dict[tuple[str, str, str], Run] = {}
    for instance in instances:
        for verifier in verifiers:
            key = (verifier.name, instance.onnx, instance.vnnlib)
            run = known.get(key)
            if run is None:
                run = _run(verifier, instance, options)
                append_line(options.resume, asdict(run))
                _print_progress(run)
            runs[key] = run
    names = [verifier.name for verifier in verifiers]
    _print_families(names, instances, runs)
    _print_totals(names, runs)
    for name in names:
        if name != OURS and OURS in names:
            _print_ratios(name, instances, runs)
    _print_exceptions(runs.values())
    return 1 if any(run.wrong and run.verifier == OURS for run in runs.values()) else 0


def _arguments() -> argparse.Namespace:
    names = [verifier.name for verifier in VERIFIERS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--limit", type=float, default=30, help="seconds given to each")
    parser.add_argument("--cores", type=int, default=1, help="threads, or processes, of each")
    parser.add_argument("--families", nargs="+", help="only these (default: all)")
    parser.add_argument("--verifiers", nargs="+", choices=names, default=names)
    parser.add_argument("--resume", type=Path, help="a JSON Lines file to add to and to continue")
    return parser.parse_args()


def _found(names: Sequence[str]) -> list[Verifier]:
    found: list[Verifier] = []
    for kind in VERIFIERS:
        if kind.name in names:
            try:
                found.append(kind.find())
            except AbsentError as absent:
                print(f"skipped {kind.name}: {absent}")
    return found


def _read_list() -> list[Instance]:
    with LIST.open(newline="") as file:
        return [Instance(**row) for row in csv.DictReader(file)]


def _known(options: argparse.Namespace, versions: Mapping[str, str]) -> Runs:
    """Read what earlier runs of these versions have found under the same conditions."""
    runs = [Run(**record) for record in read_lines(options.resume)]
    return {
        (run.verifier, run.onnx, run.vnnlib): run
        for run in runs
        if (run.limit_s, run.cores) == (options.limit, options.cores)
        and run.version == versions.get(run.verifier)
    }


def _run(verifier: Verifier, instance: Instance, options: argparse.Namespace) -> Run:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = Task(
            network=_plain(options.bench / instance.onnx, folder),
            query=_plain(options.bench / instance.vnnlib, folder),
            folder=folder,
            limit_s=options.limit,
            cores=options.cores,
            configuration=instance.alpha_beta_crown,
        )
        limit_s = options.limit + KILL_AFTER_S
        ending = Runner().run(verifier.command(task), limit_s, one_thread=False)
        said = verifier.read(task, ending)
    return Run(
        verifier=verifier.name,
        version=verifier.version,
        family=instance.family,
        onnx=instance.onnx,
        vnnlib=instance.vnnlib,
        expected=instance.expected,
        limit_s=options.limit,
        cores=options.cores,
        answer=said.answer,
        seconds=round(ending.seconds, 3),
        own_seconds=said.own_seconds,
        cpu_seconds=round(ending.cpu_seconds, 3),
        peak_memory_bytes=ending.peak_memory_bytes,
        message=said.message,
    )


def _plain(path: Path, folder: Path) -> Path:
    """Copy a file, unpacked: the peers read no packed ones, and write beside what they read."""
    copy = folder / path.name.removesuffix(".gz")
    opened = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
    with opened as source, copy.open("wb") as target:
        shutil.copyfileobj(source, target)
    return copy


def _print_progress(run: Run) -> None:
    where = f"{run.family} {Path(run.onnx).name} {Path(run.vnnlib).name}"
    said = f"{run.answer} (expected {run.expected}) {run.seconds:.1f} s {run.message}"
    print(f"{run.verifier}: {where}: {said}", file=sys.stderr, flush=True)


def _print_families(names: Sequence[str], instances: Sequence[Instance], runs: Runs) -> None:
    print()
    families = list(dict.fromkeys(instance.family for instance in instances))
    rows = []
    for family in [*families, "all"]:
        own = _of_family(instances, family)
        counts = [sum(runs[name, i.onnx, i.vnnlib].right for i in own) for name in names]
        rows.append([family, str(len(own)), *map(str, counts)])
    print_table(["decided", "instances", *names], rows)


def _print_totals(names: Sequence[str], runs: Runs) -> None:
    """Print sums; PAR-2 counts what is not decided, or wrongly, as twice the limit."""
    print()
    rows = []
    for name in names:
        own = [run for run in runs.values() if run.verifier == name]
        score = fmean(run.seconds if run.right else 2 * run.limit_s for run in own)
        counts = [sum(run.right for run in own), sum(run.wrong for run in own)]
        counts.append(sum(run.answer == "error" for run in own))
        cpu = sum(run.cpu_seconds for run in own)
        rows.append([name, *map(str, counts), number(score), number(cpu)])
    print_table(["verifier", "decided", "wrong", "errors", "PAR-2 s", "CPU s"], rows)


def _print_ratios(name: str, instances: Sequence[Instance], runs: Runs) -> None:
    """Compare times on the instances that both decide."""
    print()
    for family, goal in GOALS.items():
        pairs = [
            (runs[OURS, i.onnx, i.vnnlib], runs[name, i.onnx, i.vnnlib])
            for i in _of_family(instances, family)
        ]
        both = [(ours, theirs) for ours, theirs in pairs if ours.right and theirs.right]
        where = f"our time over that of {name}, {family}, {len(both)} decided by both"
        if not both:
            print(f"{where}: nothing to compare")
            continue
        ratio = median(ours.seconds / theirs.seconds for ours, theirs in both)
        verdict = "met" if ratio <= goal else "NOT MET"
        print(f"{where}: median {number(ratio)} (goal {goal:g}: {verdict})")
        own = [pair for pair in both if all(run.own_seconds for run in pair)]
        if own:
            # Without start-up: what either counts itself.
            ratio = median((o.own_seconds or 0) / (t.own_seconds or 1) for o, t in own)
            print(f"  own times, of {len(own)}: median {number(ratio)}")


def _print_exceptions(runs: Iterable[Run]) -> None:
    print()
    for run in runs:
        if run.wrong or run.answer == "error":
            kind = "WRONG" if run.wrong else "error"
            where = f"{run.family} {Path(run.onnx).name} {Path(run.vnnlib).name}"
            print(f"{kind}: {run.verifier}: {where}: {run.answer} {run.message}")


def _of_family(instances: Sequence[Instance], family: str) -> list[Instance]:
    return [i for i in instances if family in ("all", i.family)]


if __name__ == "__main__":
    sys.exit(main())
