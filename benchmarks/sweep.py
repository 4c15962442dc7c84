"""Run `analyze` on every public instance and compare its verdicts with the known ones.

python benchmarks/sweep.py --domain crown --timeout 20 --resume sweep.csv
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tables import print_table
from workloads import BENCH

VERDICTS = {"verified": "unsat", "falsified": "sat", "unknown": "unknown", "timeout": "timeout"}
"""What VNN-COMP calls each first line of `analyze`."""
# Start-up, reading and the last step before a deadline is seen; then the process is ended.
GRACE_S = 60.0
KINDS = ("right", "wrong", "unlabelled", "undecided", "error")


@dataclass(frozen=True)
class Instance:
    """A row of `instances.csv`."""

    family: str
    onnx: str
    vnnlib: str
    expected: str


@dataclass(frozen=True)
class Outcome:
    """What `analyze` said of an instance.

    `kind` is one of `KINDS`; "unlabelled" is a verdict on an instance whose answer is not known.
    """

    family: str
    onnx: str
    vnnlib: str
    expected: str
    answer: str
    kind: str
    seconds: float
    message: str


def main() -> int:
    """Run the sweep; the exit code is 1 where a verdict is wrong or a traceback was seen."""
    options = _arguments()
    instances = [
        instance
        for instance in read_instances(options.bench)
        if options.families is None or instance.family in options.families
    ]
    outcomes = read_outcomes(options.resume)
    done = {(outcome.onnx, outcome.vnnlib) for outcome in outcomes}
    waiting = [i for i in instances if (i.onnx, i.vnnlib) not in done]
    chosen = {(i.onnx, i.vnnlib) for i in instances}
    outcomes = [o for o in outcomes if (o.onnx, o.vnnlib) in chosen]
    with ThreadPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(lambda instance: _run(instance, options), waiting):
            append_outcome(options.resume, outcome)
            outcomes.append(outcome)
            print(_line(outcome), file=sys.stderr, flush=True)
    _print_summary(outcomes)
    tracebacks = sum("Traceback" in outcome.message for outcome in outcomes)
    wrong = sum(outcome.kind == "wrong" for outcome in outcomes)
    return 1 if wrong or tracebacks else 0


def read_instances(bench: Path) -> list[Instance]:
    """Read the instances of a benchmark folder."""
    with (bench / "instances.csv").open(newline="") as file:
        return [
            Instance(row["family"], row["onnx"], row["vnnlib"], row["expected"])
            for row in csv.DictReader(file)
        ]


def read_outcomes(path: Path | None) -> list[Outcome]:
    """Read what an earlier, perhaps interrupted, sweep wrote; its errors are tried again."""
    if path is None or not path.exists():
        return []
    with path.open(newline="") as file:
        outcomes = [_outcome(row) for row in csv.DictReader(file)]
    kept = [outcome for outcome in outcomes if outcome.kind != "error"]
    # Through a second file: an interruption must not lose what hours have found.
    renewed = path.with_name(f"{path.name}.new")
    renewed.unlink(missing_ok=True)
    for outcome in kept:
        append_outcome(renewed, outcome)
    if kept:
        renewed.replace(path)
    else:
        path.unlink()
    return kept


def append_outcome(path: Path | None, outcome: Outcome) -> None:
    """Add one outcome to the file, with a header where the file is new."""
    if path is None:
        return
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Outcome)])
        if new:
            writer.writeheader()
        writer.writerow(asdict(outcome))


def judge(expected: str, answer: str) -> str:
    """Compare an answer with the known one."""
    if answer in ("unknown", "timeout"):
        return "undecided"
    if answer not in ("sat", "unsat"):
        return "error"
    if expected == "unknown":
        return "unlabelled"
    return "right" if answer == expected else "wrong"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--domain", default="crown")
    parser.add_argument("--timeout", type=float, default=20, help="seconds given to `analyze`")
    parser.add_argument("--families", nargs="+", help="only these (default: all)")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--resume", type=Path, help="a CSV file to append to and to continue")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="for `analyze`")
    return parser.parse_args()


def _run(instance: Instance, options: argparse.Namespace) -> Outcome:
    command = [sys.executable, "-m", "absolver.analyzer.cli.analyze"]
    command += [str(options.bench / instance.onnx), str(options.bench / instance.vnnlib)]
    command += ["--domain", options.domain, "--timeout", f"{options.timeout:g}", *options.options]
    start = time.perf_counter()
    try:
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=options.timeout + GRACE_S,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired:
        answer, message = "error", f"no answer {GRACE_S:g} s after the deadline"
    else:
        answer, message = read_answer(run.returncode, run.stdout, run.stderr)
    seconds = round(time.perf_counter() - start, 2)
    kind = judge(instance.expected, answer)
    return Outcome(**asdict(instance), answer=answer, kind=kind, seconds=seconds, message=message)


def read_answer(code: int, output: str, errors: str) -> tuple[str, str]:
    """Return the verdict in VNN-COMP's words and, for errors, what the user was told."""
    first, *rest = output.splitlines() or [""]
    if "Traceback" in errors:
        return "error", f"Traceback: {errors.splitlines()[-1]}"
    if first in VERDICTS and code in (0, 1, 2, 3):
        return VERDICTS[first], rest[0] if rest else ""
    told = errors.strip().splitlines() or ["nothing on standard error"]
    return "error", f"exit {code}: {told[-1]}"


def _outcome(row: Mapping[str, str]) -> Outcome:
    texts = {field.name: row[field.name] for field in fields(Outcome) if field.name != "seconds"}
    return Outcome(seconds=float(row["seconds"]), **texts)


def _line(outcome: Outcome) -> str:
    where = f"{outcome.onnx} {Path(outcome.vnnlib).name}"
    said = f"{outcome.answer} (expected {outcome.expected}) {outcome.seconds:.1f} s"
    return f"{outcome.kind:10} {where}: {said} {outcome.message if outcome.kind == 'error' else ''}"


def _print_summary(outcomes: Sequence[Outcome]) -> None:
    families = sorted({outcome.family for outcome in outcomes})
    rows = [[f, *_counts(o for o in outcomes if o.family == f)] for f in families]
    rows.append(["all", *_counts(outcomes)])
    print_table(["family", *KINDS, "seconds"], rows)
    print()
    for kind in ("wrong", "error"):
        for outcome in outcomes:
            if outcome.kind == kind:
                print(_line(outcome))
    count = Counter(outcome.kind for outcome in outcomes)
    decided = count["right"] + count["wrong"] + count["unlabelled"]
    tracebacks = sum("Traceback" in outcome.message for outcome in outcomes)
    print(
        f"{len(outcomes)} instances, {decided} decided, {count['wrong']} wrong, "
        f"{count['undecided']} undecided, {count['error']} errors, {tracebacks} tracebacks"
    )


def _counts(outcomes: Iterable[Outcome]) -> list[str]:
    chosen = list(outcomes)
    count = Counter(outcome.kind for outcome in chosen)
    seconds = sum(outcome.seconds for outcome in chosen)
    return [*(str(count[kind]) for kind in KINDS), f"{seconds:.0f}"]


if __name__ == "__main__":
    sys.exit(main())
