"""One pass of a domain through a graph: from a region to bounds of linear forms of the output."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict, Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Graph, Node, Nonlinear
from absolver.analyzer.graph.linear.gradients import is_trained
from absolver.analyzer.propagate.enclosures import EnclosuresPropagator
from absolver.analyzer.propagate.execution import Rounding, sums_of_products
from absolver.analyzer.propagate.inputs import InputsPropagator
from absolver.analyzer.propagate.neurons import NeuronsPropagator
from absolver.analyzer.propagate.norms import NormsPropagator
from absolver.analyzer.propagate.operands import Use, bounded_tensors, undecided
from absolver.analyzer.propagate.parts import split
from absolver.analyzer.propagate.precision import full_float32
from absolver.analyzer.propagate.propagator import Forms, Multiple, Propagator, meet
from absolver.analyzer.propagate.proved_neurons import ProvedNeuronsPropagator
from absolver.analyzer.propagate.structure import exact_on_boxes, operands_of_operators
from absolver.analyzer.propagate.symbols import SymbolsPropagator
from absolver.analyzer.propagate.trained_rows import TrainedRowsPropagator
from absolver.analyzer.propagate.values import ValuesPropagator
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.dsl.domain import Carrier, Domain
from absolver.dsl.operators.record import Interval
from absolver.dsl.operators.unary import Unary

DEFAULT_MEMORY_BYTES = 2 << 30


@dataclass(frozen=True)
class Given:
    """What the caller knows of a region, or assumes: both hold for every run that counts."""

    bounds: Mapping[str, Interval] = field(default_factory=dict)
    """Bounds of nodes, by name; each `[batch, *shape]`."""
    multiples: Sequence[Multiple] = ()

    def of(self, index: Int[Tensor, " elements"]) -> "Given":
        """What is given for some batch elements."""
        return Given(
            {n: Interval(b.lower[index], b.upper[index]) for n, b in self.bounds.items()},
            [Multiple(m.node, m.coefficients[index], m.constant[index]) for m in self.multiples],
        )


@dataclass(frozen=True)
class Propagation:
    """What one pass proved.

    Guarantee: for every element b of the batch and every x in its region, `rows[b, r]` is at most
    the r-th linear form of the network's output at x, and every node of `hidden` has its values
    at x inside its interval: over the reals, up to the rounding of this evaluation, or without
    exception in the semantics of a `Rounding`.
    """

    rows: Float[Tensor, "batch rows"]
    hidden: Mapping[str, Interval]
    """Bounds of the operands of non-linear nodes, and of the tensors behind them, by name."""
    notes: tuple[str, ...]
    """Where some row has no finite bound: the nodes whose bounds are infinite, for people."""
    forms: Forms | None = None
    """Forms of the input behind the rows, if they were asked for and a factor has them."""

    def of(self, index: Int[Tensor, " elements"]) -> "Propagation":
        """What was proved for some batch elements, without forms."""
        hidden = {n: Interval(b.lower[index], b.upper[index]) for n, b in self.hidden.items()}
        return Propagation(self.rows[index], hidden, self.notes)


class Options(TypedDict, total=False):
    """What a pass may be told beside its problem."""

    memory_bytes: int
    given: Given | None
    rounding: Rounding | None
    forms: bool
    most_work: int | None


def propagate(
    graph: Graph,
    domain: Domain,
    region: Region,
    rows: Float[Tensor, "#batch rows outputs"],
    **options: Unpack[Options],
) -> Propagation:
    """Run a domain, exactly as declared, through a graph.

    `rows` holds linear forms of the flat output, the same for all elements where its batch is 1.
    What is `given` holds for the region by the caller's word: bounds are met with what is found,
    multiples of inequalities are added to the rows. Nothing else is met in: the bounds are the
    domain's own, except that a cheap interval step decides which neurons are stable, and those
    keep the interval's bounds; so do neurons whose own bounds would carry an operator across a
    pole that the interval's avoid; and so does a tensor for which back-substitution would hold more
    than `most_work` coefficients.

    With a `rounding` every bound is proved in the semantics that it names, whatever the dtype and
    the device: the rounding of this evaluation is paid. What is `given` has to hold in that
    semantics then, and the graph's coefficients count as the exact ones: those of a float32
    network are, in float32 and in float64.
    """
    if domain.parts > 1:
        return _propagate_parts(graph, domain, region, rows, **options)
    rounding, given = options.get("rounding"), options.get("given") or Given()
    memory_bytes = options.get("memory_bytes", DEFAULT_MEMORY_BYTES)
    forms = options.get("forms", False) and rounding is None
    most_work = options.get("most_work")
    setting = _Setting(graph.joined, domain, memory_bytes, rounding, forms, most_work)
    if rounding is None:
        with full_float32():
            return _propagate_in_parts(setting, region, rows, given)
    rounding.check(graph)
    with sums_of_products(rows), torch.no_grad():
        return _propagate_in_parts(setting, region, rows, given)


def walked(graph: Graph, domain: Domain, region: Region, given: Given) -> "Walk":
    """Walk through a graph with a domain `over values` or `over neurons`, for rows to come."""
    setting = _Setting(graph.joined, domain, DEFAULT_MEMORY_BYTES, None, False, None)
    with full_float32():
        walk = Walk(setting, region, given)
        walk.walk()
    return walk


def _propagate_parts(
    graph: Graph, domain: Domain, region: Region, rows: Tensor, **options: Unpack[Options]
) -> Propagation:
    """Bound the parts of each set by what a powerset is made of, and join what was found."""
    parts = split(graph, region, rows, domain.parts)
    given = options.get("given") or Given()
    options["given"] = given.of(parts.index())
    options["forms"] = False
    own = rows if len(rows) == 1 else rows[parts.index()]
    found = propagate(graph, replace(domain, parts=1), parts.region, own, **options)
    return Propagation(parts.joined_rows(found.rows), parts.joined(found.hidden), found.notes)


@dataclass(frozen=True)
class _Setting:
    """What all parts of a batch share."""

    graph: Graph
    domain: Domain
    memory_bytes: int
    rounding: Rounding | None
    forms: bool
    most_work: int | None


def _propagate_in_parts(
    setting: _Setting, region: Region, rows: Tensor, given: Given
) -> Propagation:
    size = _elements_at_once(setting.graph, setting.domain, region, setting.memory_bytes)
    if size >= region.batch:
        return Walk(setting, region, given).run(rows)
    parts = []
    for index in torch.split(torch.arange(region.batch, device=rows.device), size):
        own = rows if len(rows) == 1 else rows[index]
        parts.append(Walk(setting, region.select(index), given.of(index)).run(own))
    return _stacked(parts)


def _elements_at_once(graph: Graph, domain: Domain, region: Region, memory_bytes: int) -> int:
    """How many batch elements a forward carrier can hold, so that none depends on its mates."""
    widest = max(node.size for node in graph.nodes)
    inputs = graph.input.size
    fresh = graph.neurons
    columns = 0
    for factor in domain.factors or (domain,):
        chain: Domain | None = factor
        while chain is not None:
            match chain.carrier:
                case Carrier.SYMBOLS:
                    columns = max(columns, inputs + (0 if chain.box else fresh))
                case Carrier.INPUTS:
                    columns = max(columns, inputs + 1)
                case _:
                    pass
            chain = chain.bounds_from
    # A quarter of the memory for the forms of one node, as the carriers themselves reckon.
    itemsize = torch.finfo(region.bounding_box()[0].dtype).bits // 8
    return max(1, memory_bytes // 4 // max(1, columns * widest * itemsize))


def _stacked(parts: Sequence[Propagation]) -> Propagation:
    """Join the results of consecutive parts of a batch."""
    hidden = {
        name: Interval(
            torch.cat([part.hidden[name].lower for part in parts]),
            torch.cat([part.hidden[name].upper for part in parts]),
        )
        for name in parts[0].hidden
    }
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    found = [part.forms for part in parts if part.forms is not None]
    forms = None
    if found:
        forms = Forms(
            torch.cat([form.coefficients for form in found]),
            torch.cat([form.at_center for form in found]),
            torch.cat([form.minimum for form in found]),
        )
    return Propagation(torch.cat([part.rows for part in parts]), hidden, tuple(notes), forms)


class Walk:
    """One pass: the factors of a reduced product side by side, and the facts.

    `propagate` is what to call. A training asks a walk for several groups of rows.
    """

    def __init__(self, setting: _Setting, region: Region, given: Given) -> None:
        """Prepare the walkers."""
        graph, domain = setting.graph, setting.domain
        self.domain = domain
        self._graph = graph
        self._region = region
        self._memory_bytes = setting.memory_bytes
        self._forms = setting.forms
        self._most_work = setting.most_work
        self._given = given
        self._facts: dict[str, Interval] = {}
        self._operands = operands_of_operators(graph)
        self._bounded = bounded_tensors(graph)
        self._exact = exact_on_boxes(graph) if isinstance(region, Box) else frozenset()
        finals = domain.factors or (domain,)
        # Forms belong to a reference trace, which rows that are trained go without.
        self._trained = is_trained(*graph.coefficients()) and not setting.forms
        self._enclosures: EnclosuresPropagator | None = None
        if setting.rounding is not None:
            self._enclosures = EnclosuresPropagator(graph, region, setting.rounding)
        self._cheap: Propagator = self._enclosures or ValuesPropagator(graph, region)
        self._finals = [self._propagator(d) for d in finals]
        # Where hidden bounds come from another domain, that one walks along and decides them.
        self._deciders: list[Propagator] = []
        for final_domain, final in zip(finals, self._finals, strict=True):
            chain = final_domain
            decider = final
            while chain.bounds_from is not None:
                chain = chain.bounds_from
                decider = self._propagator(chain)
            self._deciders.append(decider)
        # Back-substitution pays for each neuron: it comes last.
        self._deciders.sort(key=lambda decider: isinstance(decider, NeuronsPropagator))

    def _propagator(self, domain: Domain) -> Propagator:
        walk = self._graph, domain, self._region, self._memory_bytes
        match domain.carrier:
            case Carrier.VALUES:
                return self._cheap
            case Carrier.INPUTS:
                return InputsPropagator(*walk, self._enclosures)
            case Carrier.SYMBOLS:
                return SymbolsPropagator(*walk, self._enclosures)
            case Carrier.NORM:
                assert domain.norm is not None, "a domain in a norm has one"
                return NormsPropagator(self._graph, domain.norm, self._region, self._enclosures)
            case Carrier.NEURONS if self._enclosures is not None:
                return ProvedNeuronsPropagator(*walk, self._enclosures)
            case Carrier.NEURONS if domain.bounds_from is not None and self._trained:
                return TrainedRowsPropagator(self._graph, domain, self._region)
            case Carrier.NEURONS:
                return NeuronsPropagator(*walk)

    def walk(self) -> None:
        """Bound every node that an operator needs bounds of."""
        walkers = list(dict.fromkeys([self._cheap, *self._finals, *self._deciders]))
        for node in self._graph.nodes:
            box = [self._facts[name] for name in node.inputs] if isinstance(node, Nonlinear) else []
            for walker in walkers:
                walker.visit(node, box)
            if node.name in self._bounded or node.name in self._operands:
                facts = self._claimed(self._bound(node))
                self._facts[node.name] = facts
                for walker in walkers:
                    walker.learn(node, facts)

    @property
    def hidden(self) -> Mapping[str, Interval]:
        """What has been found of hidden nodes."""
        return self._facts

    @property
    def by_intervals(self) -> bool:
        """Whether intervals alone have decided all hidden bounds."""
        return all(decider is self._cheap for decider in self._deciders)

    def interval_minimum(self, rows: Tensor) -> Float[Tensor, "batch rows"]:
        """Bound rows by the interval that walks along: the domain `interval` if `by_intervals`."""
        return self._cheap.minimum(rows)

    def interval_outputs(self) -> Interval:
        """Return the box of the output of the interval that walks along."""
        return self._cheap.bounds(self._graph.output, None)

    def run(self, rows: Tensor) -> Propagation:
        """Walk, and bound rows."""
        self.walk()
        return self.bound(rows)

    def bound(self, rows: Tensor) -> Propagation:
        """Bound rows, once walked."""
        forms, minima = None, []
        for final in self._finals:
            own = final.forms(rows, self._given.multiples) if self._forms else None
            forms = forms or own
            minima.append(own.minimum if own else final.minimum(rows, self._given.multiples))
        best = torch.stack(minima).amax(0) if len(minima) > 1 else minima[0]
        if self._enclosures is not None:
            best = torch.where(self._enclosures.overflows.unsqueeze(1), -torch.inf, best)
        decided = bool(torch.isfinite(best).all())
        notes = () if decided else tuple(self._unbounded())
        return Propagation(best, self._facts, notes, forms)

    def _bound(self, node: Node) -> Interval:
        """Decide the bounds that operators use.

        What only moves data has those of the bounded tensor before it, moved by an interval step.
        """
        cheap = self._met_with_known(node, self._cheap.bounds(node, None))
        users = self._bounded.get(node.name)
        if users is None or node.name in self._exact:
            return cheap
        if all(d is self._cheap for d in self._deciders):
            return cheap
        wanted = undecided(users, cheap)
        if not bool(wanted.any()):
            return cheap
        facts: Interval | None = None
        for decider in self._deciders:
            # What those before have decided needs no more bounds.
            still = wanted if facts is None else wanted & undecided(users, facts)
            if self._most_work is not None and isinstance(decider, NeuronsPropagator):
                still = decider.affordable(node, still, self._most_work)
            if not bool(still.any()):
                continue
            own = decider.bounds(node, still)
            facts = own if facts is None else meet(facts, own)
        if facts is None:
            return cheap
        facts = Interval(
            torch.where(wanted, facts.lower, cheap.lower),
            torch.where(wanted, facts.upper, cheap.upper),
        )
        return self._met_with_known(node, _within_definition(facts, cheap, users))

    def _claimed(self, facts: Interval) -> Interval:
        """Claim nothing of elements of which an execution may have overflown."""
        return facts if self._enclosures is None else self._enclosures.unless_overflown(facts)

    def _met_with_known(self, node: Node, facts: Interval) -> Interval:
        known = self._given.bounds.get(node.name)
        return facts if known is None else meet(facts, known)

    def _unbounded(self) -> Iterator[str]:
        """Name the nodes whose bounds are infinite, for people."""
        for name in self._bounded:
            facts = self._facts[name]
            infinite = ~(torch.isfinite(facts.lower) & torch.isfinite(facts.upper))
            if bool(infinite.any()):
                count = int(infinite.flatten(1).any(0).sum())
                yield (
                    f"{self._graph.by_name[name].origin}: {count} of {infinite[0].numel()} neurons "
                    f"of {name} have no finite bound (an operator before it meets a pole or "
                    "overflows)"
                )


def _within_definition(facts: Interval, cheap: Interval, users: Sequence[Use]) -> Interval:
    """Use the cheap bounds where the domain's own would carry an operator across a pole.

    Back-substitution alone does not see that a sum of exponentials is positive.
    """
    for use in users:
        operator = use.operator.operator
        if isinstance(operator, Unary):
            defined = operator.defined_on(facts.lower, facts.upper)
            if defined is not None and not bool(defined.all()):
                met = meet(facts, cheap)
                facts = Interval(
                    torch.where(defined, facts.lower, met.lower),
                    torch.where(defined, facts.upper, met.upper),
                )
    return facts
