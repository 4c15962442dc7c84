"""Coefficient rows during back-substitution: written out, as windows, or as chosen columns."""

from dataclasses import dataclass, replace

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
        return rows.index_copy(2, self.neurons, self.values).unflatten(2, self.shape)


Rows = Float[Tensor, "group rows *shape"] | Windows | Columns
"""Coefficients over one node, for a group of batch elements."""


def written_out(rows: Rows) -> Float[Tensor, "group rows *shape"]:
    """Return rows as a plain tensor."""
    return rows if isinstance(rows, Tensor) else rows.dense()


def add(pending: dict[str, Rows], name: str, rows: Rows) -> None:
    """Add rows to those that already wait for a node."""
    if (other := pending.get(name)) is None:
        pending[name] = rows
        return
    if isinstance(rows, Windows) and isinstance(other, Windows) and (both := other.plus(rows)):
        pending[name] = both
        return
    pending[name] = written_out(other) + written_out(rows)


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
    return linear.adjoint(dense.flatten(0, 1)).unflatten(0, dense.shape[:2])


def _through_dense(linear: Dense, rows: Rows, live: Tensor | None) -> Rows:
    """Multiply by the part of the weight that connects live neurons with live neurons."""
    weight = linear.weight
    if isinstance(rows, Columns):
        values, weight = rows.values, weight.index_select(0, rows.neurons)
    else:
        values = written_out(rows).flatten(2)
    if live is None:
        return (values @ weight).unflatten(2, linear.input_shape)
    return Columns(values @ weight.index_select(1, live), live, linear.input_shape)


def through_lines(
    lines: Lines, elements: slice, rows: Rows, names: tuple[str, ...], pending: dict[str, Rows]
) -> Float[Tensor, "group rows"]:
    """Substitute an operator's lines into rows on its result; returns what the rows gain.

    `Lines` has the formula. The new rows on the operands named go to `pending`.
    """
    if isinstance(rows, Windows):
        if lines.unbounded is None:
            return _through_at_windows(lines, elements, rows, names, pending)
        rows = rows.dense()
    elif isinstance(rows, Columns) and lines.unbounded is not None:
        rows = rows.dense()
    neurons: Tensor | None = None
    last = False
    if isinstance(rows, Columns):
        a, neurons = rows.values, rows.neurons
    elif last := channels_last(rows):
        # All arithmetic runs over contiguous memory: the lines come in the rows' own layout.
        a, lines = rows.movedim(3, -1), lines.channels_last
    else:
        a = rows

    def own(line: Tensor) -> Tensor:
        line = line[elements]
        if neurons is not None:
            line = line.flatten(1).index_select(1, neurons)
        return line.unsqueeze(1)

    positive = a.clamp(min=0)
    gain = contract(positive, own(lines.gap))
    if lines.unbounded is not None:
        used = contract(a.abs(), own(lines.unbounded).to(a.dtype)) > 0
        gain = torch.where(used, -torch.inf, gain)
    for name, upper, excess in zip(names, lines.upper, lines.excess, strict=True):
        scaled = (a * own(upper)).addcmul_(positive, own(excess))
        if isinstance(rows, Columns):
            add(pending, name, replace(rows, values=scaled))
        else:
            add(pending, name, scaled.movedim(-1, 3) if last else scaled)
    return gain


def channels_last(rows: Tensor) -> bool:
    """Whether rows over an image `[1, channels, height, width]` lie in memory channels last."""
    return (
        rows.dim() == 6
        and not rows.is_contiguous()
        and rows.flatten(0, 2).is_contiguous(memory_format=torch.channels_last)
    )


def contract(
    a: Float[Tensor, "group rows *shape"], weights: Float[Tensor, "group 1 *shape"]
) -> Float[Tensor, "group rows"]:
    """Sum the products of rows and weights over the neurons."""
    flat, vectors = a.flatten(2), weights.flatten(1)
    if a.device.type == "cpu":
        # Batched products with a vector are slow there; a group has few elements.
        return torch.stack([rows.mv(v) for rows, v in zip(flat, vectors, strict=True)])
    return (flat @ vectors.unsqueeze(2)).squeeze(2)


def _through_at_windows(
    lines: Lines, elements: slice, rows: Windows, names: tuple[str, ...], pending: dict[str, Rows]
) -> Float[Tensor, "group rows"]:
    values = rows.by_side()
    positive = values.clamp(min=0)
    for name, upper, excess in zip(names, lines.upper, lines.excess, strict=True):
        scaled = values * rows.at_windows(upper[elements].flatten(1, 2))
        scaled.addcmul_(positive, rows.at_windows(excess[elements].flatten(1, 2)))
        add(pending, name, rows.with_sides(scaled))
    gap = rows.at_windows(lines.gap[elements].flatten(1, 2))
    return (positive * gap).flatten(3).sum(3).flatten(1)
