"""Backward tightening of affine nodes: what the result's bounds say about the operands."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from absolver.analyzer.graph.graph import Affine
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.propagate.propagator import meet, without_nan
from absolver.analyzer.propagate.values import map_range
from absolver.dsl.operators.record import Interval

# Above this many coefficients a map's matrix is not written out: the operand keeps its bounds.
_LARGEST_MATRIX = 1 << 21
# Other weights tell nothing: their squares and quotients could underflow or overflow.
_SMALLEST_WEIGHT, _LARGEST_WEIGHT = 2.0**-36, 2.0**36


def affine_inverse(node: Affine, result: Interval, operands: Sequence[Interval]) -> list[Interval]:
    """Tighten the operands of an affine node (HC4-revise, Benhamou et al. 1999).

    Guarantee: every choice of operand values in `operands` whose sum lies in `result` lies in
    the returned intervals, up to the outward margin that covers this evaluation's rounding.
    """
    ranges = [without_nan(map_range(m, box)) for m, box in zip(node.maps, operands, strict=True)]
    bias = 0 if node.bias is None else node.bias
    rounding = _rounding(node, result, operands)
    tightened = []
    for k, (linear, box) in enumerate(zip(node.maps, operands, strict=True)):
        rest_lower = sum((r.lower for i, r in enumerate(ranges) if i != k), start=bias)
        rest_upper = sum((r.upper for i, r in enumerate(ranges) if i != k), start=bias)
        target = without_nan(
            Interval(result.lower - rest_upper - rounding, result.upper - rest_lower + rounding)
        )
        inner = _preimage(linear, target, ranges[k], box, rounding)
        tightened.append(meet(box, inner) if inner is not None else box)
    return tightened


def _rounding(node: Affine, result: Interval, operands: Sequence[Interval]) -> Tensor:
    """Bound the rounding error of each sum here by the sizes of all that is added and cancels."""
    size = torch.where(result.lower.isfinite(), result.lower.abs(), 0)
    size = size + torch.where(result.upper.isfinite(), result.upper.abs(), 0)
    size = size if node.bias is None else size + node.bias.abs()
    terms = 64
    for linear, (lower, upper) in zip(node.maps, operands, strict=True):
        size = size + linear.apply_abs(torch.maximum(lower.abs(), upper.abs()))
        terms += 1 if linear.diagonal else prod(linear.input_shape)
    return terms * torch.finfo(size.dtype).eps * size


def _preimage(
    linear: LinearMap, target: Interval, reach: Interval, box: Interval, rounding: Tensor
) -> Interval | None:
    """Bound the x of `box` with `linear(x)` in `target`; None where that is not worthwhile."""
    if linear.diagonal:
        return _preimage_of_diagonal(linear, target, box)
    rows, columns = reach.lower[0].numel(), box.lower[0].numel()
    if rows * columns * box.lower.shape[0] > _LARGEST_MATRIX:
        return None
    index = torch.arange(rows, device=box.lower.device)
    matrix = linear.rows(index).flatten(1)
    return _preimage_of_matrix(matrix, target, reach, box, rounding)


def _preimage_of_diagonal(linear: LinearMap, target: Interval, box: Interval) -> Interval:
    """Divide by the one coefficient of each input; inputs that feed nothing stay unbounded."""
    weight = linear.adjoint(torch.ones_like(target.lower))
    feeds = _tells(weight)
    square = torch.where(feeds, weight * weight, 1)
    finite = Interval(
        target.lower.clamp(min=torch.finfo(target.lower.dtype).min),
        target.upper.clamp(max=torch.finfo(target.upper.dtype).max),
    )
    first = linear.adjoint(finite.lower) / square
    second = linear.adjoint(finite.upper) / square
    lower = torch.where(feeds, torch.minimum(first, second), -torch.inf)
    upper = torch.where(feeds, torch.maximum(first, second), torch.inf)
    return _outward(_finite(lower, upper), box)


def _preimage_of_matrix(
    matrix: Tensor, target: Interval, reach: Interval, box: Interval, rounding: Tensor
) -> Interval:
    """Solve each row for each input, the other inputs at their extremes."""
    shape = box.lower.shape
    weight = matrix.unsqueeze(0)
    low, up = box.lower.flatten(1).unsqueeze(1), box.upper.flatten(1).unsqueeze(1)
    term_low = torch.minimum(weight * low, weight * up)
    term_up = torch.maximum(weight * low, weight * up)
    rest_low = reach.lower.flatten(1).unsqueeze(2) - term_low
    rest_up = reach.upper.flatten(1).unsqueeze(2) - term_up
    first = (target.lower.flatten(1).unsqueeze(2) - rest_up) / weight
    second = (target.upper.flatten(1).unsqueeze(2) - rest_low) / weight
    # The rounding of `rest` is divided by the weight.
    slack = rounding.flatten(1).unsqueeze(2) / weight.abs()
    usable = _tells(weight) & torch.isfinite(slack)
    lower = torch.where(usable, torch.minimum(first, second) - slack, -torch.inf)
    upper = torch.where(usable, torch.maximum(first, second) + slack, torch.inf)
    bounds = _finite(lower, upper)
    return _outward(
        Interval(bounds.lower.amax(1).view(shape), bounds.upper.amin(1).view(shape)), box
    )


def _tells(weight: Tensor) -> Tensor:
    """Say where a division by a weight rounds as the margins suppose."""
    size = weight.abs()
    return (size >= _SMALLEST_WEIGHT) & (size <= _LARGEST_WEIGHT)


def _finite(lower: Tensor, upper: Tensor) -> Interval:
    """Return bounds that say nothing where they are infinite, as by overflow, or NaN."""
    return Interval(
        torch.where(lower.isfinite(), lower, -torch.inf),
        torch.where(upper.isfinite(), upper, torch.inf),
    )


def _outward(bounds: Interval, box: Interval) -> Interval:
    """Widen by a margin for the rounding of the few operations above."""
    size = torch.maximum(box.lower.abs(), box.upper.abs())
    margin = 64 * torch.finfo(size.dtype).eps * torch.where(torch.isfinite(size), size, 0)
    return Interval(bounds.lower - margin, bounds.upper + margin)
