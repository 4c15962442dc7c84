"""Certificates of public instances: time to solve, time to check in each tier, size.

python benchmarks/certificates.py --domains crown zonotope interval --timeout 20 --resume cert.csv
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median

from sweep import GRACE_S, Instance, read_instances
from tables import number, print_table
from workloads import BENCH

TIERS = ("fast", "exact", "rational")
LARGEST_SHARE = 0.25  # of the time to solve, the goal for the fast tier at the median
LARGEST_FACTOR = 5.0  # of the fast tier, the goal for the exact tier


@dataclass(frozen=True)
class Trial:
    """What one domain's certificate of one instance took; times are CPU seconds of processes.

    `solve` is without the run of `audit` that `analyze` makes. A tier that was not run, or had no
    answer in time, has the time 0 and the answer "".
    """

    domain: str
    onnx: str
    vnnlib: str
    expected: str
    verdict: str
    semantics: str = ""
    unchecked: str = ""
    size: int = 0
    rows: int = 0
    solve: float = 0.0
    fast: float = 0.0
    exact: float = 0.0
    rational: float = 0.0
    fast_answer: str = ""
    exact_answer: str = ""
    rational_answer: str = ""


def main() -> int:
    """Run all trials; the exit code is 1 where some tier's answer is not `valid`."""
    options = _arguments()
    trials = _earlier(options.resume)
    done = {(t.domain, t.onnx, t.vnnlib) for t in trials}
    for domain in options.domains:
        for instance in _chosen(options):
            if (domain, instance.onnx, instance.vnnlib) in done:
                continue
            trial = _run(instance, domain, options)
            _append(options.resume, trial)
            trials.append(trial)
            where = f"{domain} {instance.onnx} {Path(instance.vnnlib).name}"
            print(f"{where}: {trial.verdict} {trial.fast_answer}", file=sys.stderr, flush=True)
    verified = [trial for trial in trials if trial.verdict == "verified"]
    _print_trials([trial for trial in verified if trial.fast_answer])
    _print_unchecked([trial for trial in verified if not trial.fast_answer])
    _print_goals([trial for trial in verified if trial.fast_answer])
    answers = {t.fast_answer for t in verified} | {t.exact_answer for t in verified}
    answers |= {trial.rational_answer for trial in verified}
    return 0 if answers <= {"valid", ""} else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--domains", nargs="+", default=["crown", "zonotope", "interval"])
    parser.add_argument("--timeout", type=float, default=20, help="seconds given to `analyze`")
    parser.add_argument("--tiers", nargs="+", choices=TIERS, default=TIERS)
    parser.add_argument("--tier-seconds", type=float, default=120, help="given to each audit")
    parser.add_argument("--families", nargs="+", help="only these (default: all)")
    parser.add_argument("--decided", type=Path, help="only what this CSV of sweep.py has as unsat")
    parser.add_argument("--resume", type=Path, help="a CSV file to append to and to continue")
    return parser.parse_args()


def _chosen(options: argparse.Namespace) -> Iterator[Instance]:
    decided = None
    if options.decided is not None:
        with options.decided.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["answer"] == "unsat"]
        decided = {(row["onnx"], row["vnnlib"]) for row in rows}
    for instance in read_instances(options.bench):
        if instance.expected == "sat":
            continue
        if options.families is not None and instance.family not in options.families:
            continue
        if decided is None or (instance.onnx, instance.vnnlib) in decided:
            yield instance


def _run(instance: Instance, domain: str, options: argparse.Namespace) -> Trial:
    network, query = options.bench / instance.onnx, options.bench / instance.vnnlib
    about = (domain, instance.onnx, instance.vnnlib, instance.expected)
    with tempfile.TemporaryDirectory() as folder:
        proof = Path(folder) / "proof"
        command = ["absolver.analyzer.cli.analyze", str(network), str(query), "--json"]
        command += ["--domain", domain, "--timeout", f"{options.timeout:g}"]
        command += ["--certificate", str(proof)]
        report, spent = _process(command, options.timeout + GRACE_S)
        verdict = str(report.get("verdict", "error"))
        if verdict != "verified" or not proof.exists():
            return Trial(*about, verdict=verdict, unchecked=str(report.get("unchecked", "")))
        answers: dict[str, object] = {}
        for tier in options.tiers:
            audit = ["absolver.certificates.audit", str(network), str(query), str(proof)]
            said, seconds = _process([*audit, "--tier", tier, "--json"], options.tier_seconds)
            answers[f"{tier}_answer"] = said.get("answer", "")
            answers[tier] = seconds if said else 0.0
            answers["rows"] = said.get("rows", answers.get("rows", 0))
        checked = answers["fast"] if report["checked"] and "fast" in options.tiers else 0.0
        assert isinstance(checked, float)
        return Trial(
            *about,
            verdict=verdict,
            semantics=str(report["semantics"]),
            unchecked=str(report["unchecked"]),
            size=proof.stat().st_size,
            solve=round(spent - checked, 3),
            **answers,  # type: ignore[arg-type]
        )


def _process(command: Sequence[str], limit_s: float) -> tuple[dict[str, object], float]:
    """Run a module that prints JSON; return that, empty where there is none, and CPU seconds."""
    before = _children()
    try:
        run = subprocess.run(
            [sys.executable, "-m", *command],
            capture_output=True,
            text=True,
            timeout=limit_s,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        printed = json.loads(run.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        printed = {}
    assert isinstance(printed, dict)
    return printed, round(_children() - before, 3)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _earlier(path: Path | None) -> list[Trial]:
    if path is None or not path.exists():
        return []
    with path.open(newline="") as file:
        return [_trial(row) for row in csv.DictReader(file)]


def _trial(row: Mapping[str, str]) -> Trial:
    numbers = {name: float(row[name]) for name in ("solve", *TIERS)}
    counts = {name: int(row[name]) for name in ("size", "rows")}
    return Trial(**{**row, **numbers, **counts})  # type: ignore[arg-type]


def _append(path: Path | None, trial: Trial) -> None:
    if path is None:
        return
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Trial)])
        if new:
            writer.writeheader()
        writer.writerow(asdict(trial))


def _print_trials(trials: Sequence[Trial]) -> None:
    rows = []
    for trial in trials:
        tiers = [
            number(getattr(trial, tier)) if getattr(trial, f"{tier}_answer") == "valid" else "-"
            for tier in TIERS
        ]
        share = number(trial.fast / trial.solve)
        name = f"{Path(trial.onnx).stem} {Path(trial.vnnlib).stem}"
        sizes = [number(trial.size / 1e3), str(trial.rows)]
        rows.append(
            [trial.domain, name[:60], trial.semantics, number(trial.solve), *tiers, share, *sizes]
        )
    header = ["domain", "instance", "semantics", "solve s", *(f"{t} s" for t in TIERS)]
    if rows:
        print_table([*header, "fast / solve", "kB", "rows"], rows)


def _print_unchecked(trials: Sequence[Trial]) -> None:
    for trial in trials:
        print(
            f"unchecked: {trial.domain} {trial.onnx} {Path(trial.vnnlib).name}: {trial.unchecked}"
        )


def _print_goals(trials: Sequence[Trial]) -> None:
    for domain in dict.fromkeys(trial.domain for trial in trials):
        own = [trial for trial in trials if trial.domain == domain]
        counts = [
            f"{tier}: {sum(getattr(t, f'{tier}_answer') == 'valid' for t in own)}" for tier in TIERS
        ]
        floats = sum(trial.semantics == "float32" for trial in own)
        share = median(trial.fast / trial.solve for trial in own)
        factors = [t.exact / t.fast for t in own if t.exact_answer == "valid"]
        factor = median(factors) if factors else None
        print(
            f"{domain}: {len(own)} certificates; valid in {', '.join(counts)}; {floats} over "
            f"float32; fast tier {number(share)} of solving (goal {LARGEST_SHARE}), exact tier "
            f"{number(factor)} of fast (goal {LARGEST_FACTOR:g}), medians"
        )


if __name__ == "__main__":
    sys.exit(main())
