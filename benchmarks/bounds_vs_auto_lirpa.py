"""Time, memory and tightness of output bounds: ours against auto_LiRPA's, in one process.

python benchmarks/bounds_vs_auto_lirpa.py --auto-lirpa ../rivals/auto_LiRPA
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import NoReturn

import torch
from measure import interleaved, resident_peak_bytes, tensor_peak_bytes
from ours import our_bounds
from rival import METHODS, load_auto_lirpa, rival_bounds
from tables import machine, number, print_table, write_json
from torch import Tensor
from workloads import BENCH, ROOT, SAME_SLOPES, SOURCES, Workload, workload

SIDES = ("theirs", "ours")

# What the comparison is held against.
GOAL_EVERY_RATIO, GOAL_MEDIAN_RATIO, GOAL_MEMORY_RATIO = 0.8, 0.4, 0.25
GOAL_DIFFERENCE = 1e-4
# Below this, memory is mostly code that is loaded on first use, and nobody's concern.
MEANINGFUL_MEGABYTES = 16.0
# Elements of a batch whose bounds are compared: each costs auto_LiRPA a run of its own.
COMPARED = 4


@dataclass(frozen=True)
class Cell:
    """What was measured for one network, batch and method; None where it could not be."""

    network: str
    batch: int
    method: str
    seconds: dict[str, float]
    resident: dict[str, float]
    """Megabytes by which resident memory rose at most, over a process that has the network."""
    tensors: dict[str, float]
    """Megabytes that torch allocated at most, in a warm call."""
    width: dict[str, float]
    difference: float | None
    """The largest |ours - theirs| over the magnitude of that output's bounds, where theirs are of
    an element alone: in a batch they depend on its mates."""
    skipped: str = ""

    @property
    def time_ratio(self) -> float | None:
        """Our median time over theirs."""
        return _ratio(self.seconds)


def main() -> int:
    """Run the comparison."""
    options = _arguments()
    torch.set_num_threads(1)
    library = load_auto_lirpa(options.auto_lirpa)
    if library is None:
        print(
            f"skipped: no auto_LiRPA in {options.auto_lirpa}. Fetch it with `git clone "
            "https://github.com/Verified-Intelligence/auto_LiRPA` and name it by --auto-lirpa."
        )
        return 0
    if options.memory_of is not None:
        print(json.dumps(_memory_here(options)))
        return 0
    print(f"auto_LiRPA {library.__version__}; {machine()}; {options.dtype}", flush=True)
    cells = []
    for name in options.nets:
        for batch in options.batches:
            for method in options.methods:
                cells.append(_measure(options, name, batch, method))
                _print_progress(cells[-1])
                write_json(options.json, [asdict(cell) for cell in cells])
    print()
    _print_cells(cells)
    _print_goals(cells)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--auto-lirpa", type=Path, default=ROOT.parent / "rivals/auto_LiRPA")
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--nets", nargs="+", choices=tuple(SOURCES), default=tuple(SOURCES))
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 32))
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=30, help="a side that used these up is not repeated"
    )
    parser.add_argument("--no-memory", action="store_true", help="leave memory out (faster)")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    # The script calls itself with this one: memory needs a process of its own.
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(options: argparse.Namespace, name: str, batch: int, method: str) -> Cell:
    empty: dict[str, float] = {}
    try:
        calls = {side: _guarded(options, side, name, batch, method) for side in SIDES}
        timed = interleaved(calls, options.device, options.repeats, options.seconds)
    except UnsupportedError as unsupported:
        return Cell(name, batch, method, empty, empty, empty, empty, None, str(unsupported))
    bounds = {side: timed[side].result for side in SIDES}
    for side in SIDES:
        if not all(bool(bound.isfinite().all()) for bound in bounds[side]):
            reason = f"{side}: not all bounds are finite"
            return Cell(name, batch, method, empty, empty, empty, empty, None, reason)
    seconds = {side: timed[side].seconds for side in SIDES}
    resident: dict[str, float] = {}
    tensors: dict[str, float] = {}
    for side in () if options.no_memory else SIDES:
        found = _memory_elsewhere(options, side, name, batch, method)
        tensors[side] = found["tensors"]
        if "resident" in found:
            resident[side] = found["resident"]
    width = {side: float((upper - lower).mean()) for side, (lower, upper) in bounds.items()}
    difference = _largest_difference(
        options, workload(name, options.bench, batch), method, bounds["ours"]
    )
    return Cell(name, batch, method, seconds, resident, tensors, width, difference)


class UnsupportedError(Exception):
    """One side cannot do a workload; the message says which and why."""


def _side(
    options: argparse.Namespace, side: str, name: str, batch: int, method: str
) -> Callable[[], tuple[Tensor, Tensor]]:
    work = workload(name, options.bench, batch)
    dtype = getattr(torch, options.dtype)
    if side == "ours":
        return our_bounds(work, method, options.device, dtype)
    library = load_auto_lirpa(options.auto_lirpa)
    assert library is not None, "main has imported it already"
    return rival_bounds(library, work, method, options.device, dtype)


def _guarded(
    options: argparse.Namespace, side: str, name: str, batch: int, method: str
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Prepare one side; whatever either engine cannot do must not end the table."""

    def reraise(error: Exception) -> NoReturn:
        reason = (str(error).splitlines() or [""])[0][:100]
        raise UnsupportedError(f"{side}: {type(error).__name__}: {reason}") from error

    try:
        call = _side(options, side, name, batch, method)
    except Exception as error:
        reraise(error)

    def compute() -> tuple[Tensor, Tensor]:
        try:
            return call()
        except Exception as error:
            reraise(error)

    return compute


def _memory_elsewhere(
    options: argparse.Namespace, side: str, name: str, batch: int, method: str
) -> dict[str, float]:
    """Measure one side's peaks of memory, in megabytes, in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", side, "--nets", name, "--methods", method]
    command += ["--batches", str(batch), "--device", options.device, "--dtype", options.dtype]
    command += ["--auto-lirpa", str(options.auto_lirpa), "--bench", str(options.bench)]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        raise RuntimeError(f"measuring memory failed: {' '.join(command)}\n{answer.stderr}")
    found: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return found


def _memory_here(options: argparse.Namespace) -> dict[str, float]:
    ((name,), (batch,), (method,)) = options.nets, options.batches, options.methods
    # Both sides have evaluated something before: the common code is loaded.
    _side(options, options.memory_of, name, 1, "IBP")()
    call = _side(options, options.memory_of, name, batch, method)
    found = {"resident": resident_peak_bytes(call)} if options.device == "cpu" else {}
    found["tensors"] = tensor_peak_bytes(call, options.device)
    return {kind: peak / 2**20 for kind, peak in found.items()}


def _largest_difference(
    options: argparse.Namespace, work: Workload, method: str, ours: tuple[Tensor, Tensor]
) -> float:
    """Compare some elements of our batch with what auto_LiRPA finds for each of them alone."""
    library = load_auto_lirpa(options.auto_lirpa)
    assert library is not None, "main has imported it already"
    dtype = getattr(torch, options.dtype)
    largest = 0.0
    batch = len(work.lower)
    for element in range(0, batch, -(-batch // COMPARED)):
        single = work.alone(element)
        theirs = rival_bounds(library, single, method, options.device, dtype, always_sparse=True)()
        pairs = [(a[element], b[0]) for a, b in zip(ours, theirs, strict=True)]
        size = torch.maximum(*(b.abs() for _, b in pairs))
        largest = max(largest, *(float(((a - b).abs() / size).max()) for a, b in pairs))
    return largest


def _ratio(values: dict[str, float]) -> float | None:
    return values["ours"] / values["theirs"] if values.get("theirs") else None


def _print_progress(cell: Cell) -> None:
    what = cell.skipped or f"ratio {number(cell.time_ratio)}"
    print(f"{cell.network} x{cell.batch} {cell.method}: {what}", file=sys.stderr, flush=True)


def _print_cells(cells: Sequence[Cell]) -> None:
    header = ["network", "batch", "method", "s theirs", "s ours", "ratio"]
    header += ["resident MB theirs", "ours", "ratio", "tensor MB theirs", "ours", "ratio"]
    header += ["width theirs", "width ours", "max rel. diff."]
    rows = []
    for cell in cells:
        figures: list[float | None] = []
        for sides in (cell.seconds, cell.resident, cell.tensors):
            figures += [sides.get("theirs"), sides.get("ours"), _ratio(sides)]
        figures += [cell.width.get("theirs"), cell.width.get("ours"), cell.difference]
        rows.append([cell.network, str(cell.batch), cell.method, *map(number, figures)])
    print_table(header, rows)
    for cell in cells:
        if cell.skipped:
            print(f"skipped: {cell.network} x{cell.batch} {cell.method}: {cell.skipped}")


def _print_goals(cells: Sequence[Cell]) -> None:
    measured = [cell for cell in cells if not cell.skipped]
    if not measured:
        return
    print()
    times = [cell.time_ratio for cell in measured]
    _print_goal("largest time ratio", times, GOAL_EVERY_RATIO)
    _print_goal("median time ratio", [median(filter(None, times))], GOAL_MEDIAN_RATIO)
    for kind in ("resident", "tensors"):
        sides = [getattr(cell, kind) for cell in measured]
        large = [s for s in sides if s.get("theirs", 0.0) >= MEANINGFUL_MEGABYTES]
        what = f"largest memory ratio ({kind}"
        _print_goal(f"{what})", map(_ratio, sides), GOAL_MEMORY_RATIO)
        where = f"where theirs is {MEANINGFUL_MEGABYTES:g} MB or more"
        _print_goal(f"{what}, {where})", map(_ratio, large), GOAL_MEMORY_RATIO)
    same = [cell.difference for cell in measured if cell.network in SAME_SLOPES]
    _print_goal("largest difference where slopes agree", same, GOAL_DIFFERENCE)


def _print_goal(what: str, values: Iterable[float | None], goal: float) -> None:
    """Judge the largest of some values; those that could not be measured do not count."""
    known = [value for value in values if value is not None]
    if known:
        met = sum(value <= goal for value in known)
        verdict = "met" if met == len(known) else f"NOT MET in {len(known) - met} of {len(known)}"
        print(f"{what}: {number(max(known))} (goal {goal:g}: {verdict})")


if __name__ == "__main__":
    sys.exit(main())
