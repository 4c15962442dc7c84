"""Time and width of alpha-CROWN's output bounds: ours against auto_LiRPA's.

python benchmarks/alpha_vs_auto_lirpa.py --auto-lirpa ../rivals/auto_LiRPA --resume alpha.jsonl
"""

import argparse
import json
import os
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from math import inf, prod
from pathlib import Path
from statistics import median
from types import ModuleType

import torch
from measure import interleaved
from ours import load_graph, region_of
from rival import load_auto_lirpa, rival_alpha_fixed, rival_alpha_free
from tables import append_line, machine, number, print_table, read_lines
from torch import Tensor
from workloads import BENCH, ROOT, SAME_SLOPES, SOURCES, Workload, workload

from absolver import domains
from absolver.analyzer.bench.runner import Runner
from absolver.analyzer.graph.graph import Graph, Nonlinear
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.properties.property import Clause, LinearConstraint
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.search.ascent import Dual, Problem, Rows, ascend
from absolver.analyzer.search.hidden import Effort, search_hidden
from absolver.analyzer.search.relaxed import inexact_columns
from absolver.dsl.operators.record import Interval

Bounds = tuple[Tensor, Tensor]
Call = Callable[[], Bounds]
Boxes = Mapping[str, Interval]

SIDES = ("theirs", "ours")
ITERATIONS = 20
# What the ratio of times is held against, at equal or smaller width.
GOALS = {"fixed": 0.25, "free": 0.4}
# Widths that differ by rounding and by how far a search has come count as equal.
EQUAL_WIDTH = 1.001


@dataclass(frozen=True)
class Cell:
    """What was measured for one network and batch with hidden bounds `fixed` or `free`."""

    network: str
    batch: int
    hidden: str
    seconds: dict[str, float] = field(default_factory=dict)
    width: dict[str, float] = field(default_factory=dict)
    """Mean width of all outputs; `crown` is where the search begins."""
    missing: dict[str, str] = field(default_factory=dict)
    """Why a side has no figures."""

    @property
    def key(self) -> tuple[str, int, str]:
        """What was measured."""
        return self.network, self.batch, self.hidden

    @property
    def ratio(self) -> float | None:
        """Our median time over theirs, where both have one."""
        both = set(SIDES) <= self.seconds.keys()
        return self.seconds["ours"] / self.seconds["theirs"] if both else None


class SideError(Exception):
    """One side cannot do a workload; the message says why."""

    def __init__(self, side: str, reason: str) -> None:
        """Keep which side it is."""
        super().__init__(reason)
        self.side = side


def main() -> int:
    """Run the comparison, each cell in a process of its own."""
    options = _arguments()
    torch.set_num_threads(1)
    library = load_auto_lirpa(options.auto_lirpa)
    if library is None:
        print(
            f"skipped: no auto_LiRPA in {options.auto_lirpa}. Fetch it with `git clone "
            "https://github.com/Verified-Intelligence/auto_LiRPA` and name it by --auto-lirpa."
        )
        return 0
    if options.here:
        print(json.dumps(asdict(_measure(options, library))))
        return 0
    print(f"auto_LiRPA {library.__version__}; {machine()}; {options.dtype}")
    known = {cell.key: cell for cell in (Cell(**record) for record in read_lines(options.resume))}
    cells = []
    for name in options.nets:
        for batch in options.batches:
            for hidden in options.hidden:
                cell = known.get((name, batch, hidden))
                if cell is None:
                    cell = _elsewhere(options, name, batch, hidden)
                    append_line(options.resume, asdict(cell))
                cells.append(cell)
                _print_progress(cell)
    _print_cells(cells)
    _print_goals(cells)
    return 0


def our_alpha_fixed(graph: Graph, boxes: Boxes, work: Workload, steps: int) -> Call:
    """Prepare our search over fixed hidden bounds: both sides are rows, the upper one negated."""
    some = next(iter(boxes.values())).lower
    dtype, device = some.dtype, some.device
    region = region_of(work, graph, str(device), dtype)
    domain = domains.load("alpha_crown")
    unit = torch.eye(prod(graph.output.shape), dtype=dtype, device=device)
    forms = torch.cat([unit, -unit])[None, :, None].expand(len(work.lower), -1, -1, -1)
    zero = torch.zeros(forms.shape[:3], dtype=dtype, device=device)
    rows = Rows(forms, zero, torch.ones_like(zero, dtype=torch.bool))
    problem = Problem(region, boxes, rows)

    def compute() -> Bounds:
        dual = Dual(graph, domain, problem, inexact_columns(graph, boxes))
        _, bounds, _ = ascend(dual, dual.start(), steps=steps)
        lower, negated = bounds.chunk(2, dim=1)
        return lower, -negated

    return compute


def our_alpha_free(graph: Graph, work: Workload, start: Tensor, steps: int) -> Call:
    """Prepare our search in which hidden bounds are searched first, each for itself."""
    region = region_of(work, graph, str(start.device), start.dtype)
    outputs = prod(graph.output.shape)
    # Its rows are not used: only hidden bounds are searched.
    clause = Clause(0, (), (LinearConstraint(((0, Fraction(1)),), Fraction(0), strict=False),))
    every = [[(0, clause)] for _ in range(region.batch)]
    whole = Specification.from_clauses(region, every, outputs, region.dtype)
    effort = Effort(domains.load("alpha_crown"), inf, 2 << 30)

    def compute() -> Bounds:
        root = search_hidden(graph, whole, effort)
        return our_alpha_fixed(graph, root.boxes, work, steps)()

    return compute


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--auto-lirpa",
        type=Path,
        default=os.environ.get("ABSOLVER_AUTO_LIRPA", ROOT.parent / "rivals/auto_LiRPA"),
    )
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--nets", nargs="+", choices=tuple(SOURCES), default=tuple(SOURCES))
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 32))
    parser.add_argument("--hidden", nargs="+", choices=tuple(GOALS), default=tuple(GOALS))
    parser.add_argument("--repeats", type=int, default=3, help="warm calls of each side")
    parser.add_argument(
        "--seconds", type=float, default=120, help="a side that used these up is not repeated"
    )
    parser.add_argument(
        "--limit", type=float, default=1200, help="seconds after which a cell is given up"
    )
    parser.add_argument("--memory", type=float, default=16, help="GiB a cell's process may map")
    parser.add_argument("--resume", type=Path, help="a JSON Lines file to add to and to continue")
    # The script calls itself with these: a cell that runs out of memory ends only itself.
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--sides", nargs="+", default=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def _elsewhere(options: argparse.Namespace, name: str, batch: int, hidden: str) -> Cell:
    """Measure a cell in a process with a limit; without theirs, where they exceed it."""
    command = [sys.executable, __file__, "--here", "--nets", name, "--batches", str(batch)]
    command += ["--hidden", hidden]
    for option in ("auto_lirpa", "bench", "device", "dtype", "repeats", "seconds", "memory"):
        command += [f"--{option.replace('_', '-')}", str(getattr(options, option))]
    missing: dict[str, str] = {}
    for sides in (SIDES, ("ours",)):
        ending = Runner().run([*command, "--sides", *sides], options.limit, one_thread=True)
        if ending.exit_code == 0:
            cell = Cell(**json.loads(ending.output.splitlines()[-1]))
            return Cell(**asdict(cell) | {"missing": cell.missing | missing})
        words = ending.errors.strip().splitlines() or [f"exit code {ending.exit_code}"]
        reason = f"no end within {options.limit:g} s" if ending.overtime else words[-1][:120]
        missing = dict.fromkeys(sides, reason) if sides != SIDES else {"theirs": reason}
    return Cell(name, batch, hidden, missing=missing | {"ours": reason})


def _measure(options: argparse.Namespace, library: ModuleType) -> Cell:
    limit = int(options.memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    ((name,), (batch,), (hidden,)) = options.nets, options.batches, options.hidden
    cell = Cell(name, batch, hidden)
    work = workload(name, options.bench, batch)
    dtype = getattr(torch, options.dtype)
    graph = load_graph(work.network, options.device, dtype)
    unit = torch.eye(prod(graph.output.shape), dtype=dtype, device=options.device)
    region = region_of(work, graph, options.device, dtype)
    found = propagate(graph, domains.load("crown"), region, torch.cat([unit, -unit])[None])
    cell.width["crown"] = float(-found.rows.sum() / found.rows.numel() * 2)

    def theirs() -> Call:
        if hidden == "free":
            return rival_alpha_free(library, work, options.device, dtype, ITERATIONS)
        given = _before_relus(graph, found.hidden) if name in SAME_SLOPES else None
        return rival_alpha_fixed(library, work, options.device, dtype, ITERATIONS, given)

    def ours() -> Call:
        # The start is evaluated too, as in the first of auto_LiRPA's iterations.
        if hidden == "free":
            return our_alpha_free(graph, work, found.rows, ITERATIONS - 1)
        return our_alpha_fixed(graph, found.hidden, work, ITERATIONS - 1)

    sides = {"theirs": theirs, "ours": ours}
    calls = {side: _guarded(side, make) for side, make in sides.items() if side in options.sides}
    while calls:
        try:
            timed = interleaved(calls, options.device, options.repeats, options.seconds)
        except SideError as failed:
            cell.missing[failed.side] = str(failed)
            del calls[failed.side]
            continue
        for side, result in timed.items():
            lower, upper = result.result
            cell.seconds[side] = result.seconds
            cell.width[side] = float((upper - lower).mean())
        break
    return cell


def _guarded(side: str, make: Callable[[], Call]) -> Call:
    """Prepare a side at its first call; say which side it is that fails."""
    made: list[Call] = []

    def compute() -> Bounds:
        try:
            if not made:
                made.append(make())
            bounds = made[0]()
        except Exception as error:
            line = (str(error).splitlines() or [""])[0][:120]
            raise SideError(side, f"{type(error).__name__}: {line}") from error
        if not all(bool(bound.isfinite().all()) for bound in bounds):
            raise SideError(side, "not all bounds are finite")
        return bounds

    return compute


def _before_relus(graph: Graph, boxes: Boxes) -> list[Interval]:
    """Return the boxes before the ReLUs, in the network's order."""
    return [boxes[node.inputs[0]] for node in graph.nodes if isinstance(node, Nonlinear)]


def _print_progress(cell: Cell) -> None:
    said = [f"{side}: {why}" for side, why in cell.missing.items()]
    what = "; ".join([*said, f"ratio {number(cell.ratio)}"])
    print(f"{cell.network} x{cell.batch} {cell.hidden}: {what}", file=sys.stderr, flush=True)


def _print_cells(cells: Sequence[Cell]) -> None:
    header = ["network", "batch", "hidden", "s theirs", "s ours", "ratio"]
    header += ["width of CROWN", "theirs", "ours"]
    rows = []
    for cell in cells:
        figures = [*(cell.seconds.get(side) for side in SIDES), cell.ratio]
        figures += [cell.width.get(side) for side in ("crown", *SIDES)]
        rows.append([cell.network, str(cell.batch), cell.hidden, *map(number, figures)])
    print()
    print_table(header, rows)
    for cell in cells:
        for side, why in cell.missing.items():
            print(f"{cell.network} x{cell.batch} {cell.hidden}, {side}: {why}")


def _print_goals(cells: Sequence[Cell]) -> None:
    print()
    for hidden, goal in GOALS.items():
        both = [cell for cell in cells if cell.hidden == hidden and cell.ratio is not None]
        if not both:
            print(f"{hidden} hidden bounds: nothing that both have")
            continue
        ratios = [cell.ratio for cell in both if cell.ratio is not None]
        wider = [c for c in both if c.width["ours"] > EQUAL_WIDTH * c.width["theirs"]]
        met = sum(ratio <= goal for ratio in ratios)
        print(
            f"{hidden} hidden bounds: ratio of times {number(min(ratios))} to "
            f"{number(max(ratios))}, median {number(median(ratios))} (goal {goal:g}: met in {met} "
            f"of {len(both)}); ours are wider in {len(wider)}"
        )


if __name__ == "__main__":
    sys.exit(main())
