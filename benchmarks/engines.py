"""All engines on public instances of three families: what each decides, and where its time goes.

python benchmarks/engines.py --limit 20 --resume engines.jsonl [--engines bab milp smt ...]

Each run is a process of its own, certificate and check included; imports are not counted. An
interrupted run goes on from its file; instances come before engines, so that a part of a run
compares the same questions.
"""

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import torch
from sweep import GRACE_S, Instance, read_instances
from tables import append_line, machine, number, print_table, read_lines
from workloads import BENCH

from absolver.analyzer.bench.job import WORDS
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.engines.names import NAMES
from absolver.analyzer.errors import AbsolverError
from absolver.analyzer.report import Event, Kind
from absolver.analyzer.session import Session
from absolver.analyzer.verify import verify

FORK = multiprocessing.get_context("fork")

FAMILIES = ("acasxu", "mnist_fc", "safenlp")
ENGINES = ("bab", "lp", "milp", "smt", "simplex", "star", "sdp")
# Every so many rows of a family are taken: its networks and properties stand in order there.
_STRIDE = 5
OPPOSITE = {"sat": "unsat", "unsat": "sat"}


@dataclass(frozen=True)
class Run:
    """What one engine has said of one instance, in VNN-COMP's words, and what that took.

    Seconds are of a wall clock: of the run, of its solver, of its split trees, and of the check of
    its certificate; `cpu` is what the run has computed meanwhile.
    """

    engine: str
    family: str
    onnx: str
    vnnlib: str
    limit_s: float
    expected: str
    answer: str
    message: str
    checked: bool = False
    seconds: float = 0.0
    cpu: float = 0.0
    solver: float = 0.0
    proof: float = 0.0
    check: float = 0.0
    size: int = 0

    @property
    def key(self) -> tuple[str, str, str, float]:
        """What makes a run the same run."""
        return self.engine, self.onnx, self.vnnlib, self.limit_s

    @property
    def right(self) -> bool:
        """Whether it is decided, and not known to be wrong."""
        return self.answer in OPPOSITE and not self.wrong

    @property
    def wrong(self) -> bool:
        """Whether the opposite is known."""
        return self.expected in OPPOSITE and self.answer == OPPOSITE[self.expected]


def main() -> int:
    """Run what is not in the file yet, and print the table; 1 where an answer is wrong."""
    options = _arguments()
    torch.set_num_threads(1)
    known = {run.key: run for run in (Run(**line) for line in read_lines(options.resume))}
    print(f"{machine()}; {options.limit:g} s for each run", flush=True)
    found = []
    for instance in _chosen(options):
        for engine in options.engines:
            key = engine, instance.onnx, instance.vnnlib, options.limit
            if key not in known and not options.table:
                known[key] = _run(engine, instance, options)
                append_line(options.resume, asdict(known[key]))
                print(_line(known[key]), file=sys.stderr, flush=True)
            if key in known:
                found.append(known[key])
    _print(options, found)
    return 1 if any(run.wrong or run.answer == "error" for run in found) else 0


def _chosen(options: argparse.Namespace) -> list[Instance]:
    """Take instances all over each family, the families in turn; more of them are more of these."""
    whole = read_instances(options.bench)
    chosen = []
    for family in options.families:
        own = [instance for instance in whole if instance.family == family]
        places = dict.fromkeys(_STRIDE * i % len(own) for i in range(len(own)))
        chosen.append([own[i] for i in places][: options.count])
    turns = range(max(map(len, chosen)))
    return [own[turn] for turn in turns for own in chosen if turn < len(own)]


def _run(engine: str, instance: Instance, options: argparse.Namespace) -> Run:
    """Run an engine in a process that has everything imported, and is ended if it does not end."""
    about = (engine, instance.family, instance.onnx, instance.vnnlib, options.limit)
    ours, theirs = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_answer, args=(theirs, about, instance.expected, options.bench))
    child.start()
    theirs.close()
    try:
        if ours.poll(options.limit + GRACE_S):
            run: Run = ours.recv()
            return run
        message = "did not end after its time"
    except EOFError:
        message = "its process has ended without an answer"
    finally:
        child.kill()
        child.join()
    return Run(*about, expected=instance.expected, answer="error", message=message)


def _answer(
    answers: Connection, about: tuple[str, str, str, str, float], expected: str, bench: Path
) -> None:
    engine, _, network, query, limit = about
    start = time.monotonic()
    try:
        report = verify(
            bench / network,
            bench / query,
            execution=Execution(engine=engine),
            session=Session(Deadline.after(limit)),
        )
    except AbsolverError as error:
        answers.send(Run(*about, expected=expected, answer="refused", message=str(error)[:300]))
        return
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        answers.send(Run(*about, expected=expected, answer="error", message=text[:300]))
        return
    certificate = report.certificate
    parts = {kind: _seconds(report.timeline, kind) for kind in (Kind.SOLVER, Kind.PROOF)}
    run = Run(
        *about,
        expected=expected,
        answer=str(WORDS[report.verdict.value]),
        checked=report.checked,
        seconds=time.monotonic() - start,
        cpu=_cpu_seconds(),
        solver=parts[Kind.SOLVER],
        proof=parts[Kind.PROOF],
        check=0.0 if certificate is None else certificate.audit.seconds,
        size=0 if certificate is None else certificate.size,
        message=(report.reason or report.unchecked)[:300],
    )
    answers.send(run)


def _seconds(events: Sequence[Event], kind: Kind) -> float:
    return sum(event.seconds for event in events if event.kind is kind)


def _cpu_seconds() -> float:
    """Return what this process and the checker's have computed."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _line(run: Run) -> str:
    answer = run.answer if run.checked or run.answer not in OPPOSITE else f"{run.answer} unchecked"
    where = f"{Path(run.onnx).stem} {Path(run.vnnlib).stem}"
    return f"{run.engine} {where}: {answer} ({run.expected}) {run.seconds:.1f} s {run.message}"


def _print(options: argparse.Namespace, found: Sequence[Run]) -> None:
    rows = []
    for family in options.families:
        for engine in options.engines:
            own = [run for run in found if run.family == family and run.engine == engine]
            if own:
                rows.append([family, engine, *_cells(own)])
    if not rows:
        return
    header = ["family", "engine", "unsat", "sat", "unchecked", "wrong", "refused"]
    times = ["median s", "CPU s", "solver", "proof", "kB", "check s", "late s"]
    print_table([*header, *times], rows)
    for run in found:
        if run.wrong or run.answer == "error":
            print(_line(run))


def _cells(own: Sequence[Run]) -> list[str]:
    """Count answers; times of what is decided, shares of the time of all runs."""
    right = [run for run in own if run.right]
    unsat = sum(run.answer == "unsat" for run in right)
    certified = [run for run in right if run.size and run.answer == "unsat"]
    spent = sum(run.seconds for run in own)
    parts = sum(run.solver for run in own), sum(run.proof for run in own)
    return [
        f"{unsat} of {sum(run.expected == 'unsat' for run in own)}",
        f"{len(right) - unsat} of {sum(run.expected == 'sat' for run in own)}",
        str(sum(not run.checked for run in right)),
        str(sum(run.wrong for run in own)),
        str(sum(run.answer == "refused" for run in own)),
        _median([run.seconds for run in right]),
        _median([run.cpu for run in right]),
        *(f"{part / spent:.0%}" if spent else "-" for part in parts),
        _median([run.size / 1e3 for run in certified]),
        _median([run.check for run in certified]),
        number(max(0.0, *(run.seconds - run.limit_s for run in own))),
    ]


def _median(values: Sequence[float]) -> str:
    return number(median(values) if values else None)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, default=BENCH)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--engines", nargs="+", choices=NAMES, default=list(ENGINES))
    parser.add_argument("--count", type=int, default=12, help="instances of each family")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds for each run")
    parser.add_argument("--resume", type=Path, help="a JSON Lines file to add to and to continue")
    parser.add_argument("--table", action="store_true", help="only print what the file has")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
