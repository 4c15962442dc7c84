"""Reducers: each adds sound facts to the store; in any order, any number of times."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.fixpoint.preimage import affine_inverse
from absolver.analyzer.fixpoint.store import Assumptions, FactStore, HalfSpaces, crossed
from absolver.analyzer.graph.graph import Affine, Graph, Input, Nonlinear
from absolver.analyzer.propagate.enclosures import EnclosuresPropagator
from absolver.analyzer.propagate.engine import DEFAULT_MEMORY_BYTES, Given, propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.propagate.propagator import meet, without_nan
from absolver.analyzer.propagate.values import affine_range
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.dsl.domain import Domain
from absolver.dsl.operators.max import Max
from absolver.dsl.operators.min import Min
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval, Operator

# What may underflow in a step backward.
_TINY = 2.0**-1000


@dataclass(frozen=True)
class Problem:
    """A batch of unsafe sets to be shown empty: x in the region, and `unsafe` holds at the output.

    An element is refuted when one of its rows is proved above its bound, or when what is assumed
    is shown to be empty.
    """

    graph: Graph
    region: Region
    unsafe: HalfSpaces
    assumptions: Assumptions
    """Must include `unsafe` among the assumed output half-spaces."""
    doubts: Mapping[str, Tensor] = field(default_factory=dict)
    """How far rounding may have moved a bound of a node, by name; not at all where none is given.

    What cancels inside a network leaves errors that its own bounds do not show.
    """

    @property
    def nowhere(self) -> Bool[Tensor, " batch"]:
        """No element: what a reducer says that finds no contradiction."""
        bound = self.unsafe.bound
        return torch.zeros(bound.shape[0], dtype=torch.bool, device=bound.device)

    def loosened(self, name: str, bounds: Interval) -> Interval:
        """Widen bounds of a node by what rounding may have moved them."""
        doubt = self.doubts.get(name)
        if doubt is None:
            return bounds
        return without_nan(Interval(bounds.lower - doubt, bounds.upper + doubt))

    def crossed(self, name: str, first: Interval, second: Interval) -> Bool[Tensor, " batch"]:
        """Say for which elements two bounds of a node exclude each other, rounding aside."""
        return crossed(first, second, self.doubts.get(name, 0.0))


@dataclass(frozen=True)
class Reduction:
    """What one reducer found beside the facts that it put into the store."""

    gain: float
    """The largest relative shrinking of an interval."""
    rows: Float[Tensor, "batch rows"] | None
    """Lower bounds of the rows of `unsafe`, where the reducer computes them."""
    empty: Bool[Tensor, " batch"]
    """Elements in which the assumptions contradict each other: nothing unsafe is there."""
    exhausted: bool = False
    """Whether the reducer would do nothing more, as long as no other fact changes."""


class Reducer(ABC):
    """A map from facts to facts that only ever shrinks intervals."""

    name = "reducer"
    """What tables call it."""

    @abstractmethod
    def reduce(self, problem: Problem, store: FactStore, seconds: float = inf) -> Reduction:
        """Derive facts from the problem and from what is known, and add them to the store.

        What is made of steps does as many of them as fit into the time.

        Guarantee: each fact added holds for every concrete run that the problem's assumptions
        allow, if the facts in the store do.
        """


@dataclass(frozen=True)
class DomainReducer(Reducer):
    """One pass of a declared domain, forward or backward as its carrier says.

    With a `rounding` its bounds are proved from what is known.
    """

    domain: Domain
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    rounding: Rounding | None = None

    def reduce(self, problem: Problem, store: FactStore, seconds: float = inf) -> Reduction:
        """Propagate from the region as far as it is known, with all known bounds met in."""
        known = store.known(problem.assumptions)
        region, empty = _restricted(problem.region, known.get(problem.graph.input.name))
        found = propagate(
            problem.graph,
            self.domain,
            region,
            problem.unsafe.rows,
            memory_bytes=self.memory_bytes,
            given=Given(known),
            rounding=self.rounding,
        )
        gain = 0.0
        for name, bounds in found.hidden.items():
            if name in known:
                empty = empty | problem.crossed(name, known[name], bounds)
            gain = max(gain, float(store.add(problem.assumptions, name, bounds)))
        return Reduction(gain, found.rows, empty)


@dataclass(frozen=True)
class InverseReducer(Reducer):
    """Backward through the operators' inverses, from the assumed output constraints to the inputs.

    An interval pass forward, then HC4 backward (the contraction that MILP presolve and Marabou's
    bound tightening do as well). Its steps are widened by margins that are some times their
    roundings (`doubts`, `affine_inverse`, `shave`): what it finds is no proof in floating point.
    Only a certificate proves it, or the same steps with a `rounding`: these begin from boxes that
    are proved, and go back through what rounds as the margins say, affine nodes and operators of
    pieces that are lines; results of all others tell nothing of their operands.
    """

    rounding: Rounding | None = None

    def reduce(self, problem: Problem, store: FactStore, seconds: float = inf) -> Reduction:
        """Tighten every node by what its users' results can still be."""
        known = store.known(problem.assumptions)
        if self.rounding is None:
            boxes, empty = _forward(problem, known)
        else:
            boxes, empty = _enclosed(problem, known, self.rounding)
        output = problem.graph.output
        inner, row_empty = _within(problem.unsafe, boxes[output.name])
        empty = empty | row_empty
        boxes[output.name] = inner
        for node in reversed(problem.graph.nodes):
            match node:
                case Affine():
                    tightened = affine_inverse(
                        node, boxes[node.name], [boxes[i] for i in node.inputs]
                    )
                case Nonlinear() if self.rounding is None or _goes_back(node.operator):
                    result = problem.loosened(node.name, boxes[node.name])
                    tightened = list(node.operator.inverse(result, [boxes[i] for i in node.inputs]))
                case _:
                    continue
            for name, bounds in zip(node.inputs, tightened, strict=True):
                bounds = without_nan(Interval(bounds.lower - _TINY, bounds.upper + _TINY))
                empty = empty | problem.crossed(name, boxes[name], bounds)
                boxes[name] = meet(boxes[name], bounds)
        gain = 0.0
        for name in {*known, problem.graph.input.name}:
            gain = max(gain, float(store.add(problem.assumptions, name, boxes[name])))
        return Reduction(gain, None, empty)


def _goes_back(operator: Operator) -> bool:
    """Say whether all that an inverse rounds is in its margins."""
    return isinstance(operator, PiecewiseLinear | Max | Min)


def _enclosed(
    problem: Problem, known: Mapping[str, Interval], rounding: Rounding
) -> tuple[dict[str, Interval], Tensor]:
    """Push boxes forward as `_forward` does, with every rounding paid, in float64."""
    enclosures = EnclosuresPropagator(problem.graph, problem.region, rounding)
    empty = problem.nowhere
    boxes: dict[str, Interval] = {}
    for node in problem.graph.nodes:
        operands = node.inputs if isinstance(node, Affine | Nonlinear) else ()
        enclosures.visit(node, [boxes[name] for name in operands])
        if (fact := known.get(node.name)) is not None:
            empty = empty | problem.crossed(node.name, fact, enclosures.box(node.name))
            enclosures.learn(node, fact)
        boxes[node.name] = without_nan(enclosures.box(node.name))
    return boxes, empty


def _forward(problem: Problem, known: dict[str, Interval]) -> tuple[dict[str, Interval], Tensor]:
    """Push boxes forward, met with what is known; the second result says which sets are empty."""
    boxes: dict[str, Interval] = {}
    empty = torch.zeros(problem.region.batch, dtype=torch.bool, device=problem.unsafe.bound.device)
    for node in problem.graph.nodes:
        match node:
            case Input():
                box = Interval(*problem.region.bounding_box())
            case Affine():
                box = without_nan(affine_range(node, [boxes[i] for i in node.inputs]))
            case Nonlinear():
                box = without_nan(node.operator.range([boxes[i] for i in node.inputs]))
            case _:
                raise AssertionError(f"unknown kind of node: {node}")
        if (fact := known.get(node.name)) is not None:
            empty = empty | problem.crossed(node.name, fact, box)
            box = meet(fact, box)
        boxes[node.name] = problem.loosened(node.name, box)
    return boxes, empty


def _within(unsafe: HalfSpaces, output: Interval) -> tuple[Interval, Tensor]:
    """Tighten the output's box by the assumed constraints, one row after the other."""
    shape = output.lower.shape
    low, up = output.lower.flatten(1), output.upper.flatten(1)
    empty = torch.zeros(low.shape[0], dtype=torch.bool, device=low.device)
    for r in range(unsafe.rows.shape[1]):
        row, bound = unsafe.rows[:, r], unsafe.bound[:, r : r + 1]
        term = torch.minimum(row * low, row * up)
        total = term.sum(1, keepdim=True)
        # row_j * y_j <= bound - (the least that all other terms can be)
        limit = (bound - (total - term)) / row
        size = (torch.maximum(low.abs(), up.abs()) * row.abs()).sum(1, keepdim=True)
        roundings = (64 + row.shape[1]) * torch.finfo(low.dtype).eps
        slack = roundings * (size + bound.abs()) / row.abs()
        usable = torch.isfinite(limit) & torch.isfinite(slack)
        new_up = torch.where(usable & (row > 0), limit + slack, torch.inf)
        new_low = torch.where(usable & (row < 0), limit - slack, -torch.inf)
        empty = empty | crossed(Interval(low, up), Interval(new_low, new_up))
        met = meet(Interval(low, up), Interval(new_low, new_up))
        low, up = met.lower, met.upper
    return Interval(low.view(shape), up.view(shape)), empty


def _restricted(region: Region, known: Interval | None) -> tuple[Region, Tensor]:
    """Cut a region of boxes down to what is known of the input; other regions stay as they are."""
    lower, upper = region.bounding_box()
    empty = torch.zeros(lower.shape[0], dtype=torch.bool, device=lower.device)
    if known is None or not isinstance(region, Box):
        return region, empty
    empty = crossed(Interval(lower, upper), known)
    inner = meet(Interval(lower, upper), known)
    return replace(region, lower=inner.lower, upper=inner.upper), empty
