"""From a problem in memory to a decision on each clause: search for a violation, or refute it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.attack import Effort, attack
from absolver.analyzer.backward import refuted_backward
from absolver.analyzer.certify.regions import as_checked
from absolver.analyzer.engines.names import BRANCH_AND_BOUND
from absolver.analyzer.errors import EXIT_USAGE, AbsolverError
from absolver.analyzer.goals import Goals
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.multipliers import over_polytope
from absolver.analyzer.propagate.engine import Given, Propagation, propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.region import Region
from absolver.analyzer.replay import Replay
from absolver.analyzer.report import Counterexample
from absolver.analyzer.rounding import rounding_allowance
from absolver.analyzer.tally import Tally
from absolver.dsl.domain import Domain

Progress = Callable[[int, int], None]
BOXES_AT_ONCE = 1024
# Coefficients of the rows of one tensor. On one core the first takes some seconds; the second a
# quarter of a minute, which is spent once, where a search starts from what it finds.
LITTLE_WORK, MODEST_WORK = 2**24, 2**28
COPIES = 16  # of a node's values that a pass holds: bounds, slopes, intercepts, temporaries


class DeviceError(AbsolverError):
    """The device that was asked for is not there."""

    exit_code = EXIT_USAGE


@dataclass(frozen=True)
class Execution:
    """Where, how precisely and with how much memory to compute, and what decides."""

    device: str = "cpu"
    dtype: str = "float64"
    seed: int = 0
    memory_bytes: int = 2 << 30
    engine: str = BRANCH_AND_BOUND
    """A name of `analyzer.engines.names`."""
    solver: str = ""
    """Which solver the engine asks; its own first choice if that is not named."""
    rounding: Rounding = Rounding()
    """Over which numbers bounds are proved, their own rounding included."""

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of bounds."""
        return torch.float64 if self.dtype == "float64" else torch.float32

    @property
    def settings(self) -> dict[str, str | int | float | None]:
        """What a report says of where and how was computed."""
        return {
            "device": self.device,
            "dtype": self.dtype,
            "seed": self.seed,
            "memory_bytes": self.memory_bytes,
            "engine": self.engine,
        }

    def check(self) -> None:
        """Raise unless the device is there."""
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise DeviceError(
                f"--device {self.device}: torch {torch.__version__} finds no CUDA device here; "
                "use --device cpu, or install a build of torch for CUDA"
            )

    def generator(self) -> torch.Generator:
        """Return a fresh random generator, the same each time."""
        return torch.Generator(device=self.device).manual_seed(self.seed)


@dataclass(frozen=True)
class Monitor:
    """Who learns how a run goes: sums for the report, and a progress display."""

    tally: Tally
    progress: Progress


def search(
    graph: Graph,
    specification: Specification,
    replay: Replay,
    generator: torch.Generator,
    *,
    wanted: Bool[Tensor, "sets clauses"] | None,
    effort: Effort,
) -> Counterexample | None:
    """Attack the wanted clauses of a specification, or all, in float32 as the runtime computes."""
    device = generator.device
    return attack(
        graph.to(device, torch.float32),
        specification.region.to(device, torch.float32),
        Goals.of(specification, wanted).to(device, torch.float32),
        replay,
        generator=generator,
        effort=effort,
    )


@dataclass(frozen=True)
class Rung:
    """One pass of a ladder: a domain, and how much work it does for one tensor."""

    domain: Domain
    most_work: int | None = None


@dataclass(frozen=True, eq=False)
class Decision:
    """Which clauses are refuted, and on which sets rounding alone stands against it."""

    refuted: Bool[Tensor, "sets clauses"]
    doubtful: Bool[Tensor, "sets"]
    backward: Bool[Tensor, "sets clauses"]
    """Which of the refuted clauses are so only because a domain goes backward."""


def refute(
    graph: Graph,
    ladder: Sequence[Rung],
    specification: Specification,
    execution: Execution,
    monitor: Monitor,
    *,
    prove: bool,
) -> Decision:
    """Propagate through the graph, some sets at a time; say which clauses are refuted.

    The ladder's first pass bounds all sets, each further one those that are open then. Plain
    bounds come first. Where they refute something, bounds are proved, in spite of rounding and in
    the semantics of `execution.rounding`; a clause counts as refuted only if these refute one of
    its constraints. Without `prove`, what rounding may take is an estimate: enough where a checker
    has the last word.
    """
    size = chunk_size(graph, execution.memory_bytes, specification.rows.dtype)
    refuted = specification.clause < 0
    doubtful, backward = torch.zeros_like(refuted[:, 0]), torch.zeros_like(refuted)
    for rung in ladder:
        left = (~refuted).any(dim=1).nonzero().flatten()
        done = specification.sets - len(left)
        for index in torch.split(left, size) if len(left) else ():
            monitor.progress(done, specification.sets)
            part = specification.select(index)
            plain, proved = _bounded(graph, rung, part, execution, prove=prove)
            sure = part.refuted(proved)
            refuted[index] |= sure
            if rung.domain.backward:
                found = _backward(graph, rung, part, execution, ~refuted[index], prove=prove)
                backward[index], refuted[index] = found, refuted[index] | found
            doubtful[index] = (part.refuted(plain.rows) & ~refuted[index]).any(dim=1)
            allowance = (plain.rows - proved).clamp(min=0).nan_to_num(nan=0.0)
            monitor.tally.add_margins(part, plain.rows, allowance, sure)
            # Layers are counted once for each set, as the last pass saw them.
            closed = refuted[index].all(dim=1) | (rung is ladder[-1])
            if bool(closed.any()):
                monitor.tally.add_layers(graph, plain.of(closed.nonzero().flatten()))
            done += part.sets
    return Decision(refuted, doubtful, backward)


def _bounded(
    graph: Graph, rung: Rung, part: Specification, execution: Execution, *, prove: bool
) -> tuple[Propagation, Float[Tensor, "sets rows"]]:
    """Return one pass over some sets, and its bounds less what rounding may have taken."""
    cut = not prove and isinstance(part.region, Polytope)
    found = propagate(
        *(graph, rung.domain, as_checked(part.region) if cut else part.region, part.rows),
        memory_bytes=execution.memory_bytes,
        most_work=rung.most_work,
        forms=cut,
    )
    if isinstance(part.region, Polytope) and found.forms is not None:
        # Half-spaces bound the outputs alone here: so much one pass of a checker can follow.
        multiples = over_polytope(found.forms, part.region)
        found = replace(found, rows=torch.fmax(found.rows, multiples.rows))
    safe = found.rows.clone()
    refuted = part.refuted(found.rows)
    if not prove:
        safe -= rounding_allowance(graph, part.region, found.hidden, part.rows)
        if safe.dtype != torch.float64:
            return found, safe
        # Where the estimate takes the whole margin, bounds that are proved may not.
        refuted &= ~part.refuted(safe)
    index = refuted.any(dim=1).nonzero().squeeze(1)
    if len(index):
        some = part.select(index)
        proved = propagate(
            *(graph, rung.domain, some.region, some.rows),
            memory_bytes=execution.memory_bytes,
            rounding=execution.rounding,
            most_work=rung.most_work,
        ).rows
        safe[index] = proved if prove else torch.fmax(safe[index], proved)
    return found, safe


def _backward(
    graph: Graph,
    rung: Rung,
    part: Specification,
    execution: Execution,
    open_: Bool[Tensor, "sets clauses"],
    *,
    prove: bool,
) -> Bool[Tensor, "sets clauses"]:
    """Say which open clauses are refuted by what they say of the outputs."""
    return refuted_backward(
        *(graph, rung.domain, part, open_),
        memory_bytes=execution.memory_bytes,
        rounding=execution.rounding if prove else None,
    )


def certainly_meets(
    graph: Graph, domain: Domain, specification: Specification, point: Region
) -> bool:
    """Say whether bounds show that every input of a small region meets a clause's outputs.

    The specification is that of this one clause.

    Guarantee: True only if every constraint's largest value over the region is at most its bound,
    by more than rounding may have taken.
    """
    rows, bounds = specification.rows, specification.bound
    found = propagate(graph, domain, point, -rows, rounding=Rounding())
    return bool((-found.rows < bounds).all())


def bound_outputs(
    graph: Graph,
    domain: Domain,
    region: Region,
    execution: Execution,
    monitor: Monitor,
) -> tuple[Float[Tensor, "outputs"], Float[Tensor, "outputs"]]:
    """Bound every flat output over a region of one set, as (lower, upper)."""
    box, _ = region.bounding_box()
    count = graph.output.size
    lower, upper = box.new_empty(count), box.new_empty(count)
    given: Given | None = None
    # Rows and their negations, so many at a time that they fit into memory.
    size = max(1, execution.memory_bytes // (8 * COPIES * count * box.element_size()))
    for part in torch.split(torch.arange(count, device=box.device), size):
        monitor.progress(int(part[0]), count)
        rows = box.new_zeros(1, 2 * len(part), count)
        place = torch.arange(len(part), device=box.device)
        rows[0, place, part] = 1
        rows[0, len(part) + place, part] = -1
        memory_bytes, rounding = execution.memory_bytes, execution.rounding
        found = propagate(
            *(graph, domain, region, rows),
            memory_bytes=memory_bytes,
            given=given,
            rounding=rounding,
        )
        minimum = found.rows[0]
        lower[part], upper[part] = minimum[: len(part)], -minimum[len(part) :]
        if given is None:
            monitor.tally.add_layers(graph, found)
        given = Given(found.hidden)
    return lower, upper


def chunk_size(graph: Graph, memory_bytes: int, dtype: torch.dtype) -> int:
    """Return how many sets to propagate at a time."""
    floats = graph.size
    bytes_each = COPIES * floats * torch.finfo(dtype).bits // 8
    return max(1, min(BOXES_AT_ONCE, memory_bytes // max(bytes_each, 1)))
