"""What engines know of a task before they begin: sets, boxes of hidden neurons, open clauses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from absolver.analyzer.certify.regions import as_checked
from absolver.analyzer.certify.rehearsal import Rows, rehearse
from absolver.analyzer.decide import MODEST_WORK
from absolver.analyzer.engines.errors import UnsuitableSetError
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.minimax import least_maximum
from absolver.analyzer.problem import DEFAULT_DOMAIN, SEARCHED_DOMAIN
from absolver.analyzer.programs.duals import Forms, Ground
from absolver.analyzer.programs.encoding import Encoding, encode
from absolver.analyzer.programs.program import Array
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.region import Region
from absolver.analyzer.search.proof import Root
from absolver.analyzer.search.strategy import Task, over_neurons
from absolver.analyzer.search.tolerance import Tolerance
from absolver.domains import load
from absolver.dsl.domain import Carrier, Domain
from absolver.dsl.operators.record import Interval

DTYPE = torch.float64
PARALLEL_DOMAIN = "fast_lin"
"""The domain of one slope for both sides, as zonotopes have."""


@dataclass(frozen=True, eq=False)
class KnownSet:
    """One input set of a task, in float64 on the CPU: its region, and a root for certificates."""

    task: Task
    number: int
    graph: Graph
    """With biases joined."""
    specification: Specification
    """Of this set alone."""
    root: Root

    @property
    def region(self) -> Region:
        """The set over which the checker bounds rows."""
        return as_checked(self.specification.region)

    @property
    def boxes(self) -> Mapping[str, Interval]:
        """By name of an operator's operand, `[1, *shape]`."""
        return self.root.boxes

    @property
    def inputs(self) -> tuple[Array, Array]:
        """The box around the set, flat."""
        lower, upper = (side.flatten().numpy() for side in self.region.bounding_box())
        return lower, upper

    @cached_property
    def half_spaces(self) -> Forms | None:
        """What cuts the box of inputs, if the set is a polytope."""
        region = self.specification.region
        if not isinstance(region, Polytope):
            return None
        return Forms(region.matrix[0].flatten(1).numpy(), region.bound[0].numpy())

    @cached_property
    def inside(self) -> Array | None:
        """A point far from every half-space's boundary, towards which others may be moved.

        Vertices lie on boundaries: rounded to the network's input type they may miss the set.
        """
        forms = self.half_spaces
        if forms is None:
            return None
        size = np.abs(forms.coefficients).sum(1)
        scale = np.where(size > 0, size, 1.0)
        rows, constant = forms.coefficients / scale[:, None], -forms.bound / scale
        found = least_maximum(rows, constant, self.inputs)
        return None if found is None else found.x

    @cached_property
    def encoding(self) -> Encoding:
        """The network over the set."""
        return encode(self.graph, self.boxes, self.inputs, self.half_spaces)

    @cached_property
    def tolerance(self) -> Tolerance:
        """What rounding may take of margins."""
        task = self.task
        return Tolerance.of(self.graph, task.domain, self.specification, float32=task.float32)

    def with_root(self, root: Root) -> "KnownSet":
        """Return the same set with other bounds of hidden neurons."""
        return replace(self, root=root)

    def goals(self) -> Iterator["Goal"]:
        """Yield the clauses that are to be refuted."""
        for column, number in enumerate(self.specification.clause[0].tolist()):
            if number >= 0:
                yield Goal(self, column, number)


@dataclass(frozen=True, eq=False)
class Goal:
    """One clause of one set."""

    known: KnownSet
    column: int
    clause: int
    """Its number in the property."""

    @cached_property
    def forms(self) -> Forms:
        """The clause's constraints, as the specification scales them."""
        place = torch.tensor([0]), torch.tensor([self.column])
        rows, bound, used = (part[0] for part in self.known.specification.constraints_of(*place))
        return Forms(rows[used].numpy(), bound[used].numpy())

    @property
    def ground(self) -> Ground:
        """What multipliers speak about."""
        known = self.known
        about = (known.graph, known.region, known.boxes, self.forms)
        return Ground(*about, known.half_spaces, known.root.points)

    @property
    def needed(self) -> tuple[float, float]:
        """By how much a margin has to exceed 0: at all, and for executions in float32."""
        member = self.known.specification.member[0, self.column]
        tolerance = self.known.tolerance
        needed, wide = ((t[0] * member).amax() for t in (tolerance.needed, tolerance.float32))
        return float(needed), float(wide)

    @property
    def strict(self) -> bool:
        """Whether the clause is missed where its constraints are met with equality."""
        member = self.known.specification.member[0, self.column]
        return bool(member.any() and self.known.tolerance.strict[0][member].all())


def lines_domain(task: Task) -> Domain:
    """Return the domain whose lines bound hidden neurons: the task's, or the default's.

    Zonotopes of networks without residual sums are what their lines are, substituted back.
    """
    fallback = PARALLEL_DOMAIN if task.domain.carrier is Carrier.SYMBOLS else DEFAULT_DOMAIN
    domain = over_neurons(task.domain) or over_neurons(load(fallback))
    assert domain is not None, "the default domain has lines between neurons"
    return domain


def tangents_domain() -> Domain:
    """Return the domain that names slopes where an operator is not piecewise linear."""
    return load(SEARCHED_DOMAIN)


def known_sets(task: Task) -> Iterator[KnownSet]:
    """Yield a task's sets, hidden neurons bounded by one pass as a certificate can say it."""
    cpu = torch.device("cpu")
    graph = task.problem.graph(task.execution, DTYPE).to(cpu, DTYPE).joined
    whole = task.specification
    lines = lines_domain(task)
    for number in range(whole.sets):
        own = on_cpu(whole.select(torch.tensor([number], device=whole.rows.device)))
        found = rehearse(
            *(graph, lines, as_checked(own.region), own.rows),
            rows=Rows.ALL,
            memory_bytes=task.execution.memory_bytes,
            most_work=MODEST_WORK,
        )
        root = Root(lines, found.boxes, found.masks, found.rows)
        _check_bounded(graph, root, task.execution.engine)
        yield KnownSet(task, number, graph, own, root)


def _check_bounded(graph: Graph, root: Root, engine: str) -> None:
    """Raise where an operand has no bounds: programs cut boxes into pieces."""
    for name, box in root.boxes.items():
        if not bool((box.lower.isfinite() & box.upper.isfinite()).all()):
            where = graph.by_name[name].origin
            raise UnsuitableSetError(
                f"the engine {engine} needs bounds of every operand, and {where} ('{name}') has "
                "none on this input set; use --engine bab"
            )


def on_cpu(specification: Specification) -> Specification:
    """Return a specification in float64 on the CPU; what was rounded stays so."""
    cpu = torch.device("cpu")
    return replace(
        specification,
        region=specification.region.to(cpu, DTYPE),
        rows=specification.rows.to(cpu, DTYPE),
        bound=specification.bound.to(cpu, DTYPE),
        strict=specification.strict.to(cpu),
        member=specification.member.to(cpu),
        clause=specification.clause.to(cpu),
    )
