"""Peak memory of `analyze` on the largest network of each family, under several budgets.

python benchmarks/memory.py --memory 64MiB 2GB 4GiB --timeout 25 --families vit yolo oval21
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sweep import GRACE_S, Instance, read_instances
from tables import number, print_table, write_json
from workloads import BENCH

from absolver.analyzer.cli.arguments import gigabytes

# Runs `analyze`, and says last how much memory its process took at most, in kB.
PROGRAM = """
import resource, sys
from absolver.analyzer.cli.analyze import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
# What torch's kernels take when they are first used, and memory that an allocator holds on to.
OWN_MB = 128.0


@dataclass(frozen=True)
class Peak:
    """What the process of one run took at most, in MB.

    `loaded` is what it takes to load the network, compare it with onnxruntime, and bound it once
    with intervals; None where that fails.
    """

    family: str
    onnx: str
    memory: str
    verdict: str
    reason: str
    loaded: float | None
    peak: float

    @property
    def share(self) -> float | None:
        """What was taken on top of that, as a share of the budget and what is not budgeted."""
        if self.loaded is None:
            return None
        return (self.peak - self.loaded) / (OWN_MB + 1000 * gigabytes(self.memory))


def main() -> int:
    """Print the table; the exit code is 1 where a run has crashed or exceeded its budget."""
    options = _arguments()
    peaks = []
    for instance in _largest(options):
        network = _file(options.bench / instance.onnx)
        whole = [str(network), str(_file(options.bench / instance.vnnlib))]
        _, loaded = _run([str(network), "--domain", "interval"], options.timeout)
        for memory in options.memory:
            given = [*whole, "--memory", memory, "--timeout", f"{options.timeout:g}"]
            report, peak = _run(given, options.timeout)
            verdict, reason = report.get("verdict", "crashed"), report.get("reason", "")
            about = instance.family, instance.onnx, memory
            peaks.append(Peak(*about, verdict, reason, loaded, peak or 0.0))
            print(*about, verdict, f"{peak or 0:.0f} MB", file=sys.stderr, flush=True)
    header = ("family", "network", "budget", "verdict", "MB loaded", "MB peak", "of promised")
    print_table(header, [_row(peak) for peak in peaks])
    write_json(options.json, [asdict(peak) for peak in peaks])
    exceeded = any(peak.share is not None and peak.share > 1 for peak in peaks)
    return int(exceeded or any(peak.verdict == "crashed" for peak in peaks))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--memory", nargs="+", default=["64MiB", "4GiB"], help="budgets")
    parser.add_argument("--timeout", type=float, default=25, help="seconds given to `analyze`")
    parser.add_argument("--families", nargs="+", help="only these (default: all)")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    return parser.parse_args()


def _largest(options: argparse.Namespace) -> Iterator[Instance]:
    """Yield of each family an instance with its largest file."""
    instances = list(read_instances(options.bench))
    families = options.families or list(dict.fromkeys(one.family for one in instances))
    for family in families:
        own = [one for one in instances if one.family == family]
        yield max(own, key=lambda one: _file(options.bench / one.onnx).stat().st_size)


def _file(path: Path) -> Path:
    """Return the file, or its gzipped form where only that one is there."""
    return path if path.exists() else path.with_name(f"{path.name}.gz")


def _run(arguments: Sequence[str], timeout: float) -> tuple[dict[str, str], float | None]:
    """Run `analyze`; return its report, and the megabytes that it took, if it has not crashed."""
    command = [sys.executable, "-c", PROGRAM, *arguments, "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    limit = timeout + GRACE_S
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=limit
        )
        return json.loads(result.stdout), int(result.stderr.splitlines()[-1]) / 1000
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return {}, None


def _row(peak: Peak) -> tuple[str, ...]:
    share = "-" if peak.share is None else f"{peak.share:.0%}"
    sizes = (number(peak.loaded), number(peak.peak))
    return (peak.family, Path(peak.onnx).name, peak.memory, peak.verdict, *sizes, share)


if __name__ == "__main__":
    sys.exit(main())
