"""The conformance suite of VNN-LIB 2 through the real command line, one process for each query.

python benchmarks/vnnlib_satisfactory.py [--solver absolver] [--timeout 60] [--json FILE]

The suite itself runs the solver and judges its answers (`vnnlib-satisfactory run`). It skips what a
solver does not say to support, and ends with 0 whatever it found, so its report is what counts.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from tables import print_table, write_json

PINNED, CASES = "1.0.1", 178
OUTCOMES = ("total", "passed", "failed", "suspect", "errored", "skipped")


def main() -> int:
    """Run the suite; fail unless every query is answered right and none is skipped."""
    arguments = parse()
    found = version("vnnlib-satisfactory")
    if found != PINNED:
        sys.exit(f"vnnlib-satisfactory {found} is installed, the figures are of {PINNED}")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = run(arguments.solver, arguments.timeout, Path(folder))
    seconds = time.monotonic() - start
    summary = report["summary"]
    print_table(OUTCOMES, [[str(summary[name]) for name in OUTCOMES]])
    print(f"\n{seconds:.0f} s, held against: {CASES} passed of {CASES}, none skipped")
    write_json(arguments.json, {"summary": summary, "seconds": seconds})
    passed = summary["passed"] == summary["total"] == CASES and summary["skipped"] == 0
    return 0 if passed else 1


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solver", default=shutil.which("absolver"), help="the command to run")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for each query")
    parser.add_argument("--json", type=Path, help="write the results")
    arguments = parser.parse_args()
    if arguments.solver is None:
        parser.error("there is no `absolver` on the path: install it, or name it by --solver")
    return arguments


def run(solver: str, timeout: float, folder: Path) -> dict[str, dict[str, int]]:
    """Run the suite in a folder of its own; return its report."""
    suite = [sys.executable, "-m", "vnntest", "run", "--solver", solver, "--timeout", str(timeout)]
    # An answer that is not as expected is printed with its reason.
    subprocess.run(suite, cwd=folder, check=True)
    report = folder / ".vnnlib-satisfactory" / "report.json"
    if not report.is_file():
        sys.exit("the suite has written no report: after a time-out it fails to")
    content: dict[str, dict[str, int]] = json.loads(report.read_text())
    return content


if __name__ == "__main__":
    sys.exit(main())
