"""The carrier `over values`: a box for every node (interval bound propagation)."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from absolver.analyzer.graph.graph import Affine, Graph, Input, Node, Nonlinear, operands
from absolver.analyzer.graph.linear.gradients import is_trained
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.graph.linear.scaling import Negation
from absolver.analyzer.propagate.centered import center_and_width, ends
from absolver.analyzer.propagate.propagator import (
    Multiple,
    Propagator,
    lower_without_nan,
    without_nan,
)
from absolver.analyzer.propagate.structure import count_uses, trailing_maps
from absolver.analyzer.regions.region import Region
from absolver.dsl.operators.record import Interval

# Coefficients of rows on the operand of the last layers, at a time.
_MOST_COEFFICIENTS = 2**24


class ValuesPropagator(Propagator):
    """Boxes pushed forward; an operator's box is its range over the box of its operands.

    Affine steps use centre and radius (Gowal et al., "On the Effectiveness of Interval Bound
    Propagation", 2018, equation 6). Rows are merged with the last layers (there, section 3: the
    specification's matrix is one with them), whose own boxes would forget how outputs depend on
    each other.
    """

    def __init__(self, graph: Graph, region: Region) -> None:
        """Start at the region's bounding box."""
        self._graph = graph
        self._region = region
        self._boxes: dict[str, Interval] = {}
        self._uses = count_uses(graph)
        self._tail = trailing_maps(graph)
        if self._tail:
            self._uses[self._tail[-1].inputs[0]] += 1  # rows end there

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        """Compute the node's box from those of its operands."""
        match node:
            case Input():
                bounds = Interval(*self._region.bounding_box())
            case Affine():
                bounds = affine_range(node, [self._boxes[i] for i in node.inputs])
            case Nonlinear():
                bounds = without_nan(node.operator.range(box))
            case _:
                raise AssertionError(f"unknown kind of node: {node}")
        self._boxes[node.name] = bounds
        for name in operands(node):
            self._uses[name] -= 1
            if self._uses[name] == 0:
                del self._boxes[name]

    def bounds(self, node: Node, wanted: Bool[Tensor, "batch *shape"] | None = None) -> Interval:
        """Return the node's box.

        What overflowed is only put right here: no affine node makes a finite bound out of it.
        """
        del wanted
        self._boxes[node.name] = without_nan(self._boxes[node.name])
        return self._boxes[node.name]

    def learn(self, node: Node, facts: Interval) -> None:
        """Continue from the tighter box."""
        self._boxes[node.name] = facts

    def minimum(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Float[Tensor, "batch rows"]:
        """Bound each row by the corner that minimises it of the box before the last layers."""
        del multiples
        output = self._boxes[self._graph.output.name]
        if not self._tail:
            return _corner(rows, output)
        if is_trained(*output):
            return self._trained_minimum(rows, output)
        bound = _corner(rows, output)
        merged = [self._merged(part) for part in row_parts(rows, self._tail)]
        return torch.maximum(bound, torch.cat(merged, dim=1))

    def _merged(self, rows: Tensor) -> Tensor:
        """Bound rows over the box of the operand of the last layers."""
        rows, constant = self._through_tail(rows)
        return _corner(rows, self._boxes[self._tail[-1].inputs[0]]) + constant

    def _trained_minimum(self, rows: Tensor, output: Interval) -> Tensor:
        """Bound rows by centre and radius of the box before the last layers.

        The centre has gone through them already, as nothing is learned of tensors that no operator
        has as its operand: half the products of corners remain.
        """
        operand = self._boxes[self._tail[-1].inputs[0]]
        width = (operand.upper - operand.lower).flatten(1)
        center = torch.lerp(output.lower, output.upper, 0.5).flatten(1)
        radii = [
            _products(self._through_tail(part)[0].abs(), width)
            for part in row_parts(rows, self._tail)
        ]
        minimum = torch.sub(_products(rows, center), torch.cat(radii, dim=1), alpha=0.5)
        return lower_without_nan(minimum)

    def _through_tail(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Substitute the last layers into rows, as (rows on their operand, constants)."""
        constant = rows.new_zeros(rows.shape[:2])
        for node in self._tail:
            if node.bias is not None:
                constant = constant + rows @ node.bias.expand(node.shape).flatten()
            (linear,) = node.maps
            back = linear.adjoint(torch.unflatten(rows.flatten(0, 1), 1, linear.output_shape))
            rows = torch.unflatten(back.flatten(1), 0, constant.shape)
        return rows, constant


def _corner(rows: Tensor, box: Interval) -> Tensor:
    lower, upper = box.lower.flatten(1), box.upper.flatten(1)
    minimum = _products(rows.clamp(min=0), lower) + _products(rows.clamp(max=0), upper)
    return lower_without_nan(minimum)


def _products(
    rows: Float[Tensor, "#batch rows n"], vectors: Float[Tensor, "batch n"]
) -> Float[Tensor, "batch rows"]:
    """Multiply each element's rows by its vector; rows that all share, by one matrix product."""
    if len(rows) == 1:
        return functional.linear(vectors, rows[0])
    return (rows @ vectors.unsqueeze(2)).squeeze(2)


def row_parts(
    rows: Float[Tensor, "batch rows outputs"], tail: Sequence[Affine]
) -> tuple[Tensor, ...]:
    """Split rows so that some at a time fit into memory on the way through the last layers."""
    most = max(math.prod(node.maps[0].input_shape) for node in tail)
    return torch.split(rows, max(1, _MOST_COEFFICIENTS // (len(rows) * max(1, most))), dim=1)


def affine_range(node: Affine, boxes: Sequence[Interval]) -> Interval:
    """Bound an affine node over the boxes of its operands."""
    if node.bias is not None and len(node.maps) == 1 and _mixes(node.maps[0]):
        return _centred_range(node.maps[0], boxes[0], node.bias)
    ranges = [map_range(m, box) for m, box in zip(node.maps, boxes, strict=True)]
    lower, upper = ranges[0]
    for other in ranges[1:]:
        lower, upper = lower + other.lower, upper + other.upper
    if node.bias is not None:
        lower, upper = lower + node.bias, upper + node.bias
    return Interval(lower, upper)


def map_range(linear: LinearMap, box: Interval) -> Interval:
    """Bound a linear map over a box.

    A monotone map takes each side by itself, so that one infinite side leaves the other finite.
    """
    if linear.monotone:
        return Interval(linear.apply(box.lower), linear.apply(box.upper))
    if isinstance(linear, Negation):
        return Interval(-box.upper, -box.lower)
    return _centred_range(linear, box, None)


def _mixes(linear: LinearMap) -> bool:
    """Whether a map is bounded by centre and radius."""
    return not linear.monotone and not isinstance(linear, Negation)


def _centred_range(linear: LinearMap, box: Interval, bias: Tensor | None) -> Interval:
    """Bound a map, and a bias behind it, by centre and radius.

    Both are taken twice: halving comes last, where there are often fewer neurons.
    """
    if is_trained(*box, *linear.coefficients()):
        return _trained_range(linear, box, bias)
    center = linear.apply(box.upper + box.lower)
    radius = linear.apply_abs(box.upper - box.lower)
    center = center / 2 if bias is None else torch.add(bias, center, alpha=0.5)
    lower, upper = torch.sub(center, radius, alpha=0.5), torch.add(center, radius, alpha=0.5)
    return Interval(lower, upper)


def _trained_range(linear: LinearMap, box: Interval, bias: Tensor | None) -> Interval:
    """Do what `_centred_range` does with few passes over memory, those of gradients counted."""
    center, width = center_and_width(*box)
    center = linear.apply(center) if bias is None else linear.apply_affine(center, bias)
    return Interval(*ends(center, linear.apply_abs(width)))
