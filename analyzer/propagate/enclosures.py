"""The carrier `over values` with every rounding error paid: boxes that are right as numbers."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Input, Node, Nonlinear
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.propagate.floats import (
    DOUBLE,
    above,
    add_below,
    add_up,
    below,
    distance,
    evaluation_error,
    gamma,
    magnitude,
    summed_up,
)
from absolver.analyzer.propagate.propagator import (
    Multiple,
    Propagator,
    lower_without_nan,
    without_nan,
)
from absolver.analyzer.propagate.structure import trailing_maps
from absolver.analyzer.propagate.terms import backward_terms, forward_terms, moves, roundings
from absolver.analyzer.propagate.values import affine_range, map_range, row_parts
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import round_down, round_up
from absolver.dsl.operators.record import Interval


class EnclosuresPropagator(Propagator):
    """Boxes of every node in float64, kept for the other carriers, and what executions add.

    Guarantee: over the reals, or in every execution, a node's values lie in its box.
    """

    def __init__(self, graph: Graph, region: Region, rounding: Rounding) -> None:
        """Prepare for a walk through the graph."""
        self._doubled = graph.doubled.by_name
        self._output = graph.output.name
        self._tail = trailing_maps(graph)
        self._region = region
        self._rounding = rounding
        self._boxes: dict[str, Interval] = {}
        self._enclosed: dict[str, AffineEnclosure] = {}
        self._noise: dict[str, Tensor] = {}
        # Elements of which some execution may overflow: no bound of a later node holds there.
        self.overflows = torch.zeros(region.batch, dtype=torch.bool, device=region.device)

    def doubled(self, node: Affine) -> Affine:
        """Return a node of the graph with its coefficients in float64."""
        found = self._doubled[node.name]
        assert isinstance(found, Affine), "a node keeps its kind"
        return found

    def box(self, name: str) -> Interval:
        """Return the box of a node that was visited, in float64."""
        return self._boxes[name]

    def size(self, name: str) -> Float[Tensor, "batch *shape"]:
        """Bound the sum of the sizes of all terms of an affine node."""
        return self._enclosed[name].size

    def noise(self, name: str) -> Float[Tensor, "batch *shape"] | None:
        """Bound how far a node's executions are from its exact function of their operands.

        None where nothing is rounded.
        """
        return self._noise.get(name)

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        """Compute the node's box from those of its operands."""
        match node:
            case Input():
                lower, upper = self._region.bounding_box()
                bounds = Interval(lower.double(), upper.double())
            case Affine():
                bounds = self._affine(node)
            case Nonlinear():
                bounds = self._operator(node, box)
            case _:
                raise AssertionError(f"unknown kind of node: {node}")
        self._boxes[node.name] = self.unless_overflown(bounds)

    def bounds(self, node: Node, wanted: Bool[Tensor, "batch *shape"] | None = None) -> Interval:
        """Return the node's box, rounded outward to the region's dtype."""
        del wanted
        return self._outward(self._boxes[node.name])

    def learn(self, node: Node, facts: Interval) -> None:
        """Continue from what is the tighter box, neuron by neuron."""
        lower, upper = self._boxes[node.name]
        lower = torch.maximum(lower, facts.lower.double())
        upper = torch.minimum(upper, facts.upper.double())
        # They cross only where there is nothing; then any box is right.
        bounds = Interval(torch.minimum(lower, upper), torch.maximum(lower, upper))
        self._boxes[node.name] = self.unless_overflown(bounds)

    def minimum(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Float[Tensor, "batch rows"]:
        """Bound each row by the corner that minimises it of the box before the last layers."""
        del multiples
        rows = rows.double()
        bound = _corner(rows, self._boxes[self._output])
        if self._tail:
            merged = [self._merged(part) for part in row_parts(rows, self._tail)]
            bound = torch.maximum(bound, torch.cat(merged, dim=1))
        return round_down(bound, self._region.dtype)

    def enclose(self, node: Affine, boxes: Sequence[Interval]) -> Interval:
        """Bound an affine node over other boxes of its operands."""
        wide = [Interval(box.lower.double(), box.upper.double()) for box in boxes]
        found = enclose_affine(self.doubled(node), wide, self._rounding)
        return self._outward(self.unless_overflown(found.box))

    def unless_overflown(self, bounds: Interval) -> Interval:
        """Take back what is claimed of elements that may have overflown."""
        if not self._rounding.executes:
            return bounds
        lost = self.overflows.view(-1, *(1,) * (bounds.lower.dim() - 1))
        lower = torch.where(lost, -torch.inf, bounds.lower)
        return Interval(lower, torch.where(lost, torch.inf, bounds.upper))

    def _outward(self, bounds: Interval) -> Interval:
        dtype = self._region.dtype
        if dtype == bounds.lower.dtype:
            return bounds
        return Interval(round_down(bounds.lower, dtype), round_up(bounds.upper, dtype))

    def _affine(self, node: Affine) -> Interval:
        boxes = [self._boxes[i] for i in node.inputs]
        found = enclose_affine(self.doubled(node), boxes, self._rounding)
        self._enclosed[node.name] = found
        if found.noise is not None:
            self._learn_noise(node, found.noise)
        return found.box

    def _operator(self, node: Nonlinear, box: Sequence[Interval]) -> Interval:
        wide = [Interval(i.lower.double(), i.upper.double()) for i in box]
        reach = without_nan(node.operator.proved_range(wide))
        if not (self._rounding.executes and node.operator.rounds):
            return reach
        noise = self._rounding.operator_error(node, wide, reach)
        # A value that has no bound, and so may overflow, has one that is infinite.
        self._learn_noise(node, noise)
        low = below(reach.lower, noise, noise.dtype)
        # Without a bound stays without: the operator may not be defined there.
        least = node.operator.roundings.least
        low = torch.where(low.isfinite(), low.clamp(min=least), low)
        return without_nan(Interval(low, above(reach.upper, noise, noise.dtype)))

    def _merged(self, rows: Tensor) -> Tensor:
        """Bound rows over the box of the operand of the last layers.

        At each layer a row's computed coefficients stand for the exact ones; what that may be off
        by is at most its share of all terms' sizes, and executions add their noise.
        """
        given = torch.zeros_like(rows[..., 0])
        for node in self._tail:
            doubled = self.doubled(node)
            (linear,), count = doubled.maps, backward_terms(doubled.maps[0])
            size, far = self.size(node.name), magnitude(*self._boxes[node.inputs[0]])
            # Twice: the coefficients' own sums, and the sum over the layer's neurons.
            share = gamma(count, DOUBLE) + gamma(rows.shape[2] + 2, DOUBLE)
            cost = share * size.flatten(1)
            if (noise := self.noise(node.name)) is not None:
                cost = cost + noise.flatten(1)
            price = (rows.abs() @ cost.unsqueeze(2)).squeeze(2)
            tiny = torch.finfo(rows.dtype).tiny * (count + 2)
            price = price + tiny * (far.flatten(1).sum(1, keepdim=True) + 1)
            if doubled.bias is not None:
                bias = doubled.bias.expand(node.shape).flatten()
                given = add_below(given, rows @ bias)
            given = add_below(given, -summed_up(price, rows.shape[2] + 4))
            back = linear.adjoint(torch.unflatten(rows.flatten(0, 1), 1, linear.output_shape))
            rows = torch.unflatten(back.flatten(1), 0, rows.shape[:2])
        return lower_without_nan(add_below(_corner(rows, self._boxes[node.inputs[0]]), given))

    def _learn_noise(self, node: Node, noise: Tensor) -> None:
        self._noise[node.name] = noise
        self.overflows = self.overflows | ~noise.isfinite().flatten(1).all(1)


def _corner(rows: Tensor, box: Interval) -> Tensor:
    """Bound rows in float64 by the corner of a box that minimises them, rounding paid."""
    lower, upper = (side.flatten(1).unsqueeze(2) for side in box)
    value = (rows.clamp(min=0) @ lower + rows.clamp(max=0) @ upper).squeeze(2)
    size = (rows.abs() @ magnitude(lower, upper)).squeeze(2)
    terms = 2 * rows.shape[2] + 4
    error = evaluation_error(summed_up(size, terms), terms, size.dtype)
    return lower_without_nan(add_below(value, -error))


class AffineEnclosure(NamedTuple):
    """A box of an affine node, the sizes of its terms, and what its execution may be off by."""

    box: Interval
    size: Tensor
    noise: Tensor | None


def enclose_affine(
    node: Affine, boxes: Sequence[Interval], rounding: Rounding | None = None
) -> AffineEnclosure:
    """Bound an affine node over boxes of its operands in float64, rounding included.

    Without a `rounding` it is the exact function of the coefficients that is bounded.
    """
    far = [magnitude(*box) for box in boxes]
    terms = roundings(node)
    sides = [_pushed(m, b, x) for m, b, x in zip(node.maps, boxes, far, strict=True)]
    size = sides[0].size
    for side in sides[1:]:
        size = size + side.size
    if node.bias is not None:
        size = size + node.bias.abs()
    # A few float64 sums of sizes: one part in 2^40 is far above their rounding.
    size = size * (1 + 2.0**-40)
    if terms == 0:
        return AffineEnclosure(without_nan(affine_range(node, boxes)), size, None)
    low, high, _ = sides[0]
    for side in sides[1:]:
        low, high = add_below(low, side.lower), add_up(high, side.upper)
    if node.bias is not None:
        low, high = add_below(low, node.bias), add_up(high, node.bias)
    noise: Tensor | None = None
    if rounding is not None and rounding.executes:
        noise = rounding.affine_error(node, far, size)
    if noise is not None:
        low, high = add_below(low, -noise), add_up(high, noise)
    if node.bias is None and all(m.monotone for m in node.maps):
        # A sum of what is not negative is not negative, however it is rounded.
        least = torch.stack([(box.lower >= 0).flatten(1).all(1) for box in boxes]).all(0)
        least = least.view(-1, *(1,) * (low.dim() - 1))
        low = torch.where(least, low.clamp(min=0), low)
    return AffineEnclosure(without_nan(Interval(low, high)), size, noise)


class _Side(NamedTuple):
    """A map over a box: proved bounds, and the sum of the sizes of all terms."""

    lower: Tensor
    upper: Tensor
    size: Tensor


def _pushed(linear: LinearMap, box: Interval, far: Tensor) -> _Side:
    """Push a box through a map, and pay the rounding of that."""
    if moves(linear):
        return _Side(*map_range(linear, box), linear.apply_abs(far))
    terms = forward_terms(linear)
    if linear.monotone:
        # Each side by itself, so that an infinite one leaves the other finite.
        lower, upper = _lowest(linear, box.lower, terms), -_lowest(linear, -box.upper, terms)
        return _Side(lower, upper, summed_up(linear.apply_abs(far), terms))
    center = box.lower / 2 + box.upper / 2
    both = linear.apply_abs(torch.cat([far, distance(center, *box)]))
    size, radius = summed_up(both, terms).chunk(2)
    middle = linear.apply(center)
    # The centre is no larger than the operand's largest size.
    reach = add_up(radius, evaluation_error(size, terms, size.dtype))
    return _Side(add_below(middle, -reach), add_up(middle, reach), size)


def _lowest(linear: LinearMap, x: Tensor, terms: int) -> Tensor:
    """Bound a map at one point from below."""
    size = summed_up(linear.apply_abs(x.abs()), terms)
    return add_below(linear.apply(x), -evaluation_error(size, terms, x.dtype))
