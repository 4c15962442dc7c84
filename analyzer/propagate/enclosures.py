"""The carrier `over values` with every rounding error paid: boxes that are right as numbers."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Input, Node, Nonlinear
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.propagate.floats import (
    above,
    add_below,
    add_up,
    below,
    distance,
    evaluation_error,
    magnitude,
    summed_up,
)
from absolver.analyzer.propagate.propagator import Multiple, lower_without_nan, without_nan
from absolver.analyzer.propagate.terms import forward_terms, moves, roundings
from absolver.analyzer.propagate.values import ValuesPropagator, affine_range, map_range
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import round_down
from absolver.dsl.operators.record import Interval


class EnclosuresPropagator(ValuesPropagator):
    """Boxes of every node, kept for the other carriers, with what their executions add.

    Guarantee: over the reals, or in every execution, a node's values lie in its box.
    """

    def __init__(self, graph: Graph, region: Region, rounding: Rounding) -> None:
        """Start at the region's bounding box."""
        super().__init__(graph, region)
        self._rounding = rounding
        lower, _ = region.bounding_box()
        # Elements of which some execution may overflow: no bound of a later node holds there.
        self.overflows = torch.zeros(len(lower), dtype=torch.bool, device=lower.device)
        self._execution: dict[str, Tensor] = {}

    def box(self, name: str) -> Interval:
        """Return the box of a node that was visited."""
        return self._boxes[name]

    def execution(self, name: str) -> Tensor | None:
        """Bound, in float64, how far a node's executions are from its exact function of them.

        None where nothing is rounded.
        """
        return self._execution.get(name)

    def enclose(self, node: Affine, boxes: Sequence[Interval]) -> Interval:
        """Bound an affine node over other boxes of its operands."""
        return self.unless_overflown(enclose_affine(node, boxes, self._rounding).box)

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        """Compute the node's box from those of its operands."""
        match node:
            case Input():
                bounds = Interval(*self._region.bounding_box())
            case Affine():
                bounds = self._affine(node)
            case Nonlinear():
                bounds = self._operator(node, box)
            case _:
                raise AssertionError(f"unknown kind of node: {node}")
        self._boxes[node.name] = self.unless_overflown(bounds)

    def learn(self, node: Node, facts: Interval) -> None:
        """Continue from the tighter box."""
        self._boxes[node.name] = self.unless_overflown(facts)

    def minimum(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Float[Tensor, "batch rows"]:
        """Bound each row by the corner of the output's box that minimises it, in float64."""
        del multiples
        box = self._boxes[self._graph.output.name]
        lower = box.lower.double().flatten(1).unsqueeze(2)
        upper = box.upper.double().flatten(1).unsqueeze(2)
        rows = rows.double()
        value = (rows.clamp(min=0) @ lower + rows.clamp(max=0) @ upper).squeeze(2)
        size = (rows.abs() @ magnitude(lower, upper)).squeeze(2)
        terms = 2 * rows.shape[2] + 4
        error = evaluation_error(summed_up(size, terms), terms, size.dtype)
        return round_down(lower_without_nan(add_below(value, -error)), box.lower.dtype)

    def _affine(self, node: Affine) -> Interval:
        found = enclose_affine(node, [self._boxes[i] for i in node.inputs], self._rounding)
        if found.execution is not None:
            self._execution[node.name] = found.execution
            self.overflows = self.overflows | found.execution.isinf().flatten(1).any(1)
        return found.box

    def _operator(self, node: Nonlinear, box: Sequence[Interval]) -> Interval:
        dtype = box[0].lower.dtype
        operator = node.operator
        if not operator.rounds:
            # An operand, a constant or a whole number: exact in any dtype.
            return without_nan(operator.range(box))
        wide = [Interval(i.lower.double(), i.upper.double()) for i in box]
        low, high = without_nan(operator.proved_range(wide))
        nothing = torch.zeros_like(low)
        if not self._rounding.executes:
            return Interval(below(low, nothing, dtype), above(high, nothing, dtype))
        error = self._rounding.operator_error(node, wide, Interval(low, high))
        self._execution[node.name] = error
        # A value that has no bound at all may be anything, as over the reals.
        self.overflows = self.overflows | error.isinf().flatten(1).any(1)
        low, high = below(low, error, dtype), above(high, error, dtype)
        # Without a bound stays without: the operator may not be defined there.
        least = operator.roundings.least
        return Interval(torch.where(low.isfinite(), low.clamp(min=least), low), high)

    def unless_overflown(self, bounds: Interval) -> Interval:
        """Take back what is claimed of elements that may have overflown."""
        if not self._rounding.executes:
            return bounds
        lost = self.overflows.view(-1, *(1,) * (bounds.lower.dim() - 1))
        lower = torch.where(lost, -torch.inf, bounds.lower)
        return Interval(lower, torch.where(lost, torch.inf, bounds.upper))


class AffineEnclosure(NamedTuple):
    """A box of an affine node, and what its execution contributed to it."""

    box: Interval
    execution: Tensor | None


def enclose_affine(
    node: Affine, boxes: Sequence[Interval], rounding: Rounding | None = None
) -> AffineEnclosure:
    """Bound an affine node over boxes of its operands, rounding included.

    Without a `rounding` it is the exact function of the coefficients that is bounded.
    """
    operands = [magnitude(*box) for box in boxes]
    terms = roundings(node, operands)
    if terms == 0:
        return AffineEnclosure(without_nan(affine_range(node, boxes)), None)
    dtype = boxes[0].lower.dtype
    (low, high, size), *others = (
        _pushed(m, b, dtype) for m, b in zip(node.maps, boxes, strict=True)
    )
    for other in others:
        low, high = add_below(low, other.lower), -add_below(-high, -other.upper)
        size = size + other.size
    if node.bias is not None:
        bias = node.bias.double()
        low, high = add_below(low, bias), -add_below(-high, -bias)
        size = size + bias.abs()
    execution: Tensor | None = None
    if rounding is not None:
        largest = max((float(x.amax()) if x.numel() else 0.0) for x in operands)
        # A few float64 sums of sizes: one part in 2^40 is far above their rounding.
        execution = rounding.affine_error(node, terms, size * (1 + 2.0**-40), largest)
    error = torch.zeros_like(low) if execution is None else execution
    lower, upper = below(low, error, dtype), above(high, error, dtype)
    if node.bias is None and all(m.monotone for m in node.maps):
        # A sum of what is not negative is not negative, however it is rounded.
        least = torch.stack([(box.lower >= 0).flatten(1).all(1) for box in boxes]).all(0)
        least = least.view(-1, *(1,) * (lower.dim() - 1))
        lower = torch.where(least, lower.clamp(min=0), lower)
    return AffineEnclosure(without_nan(Interval(lower, upper)), execution)


class _Side(NamedTuple):
    """A map over a box in float64: proved bounds, and the sum of the sizes of all terms."""

    lower: Tensor
    upper: Tensor
    size: Tensor


def _pushed(linear: LinearMap, box: Interval, dtype: torch.dtype) -> _Side:
    """Push a box through a map in the dtype of the box, and pay the rounding of that."""
    far = magnitude(*box)
    if moves(linear):
        low, high = map_range(linear, box)
        return _Side(low.double(), high.double(), linear.apply_abs(far).double())
    terms = forward_terms(linear, far)
    size = summed_up(linear.apply_abs(far), terms)
    if linear.monotone:
        # Each side by itself, so that an infinite one leaves the other finite.
        return _Side(_lowest(linear, box.lower, terms), -_lowest(linear, -box.upper, terms), size)
    center = box.lower / 2 + box.upper / 2
    radius = summed_up(linear.apply_abs(distance(center, *box)), terms)
    middle = linear.apply(center).double()
    # The centre is no larger than the operand's largest size.
    reach = add_up(radius, evaluation_error(size, terms, dtype))
    return _Side(add_below(middle, -reach), -add_below(-middle, -reach), size)


def _lowest(linear: LinearMap, x: Tensor, terms: int) -> Tensor:
    """Bound a map at one point from below."""
    size = summed_up(linear.apply_abs(x.abs()), terms)
    return add_below(linear.apply(x).double(), -evaluation_error(size, terms, x.dtype))
