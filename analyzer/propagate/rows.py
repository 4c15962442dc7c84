"""Coefficient rows during back-substitution: written out, as windows, or as chosen columns."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from absolver.analyzer.graph.linear.convolution import Convolution
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.graph.linear.map import LinearMap, Shape
from absolver.analyzer.graph.linear.movement import Reshape
from absolver.analyzer.graph.linear.scaling import Division, Identity, Negation, Scaling
from absolver.analyzer.propagate.lines import Lines
from absolver.analyzer.propagate.windows import Windows


@dataclass(frozen=True, eq=False)
class Columns:
    """Rows that are zero outside of some neurons: those that an operator does not switch off."""

    values: Float[Tensor, "group rows columns"]
    neurons: Int[Tensor, " columns"]
    """Flat indices of the columns' neurons."""
    shape: Shape
    """The shape of the node that the rows multiply."""

    def dense(self) -> Float[Tensor, "group rows *shape"]:
        """Write the rows out."""
        size = torch.Size(self.shape).numel()
        rows = self.values.new_zeros((*self.values.shape[:2], size))
        rows = rows.index_copy(2, self.neurons, self.values)
        return torch.unflatten(rows, 2, self.shape)


# To move so few rows costs less than to move the lines, gradients counted.
_FEW_ROWS = 3

Rows = Float[Tensor, "group rows ..."] | Windows | Columns
"""Coefficients over one node, for a group of batch elements."""


class Reduced(NamedTuple):
    """Rows where they end: values on the trace, what is left of them, and at which node.

    `most` is the number of coefficients of a row where it had the most.
    """

    bound: Float[Tensor, "group rows"]
    at_end: Rows | None
    end: str
    most: int


def written_out(rows: Rows) -> Float[Tensor, "group rows *shape"]:
    """Return rows as a plain tensor."""
    return rows if isinstance(rows, Tensor) else rows.dense()


def coefficients_held(rows: Rows) -> int:
    """Count the coefficients that rows hold, all rows together."""
    return (rows if isinstance(rows, Tensor) else rows.values).numel()


def add(pending: dict[str, Rows], name: str, rows: Rows) -> bool:
    """Add rows to those that already wait for a node; say whether there were any."""
    if (other := pending.get(name)) is None:
        pending[name] = rows
        return False
    if isinstance(rows, Windows) and isinstance(other, Windows) and (both := other.plus(rows)):
        pending[name] = both
    else:
        pending[name] = written_out(other) + written_out(rows)
    return True


def through_linear(linear: LinearMap, rows: Rows, live: Int[Tensor, " columns"] | None) -> Rows:
    """Substitute a linear map into rows on its result.

    `live` names the operand's neurons whose coefficients matter, where that is not all of them:
    what an operator switches off there is not computed.
    """
    match linear, rows:
        case Identity(), _:
            return rows
        case Reshape(), Columns():
            return replace(rows, shape=linear.input_shape)
        case Dense(), _ if linear.weight.shape[0] == torch.Size(linear.output_shape).numel():
            return _through_dense(linear, rows, live)
        case Convolution(), Windows() if (windows := rows.through(linear)) is not None:
            return windows
        case Negation() | Scaling() | Division(), Windows():
            ones = rows.values.new_ones((1, *linear.output_shape))
            factors = linear.adjoint(ones)[0].expand(rows.values.shape[0], -1, -1, -1)
            return rows.with_sides(rows.by_side() * rows.at_windows(factors))
    dense = written_out(rows)
    return torch.unflatten(linear.adjoint(dense.flatten(0, 1)), 0, dense.shape[:2])


def _through_dense(linear: Dense, rows: Rows, live: Tensor | None) -> Rows:
    """Multiply by the part of the weight that connects live neurons with live neurons."""
    weight = linear.weight
    if isinstance(rows, Columns):
        values, weight = rows.values, weight.index_select(0, rows.neurons)
    else:
        values = written_out(rows).flatten(2)
    if live is None:
        return torch.unflatten(values @ weight, 2, linear.input_shape)
    return Columns(values @ weight.index_select(1, live), live, linear.input_shape)


def through_lines(
    lines: Lines, elements: slice, rows: Rows
) -> tuple[Float[Tensor, "group rows"], list[Rows]]:
    """Substitute an operator's lines into rows on its result.

    Returns what the rows gain, and the new rows on each operand. `Lines` has the formula.
    """
    if lines.unbounded is not None:
        rows = written_out(rows)
    results: list[Rows]
    match rows:
        case Windows():
            gain, results = _through_at_windows(lines.of(elements), rows)
        case Columns():
            gain, values = _through(lines.of(elements).at(rows.neurons), rows.values)
            results = [replace(rows, values=v) for v in values]
        case _ if channels_last(rows) and not (rows.requires_grad and rows.shape[1] < _FEW_ROWS):
            # All arithmetic runs over contiguous memory: the lines come in the rows' layout.
            gain, values = _through(lines.channels_last.of(elements), rows.movedim(3, -1))
            results = [v.movedim(-1, 3) for v in values]
        case _:
            gain, values = _through(lines.of(elements), rows)
            results = list(values)
    return gain, results


def weigh(rows: Rows, weights: Float[Tensor, "group *shape"]) -> Float[Tensor, "group rows"]:
    """Sum the sizes of coefficients times the weights of their neurons."""
    match rows:
        case Windows():
            at_cells = rows.at_windows(weights.flatten(1, 2))
            return (rows.by_side().abs() * at_cells).flatten(3).sum(3).flatten(1)
        case Columns():
            return contract(rows.values.abs(), weights.flatten(1).index_select(1, rows.neurons))
        case _ if channels_last(rows):
            return contract(rows.movedim(3, -1).abs(), weights.movedim(2, -1))
        case _:
            return contract(rows.abs(), weights)


def _through(lines: Lines, a: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Substitute lines into coefficients of the same layout: the gain, and one result a operand."""
    positive = torch.relu(a)  # as a clamp, with cheaper gradients
    gain = contract(positive, lines.gap)
    if lines.unbounded is not None:
        used = contract(a.abs(), lines.unbounded.to(a.dtype)) > 0
        gain = torch.where(used, -torch.inf, gain)
    if lines.lower is not None and lines.drop is not None:
        negative = a.clamp(max=0)
        gain = gain + contract(negative, lines.drop)
        return gain, [
            (positive * lower.unsqueeze(1)).addcmul_(negative, upper.unsqueeze(1))
            for lower, upper in zip(lines.lower, lines.upper, strict=True)
        ]
    results = [
        (a * upper.unsqueeze(1)).addcmul_(positive, excess.unsqueeze(1))
        for upper, excess in zip(lines.upper, lines.excess, strict=True)
    ]
    return gain, results


def channels_last(rows: Tensor) -> bool:
    """Whether rows over an image `[1, channels, height, width]` lie in memory channels last."""
    return (
        rows.dim() == 6
        and not rows.is_contiguous()
        and rows.flatten(0, 2).is_contiguous(memory_format=torch.channels_last)
    )


def contract(
    a: Float[Tensor, "group rows *shape"], weights: Float[Tensor, "group *shape"]
) -> Float[Tensor, "group rows"]:
    """Sum the products of rows and weights over the neurons."""
    flat, vectors = a.flatten(2), weights.flatten(1)
    if a.device.type == "cpu" and not torch.is_grad_enabled():
        # Batched products with a vector are slow there; a group has few elements.
        return torch.stack([rows.mv(v) for rows, v in zip(flat, vectors, strict=True)])
    return (flat @ vectors.unsqueeze(2)).squeeze(2)


def _through_at_windows(lines: Lines, rows: Windows) -> tuple[Tensor, list[Rows]]:
    """Do what `_through` does in the window of each row."""
    values = rows.by_side()
    positive = values.clamp(min=0)
    gap = rows.at_windows(lines.gap.flatten(1, 2))
    results: list[Rows] = []
    # Of proved lines, each coefficient is one product with one of both slopes.
    first, second = (values, positive), (lines.upper, lines.excess)
    if lines.lower is not None:
        first, second = (values.clamp(max=0), positive), (lines.upper, lines.lower)
    for upper, other in zip(*second, strict=True):
        scaled = first[0] * rows.at_windows(upper.flatten(1, 2))
        scaled.addcmul_(first[1], rows.at_windows(other.flatten(1, 2)))
        results.append(rows.with_sides(scaled))
    gain = positive * gap
    if lines.drop is not None:
        gain.addcmul_(first[0], rows.at_windows(lines.drop.flatten(1, 2)))
    return gain.flatten(3).sum(3).flatten(1), results
