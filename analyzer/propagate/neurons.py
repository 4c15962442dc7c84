"""The carrier `over neurons`: lines between neurons, substituted back to the input."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Input, Node, Nonlinear
from absolver.analyzer.graph.linear.convolution import Convolution
from absolver.analyzer.graph.linear.gradients import is_trained
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.graph.linear.movement import Reshape
from absolver.analyzer.graph.linear.scaling import Identity
from absolver.analyzer.propagate.batches import batches
from absolver.analyzer.propagate.lines import Lines, lines_around
from absolver.analyzer.propagate.propagator import (
    Forms,
    Multiple,
    Propagator,
    lower_without_nan,
    without_nan,
)
from absolver.analyzer.propagate.rows import (
    Reduced,
    Rows,
    add,
    channels_last,
    coefficients_held,
    contract,
    through_linear,
    through_lines,
    written_out,
)
from absolver.analyzer.propagate.structure import leading_moves
from absolver.analyzer.propagate.values import affine_range
from absolver.analyzer.propagate.windows import Windows, one_cell_windows
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval

# Coefficient tensors of a few megabytes stay in a CPU's cache; a GPU wants them large.
_CPU_CHUNK_BYTES = 4 << 20
# For fewer rows it does not pay to ask which neurons are switched off.
_MANY_ROWS = 64
# Columns are left out where at least a tenth of them is switched off.
_WORTHWHILE_SHARE = 0.9


@dataclass(frozen=True)
class Start:
    """Coefficient rows to be substituted back, for a run of consecutive batch elements."""

    elements: slice
    coefficients: dict[str, Rows]
    """By name of the node whose neurons they multiply."""
    constant: Float[Tensor, "group rows"]
    """The value of the rows on the reference trace, less what rounding has cost so far."""
    exact: str | None = None
    """The node whose first step back is exact, as each row has one coefficient there."""


class NeuronsPropagator(Propagator):
    """Back-substitution (CROWN, Zhang et al. 2018, theorem 3.2; DeepPoly, Singh et al. 2019).

    Every row is a lower bound; an upper bound is the lower bound of the negated row. Rows are
    substituted in chunks that fit the memory budget.
    """

    def __init__(self, graph: Graph, domain: Domain, region: Region, memory_bytes: int) -> None:
        """Prepare for a walk through the graph."""
        self._graph = graph
        self._domain = domain
        self._region = region
        self._trace: dict[str, Tensor] = {}
        self._lines: dict[str, Lines] = {}
        self._position = {node.name: i for i, node in enumerate(graph.nodes)}
        self._widest = max(node.size for node in graph.nodes)
        # Coefficients that a row from a node has where it has the most, once that is known.
        self._row_sizes: dict[str, int] = {}
        self._chunk_bytes = memory_bytes // 8
        self._live_neurons: dict[tuple[str, int, int], Tensor | None] = {}
        # Bounds that were computed for some neurons of a node, and for which.
        self._found: dict[str, tuple[Tensor, Interval]] = {}
        # Over boxes, rows end at the last node that is still a box of independent neurons.
        moves = leading_moves(graph) if isinstance(region, Box) else ()
        self._end = moves[-1].name if moves else graph.input.name
        self._moves = {node.name for node in moves}
        self._radius: dict[str, Tensor] = {}
        self._dtype = region.dtype

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        """Extend the reference trace, and relax the node if it is non-linear."""
        match node:
            case Input():
                lower, upper = self._region.bounding_box()
                center = (lower + upper) / 2
                self._trace[node.name] = center
                self._radius[node.name] = torch.maximum(upper - center, center - lower)
            case Affine():
                self._trace[node.name] = self._stepped_trace(node)
                if node.name in self._moves:
                    radius = self._radius[node.inputs[0]]
                    self._radius[node.name] = node.maps[0].apply_abs(radius)
            case Nonlinear():
                trace = [self._trace[i] for i in node.inputs]
                lines, reference = lines_around(self._domain, node.operator, box, trace)
                self._lines[node.name] = lines
                self._trace[node.name] = reference

    def _stepped_trace(self, node: Affine) -> Tensor:
        """Evaluate an affine node on the reference trace."""
        values = [m.apply(self._trace[i]) for m, i in zip(node.maps, node.inputs, strict=True)]
        total = sum(values[1:], start=values[0])
        return total if node.bias is None else total + node.bias

    def bounds(self, node: Node, wanted: Bool[Tensor, "batch *shape"] | None) -> Interval:
        """Substitute one row and its negation back for every wanted neuron."""
        trace = self._trace[node.name]
        if wanted is None:
            wanted = torch.ones_like(trace, dtype=torch.bool)
        if isinstance(node, Affine) and len(node.maps) == 1 and node.maps[0].copies:
            return self._bounds_of_copy(node, node.maps[0], wanted)
        missing = wanted
        if (found := self._found.get(node.name)) is not None:
            missing = wanted & ~found[0]
            wanted = wanted | found[0]
        bounds = self._bounds_of(node, missing)
        if found is not None:
            bounds = Interval(
                torch.where(found[0], found[1].lower, bounds.lower),
                torch.where(found[0], found[1].upper, bounds.upper),
            )
        self._found[node.name] = (wanted, bounds)
        return bounds

    def _bounds_of_copy(
        self, node: Affine, linear: LinearMap, wanted: Bool[Tensor, "batch *shape"]
    ) -> Interval:
        """Bound a node that only copies neurons of another: each of those once."""
        source = self._graph.by_name[node.inputs[0]]
        used = linear.adjoint(wanted.to(self._dtype)) != 0
        operand = self.bounds(source, used)
        if not is_trained(*linear.coefficients()):
            return self._stepped(node, operand)
        # The gradient of a factor is a sum over all neurons: infinity times 0 has no place in it.
        operand = Interval(*(torch.where(used, side, 0) for side in operand))
        lower, upper = self._stepped(node, operand)
        return Interval(
            torch.where(wanted, lower, -torch.inf), torch.where(wanted, upper, torch.inf)
        )

    def _stepped(self, node: Affine, operand: Interval) -> Interval:
        """Take an interval step through a node."""
        return without_nan(affine_range(node, [operand]))

    def _bounds_of(self, node: Node, wanted: Bool[Tensor, "batch *shape"]) -> Interval:
        trace = self._trace[node.name]
        lower = torch.full_like(trace, -torch.inf, dtype=self._dtype).flatten(1)
        upper = torch.full_like(trace, torch.inf, dtype=self._dtype).flatten(1)
        # Each neuron has a row and its negation.
        chunk = self._chunk_bytes_on(wanted.device) // (2 * self._dtype.itemsize)
        few = int(wanted.sum()) * self._widest <= chunk
        size = self._widest if few else self._row_size(node, wanted.flatten(1))
        budget = max(1, chunk // size)
        for elements, neurons, real in batches(wanted.flatten(1), budget):
            rows = self._rows_of_neurons(node, elements, neurons)
            minimum = self._substitute(rows)
            low, up = minimum.chunk(2, dim=1)
            group, _ = torch.nonzero(real, as_tuple=True)
            group = group + elements.start
            lower[group, neurons[real]] = low[real]
            upper[group, neurons[real]] = -up[real]
        return Interval(lower.view_as(trace), upper.view_as(trace))

    def minimum(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Float[Tensor, "batch rows"]:
        """Substitute the rows back from the output, with multiples of inequalities added."""
        return torch.cat([self._substitute(start) for start in self._starts(rows, multiples)])

    def forms(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Forms:
        """Bound the rows by linear forms of the input, and those over the region."""
        parts = [self._form(start) for start in self._starts(rows, multiples)]
        return Forms(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _form(self, start: Start) -> tuple[Tensor, Tensor, Tensor]:
        """Return coefficients over the input, values at the centre, and minima of some rows."""
        bound, at_end, end, _ = self._reduced(start)
        if at_end is None:
            at_end = bound.new_zeros(*bound.shape, *self._graph.input.shape)
            return at_end, bound, lower_without_nan(bound)
        minimum = lower_without_nan(bound + self._concretised(start.elements, at_end, end))
        while end != self._graph.input.name:
            node = self._graph.by_name[end]
            assert isinstance(node, Affine), "what only normalises the input is affine"
            at_end = through_linear(node.maps[0], at_end, None)
            end = node.inputs[0]
        return written_out(at_end), bound, minimum

    def _starts(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple]
    ) -> Iterator[Start]:
        """Start at the output, as many batch elements at a time as fit a chunk."""
        output = self._graph.output
        trace = self._trace[output.name]
        own = rows.expand(len(trace), -1, -1)
        flat = own.reshape(*own.shape[:2], *output.shape)
        terms = [Multiple(output.name, flat, own.new_zeros(own.shape[:2]))]
        terms += multiples
        row_bytes = self._widest * self._dtype.itemsize
        group = max(1, self._chunk_bytes_on(trace.device) // max(1, row_bytes * rows.shape[1]))
        for start in range(0, len(trace), group):
            yield self._start_with(terms, slice(start, min(start + group, len(trace))))

    def _start_with(self, terms: Sequence[Multiple], elements: slice) -> Start:
        """Gather the coefficients of rows that multiply several nodes at once."""
        coefficients: dict[str, Rows] = {}
        constant: Tensor | None = None
        for term in terms:
            a = term.coefficients[elements]
            cost = self._put(coefficients, term.node, a, elements)
            value = self._value_on_trace(a, term.node, elements)
            value = self._sum(value, term.constant[elements])
            constant = value if constant is None else self._sum(constant, value)
            constant = self._sum(constant, cost)
        assert constant is not None, "there is at least the output's term"
        return Start(elements, coefficients, constant)

    def _value_on_trace(
        self, a: Float[Tensor, "group rows *shape"], name: str, elements: slice
    ) -> Float[Tensor, "group rows"]:
        """Evaluate rows on the reference trace."""
        return contract(a, self._trace[name][elements])

    def _sum(self, first: Tensor, second: Tensor | None) -> Tensor:
        """Add two parts of a bound; None adds nothing."""
        return first if second is None else first + second

    def _put(
        self, pending: dict[str, Rows], name: str, rows: Rows, elements: slice
    ) -> Float[Tensor, "#group #rows"] | None:
        """Add rows to those that wait for a node; returns what the bound gains by that."""
        del elements
        add(pending, name, rows)
        return None

    def _gain_at(self, name: str, rows: Rows, start: Start) -> Float[Tensor, "group rows"] | None:
        """Return what the bound gains by going on from a node."""
        del name, rows, start
        return None

    def _chunk_bytes_on(self, device: torch.device) -> int:
        return (
            self._chunk_bytes if device.type == "cuda" else min(self._chunk_bytes, _CPU_CHUNK_BYTES)
        )

    def affordable(
        self, node: Node, wanted: Bool[Tensor, "batch *shape"], most_work: int
    ) -> Bool[Tensor, "batch *shape"]:
        """Leave out the elements whose rows would hold more coefficients, all together."""
        count = wanted.flatten(1).sum(1)
        if 2 * int(count.amax()) * self._widest <= most_work:
            return wanted
        kept = 2 * count * self._row_size(node, wanted.flatten(1)) <= most_work
        return wanted & kept.view(-1, *(1,) * (wanted.dim() - 1))

    def _row_size(self, node: Node, wanted: Bool[Tensor, "batch n"]) -> int:
        """Say how many coefficients a row from the node has at most.

        Windows of an image are much smaller than the image: one neuron shows how small.
        """
        if not self._starts_as_image(node):
            return self._widest
        if node.name not in self._row_sizes:
            element, neuron = torch.nonzero(wanted)[0].tolist()
            index = torch.full((1, 1), neuron, device=wanted.device)
            start = self._rows_of_neurons(node, slice(element, element + 1), index)
            self._row_sizes[node.name] = self._reduced(start).most
        return self._row_sizes[node.name]

    def _rows_of_neurons(
        self, node: Node, elements: slice, neurons: Int[Tensor, "group rows"]
    ) -> Start:
        """Start with one row and its negation for each neuron, one step back where it is affine."""
        constant = self._trace[node.name][elements].flatten(1).gather(1, neurons)
        coefficients: dict[str, Rows] = {}
        both = torch.cat([constant, -constant], dim=1)
        like = constant.to(self._dtype)
        if self._starts_as_image(node):
            windows = one_cell_windows(node.shape, neurons, like)
            coefficients[node.name] = windows.with_negations()
            return Start(elements, coefficients, both, exact=node.name)
        if isinstance(node, Affine):
            both = self._sum(both, self._gain_of_start(node, elements, neurons))
            for linear, name in zip(node.maps, node.inputs, strict=True):
                # A map without coefficients knows neither device nor dtype.
                rows = linear.rows(neurons.flatten()).to(like)
                rows = torch.unflatten(rows, 0, neurons.shape)
                rows = torch.cat([rows, -rows], dim=1)
                both = self._sum(both, self._put(coefficients, name, rows, elements))
        else:
            rows = like.new_zeros(*neurons.shape, node.size)
            rows.scatter_(2, neurons.unsqueeze(2), 1)
            rows = torch.cat([rows, -rows], dim=1)
            coefficients[node.name] = torch.unflatten(rows, 2, node.shape)
        return Start(elements, coefficients, both)

    def _gain_of_start(
        self, node: Affine, elements: slice, neurons: Int[Tensor, "group rows"]
    ) -> Float[Tensor, "group both"] | None:
        """Return what rows and their negations gain that start behind a node, not at it."""
        del node, elements, neurons
        return None

    def _starts_as_image(self, node: Node) -> bool:
        """Whether some way back from the node begins with a convolution."""
        if not isinstance(node, Affine) or len(node.shape) != 4 or node.shape[0] != 1:
            return False
        return any(
            isinstance(m, Convolution)
            or (isinstance(m, Identity) and self._starts_as_image(self._graph.by_name[name]))
            for m, name in zip(node.maps, node.inputs, strict=True)
        )

    def _substitute(self, start: Start) -> Float[Tensor, "group rows"]:
        """Substitute rows back to the input and concretise them there."""
        bound, at_end, end, _ = self._reduced(start)
        if at_end is not None:
            bound = self._sum(bound, self._concretised(start.elements, at_end, end))
        return lower_without_nan(bound)

    def _reduced(self, start: Start) -> Reduced:
        """Substitute rows back to where they end."""
        pending = dict(start.coefficients)
        bound = start.constant
        last = max((self._position[name] for name in pending), default=0)
        many = bound.numel() >= _MANY_ROWS
        # Given multiples may lie on the way from the input to where rows usually end.
        end = self._graph.input.name if pending.keys() & self._moves - {self._end} else self._end
        most = 1
        for node in reversed(self._graph.nodes[1 : last + 1]):
            if node.name not in pending or node.name == end:
                continue
            a = pending.pop(node.name)
            most = max(most, coefficients_held(a) // bound.numel())
            bound = self._sum(bound, self._gain_at(node.name, a, start))
            match node:
                case Affine():
                    for linear, name in zip(node.maps, node.inputs, strict=True):
                        live = self._live(name, start.elements) if many else None
                        result = through_linear(linear, a, live)
                        bound = self._sum(bound, self._put(pending, name, result, start.elements))
                case Nonlinear():
                    gain, results = through_lines(self._lines[node.name], start.elements, a)
                    bound = self._sum(bound, gain)
                    for name, result in zip(node.inputs, results, strict=True):
                        bound = self._sum(bound, self._put(pending, name, result, start.elements))
        return Reduced(bound, pending.get(end), end, most)

    def _live(self, name: str, elements: slice) -> Int[Tensor, " neurons"] | None:
        """Find the neurons of a node that its operator does not switch off for these elements.

        None where that is most of them, and on a GPU, where to ask costs more than it saves.
        """
        key = (name, elements.start, elements.stop)
        if key not in self._live_neurons:
            node = self._graph.by_name[name]
            while isinstance(node, Affine) and isinstance(node.maps[0], Reshape):
                node = self._graph.by_name[node.inputs[0]]
            lines = self._lines.get(node.name)
            found = None
            if lines is not None and lines.gap.device.type == "cpu":
                mask = lines.live[elements].flatten(1).any(0)
                if int(mask.sum()) < _WORTHWHILE_SHARE * mask.numel():
                    found = torch.nonzero(mask).squeeze(1)
            self._live_neurons[key] = found
        return self._live_neurons[key]

    def _concretised(self, elements: slice, a: Rows, end: str) -> Float[Tensor, "group rows"]:
        """Bound rows over the box where they end, or the region, relative to the trace."""
        if not isinstance(self._region, Box):
            center = self._trace[end][elements]
            index = torch.arange(elements.start, elements.stop, device=center.device)
            return self._region.select(index).minimum_around(written_out(a), center)
        radius = self._radius[end][elements]
        if isinstance(a, Windows):
            weights = a.at_windows(radius.flatten(1, 2))
            return -(a.by_side().abs() * weights).flatten(3).sum(3).flatten(1)
        rows = written_out(a)
        if channels_last(rows):
            rows, radius = rows.movedim(3, -1), radius.movedim(2, -1)
        return -contract(rows.abs(), radius)
