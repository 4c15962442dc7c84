"""The carrier `over inputs`: linear bounds in the network's inputs, pushed forward."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.errors import AbsolverError
from absolver.analyzer.graph.graph import Affine, Graph, Input, Node, Nonlinear
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.propagate.lines import finite_lines
from absolver.analyzer.propagate.propagator import (
    Multiple,
    Propagator,
    lower_without_nan,
    without_nan,
)
from absolver.analyzer.regions.region import Region
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval


class MemoryBudgetError(AbsolverError):
    """A carrier needs more memory for one node than it was given."""


@dataclass(frozen=True)
class _Form:
    """`mid ± half` of two affine functions of the inputs, the lower and the upper bound.

    Guarantee: `middle - half <= x <= middle + half` pointwise over the region, where each of the
    two is `offset + sum over inputs of slopes[i] * (input[i] - reference[i])`.
    """

    middle: Float[Tensor, "batch inputs+1 *shape"]
    """Slopes of the mean of both bounds, the offset last."""
    half: Float[Tensor, "batch inputs+1 *shape"] | None
    """Slopes of half their difference, the offset last; None where the bounds coincide."""

    def sides(self) -> tuple[Tensor, Tensor]:
        """The lower and the upper bound."""
        if self.half is None:
            return self.middle, self.middle
        return self.middle - self.half, self.middle + self.half


class InputsPropagator(Propagator):
    """Forward linear bounds (Neurify, Wang et al. 2018; forward mode LiRPA, Xu et al. 2020)."""

    def __init__(self, graph: Graph, domain: Domain, region: Region, memory_bytes: int) -> None:
        """Prepare for a walk through the graph."""
        self._graph = graph
        self._domain = domain
        self._region = region
        self._memory_bytes = memory_bytes
        self._forms: dict[str, _Form] = {}
        lower, upper = region.bounding_box()
        self._center = (lower + upper) / 2
        # Inputs that never vary have no slopes.
        self._varying = torch.nonzero((lower != upper).flatten(1).any(0)).squeeze(1)

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        """Compute the node's form from those of its operands."""
        size = torch.Size(node.shape).numel() * self._center.element_size()
        needed = 4 * size * self._center.shape[0] * (len(self._varying) + 1)
        if needed > self._memory_bytes:
            raise MemoryBudgetError(
                f"bounds over inputs need {needed / 2**30:.1f} GB for {node.name} "
                f"({node.origin}), more than the budget of {self._memory_bytes / 2**30:.1f} GB. "
                "Raise --memory, or use a domain `over neurons`."
            )
        match node:
            case Input():
                form = self._start()
            case Affine():
                form = _affine(node, [self._forms[i] for i in node.inputs])
            case Nonlinear():
                form = self._nonlinear(node, box)
            case _:
                raise AssertionError(f"unknown kind of node: {node}")
        self._forms[node.name] = form

    def bounds(self, node: Node, wanted: Bool[Tensor, "batch *shape"] | None) -> Interval:
        """Concretise both sides over the region."""
        del wanted
        lower, upper = self._forms[node.name].sides()
        low = self._concretised(lower.flatten(2))
        up = -self._concretised(-upper.flatten(2))
        shape = (low.shape[0], *node.shape)
        return without_nan(Interval(low.view(shape), up.view(shape)))

    def minimum(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Float[Tensor, "batch rows"]:
        """Compose each row with the output's bounds, by the sign of its coefficients."""
        del multiples
        lower, upper = self._forms[self._graph.output.name].sides()
        composed = lower.flatten(2) @ rows.clamp(min=0).transpose(1, 2)
        composed = composed + upper.flatten(2) @ rows.clamp(max=0).transpose(1, 2)
        return lower_without_nan(self._concretised(composed))

    def _start(self) -> _Form:
        batch = self._center.shape[0]
        flat = self._center.flatten(1)
        slopes = flat.new_zeros((batch, len(self._varying) + 1, flat.shape[1]))
        slopes[:, torch.arange(len(self._varying), device=flat.device), self._varying] = 1
        slopes[:, -1] = flat
        return _Form(torch.unflatten(slopes, 2, self._center.shape[1:]), None)

    def _concretised(
        self, forms: Float[Tensor, "batch inputs+1 rows"]
    ) -> Float[Tensor, "batch rows"]:
        """Bound linear forms of the inputs from below over the region."""
        flat = self._center.flatten(1)
        rows = forms.new_zeros((forms.shape[0], forms.shape[2], flat.shape[1]))
        rows[:, :, self._varying] = forms[:, :-1].transpose(1, 2)
        rows = torch.unflatten(rows, 2, self._center.shape[1:])
        return forms[:, -1] + self._region.minimum_around(rows, self._center)

    def _nonlinear(self, node: Nonlinear, box: Sequence[Interval]) -> _Form:
        """Compose the operator's lines with the operands' bounds, by the sign of each slope."""
        relaxation, unbounded = finite_lines(self._domain, node.operator, box)
        zero = torch.zeros((), dtype=self._center.dtype, device=self._center.device)
        low, up = zero, zero
        for name, s_low, s_up in zip(node.inputs, relaxation.lower, relaxation.upper, strict=True):
            lower, upper = self._forms[name].sides()
            low = low + _by_sign(s_low.unsqueeze(1), lower, upper)
            up = up + _by_sign(s_up.unsqueeze(1), upper, lower)
        # Offsets are shared out last, in place: `low` and `up` are fresh tensors.
        lower_offset, upper_offset = relaxation.lower_offset, relaxation.upper_offset
        if unbounded is not None:
            lower_offset = torch.where(unbounded, -torch.inf, lower_offset)
            upper_offset = torch.where(unbounded, torch.inf, upper_offset)
        low = torch.cat([low[:, :-1], (low[:, -1] + lower_offset).unsqueeze(1)], dim=1)
        up = torch.cat([up[:, :-1], (up[:, -1] + upper_offset).unsqueeze(1)], dim=1)
        return _Form((low + up) / 2, (up - low) / 2)


def _by_sign(slope: Tensor, where_positive: Tensor, where_negative: Tensor) -> Tensor:
    """Multiply by a slope, choosing the bound by the slope's sign."""
    if where_positive is where_negative:
        return slope * where_positive
    return slope.clamp(min=0) * where_positive + slope.clamp(max=0) * where_negative


def _affine(node: Affine, forms: Sequence[_Form]) -> _Form:
    """Push both bounds through a sum of linear maps: `W middle ± |W| half`."""
    middle = torch.stack(
        [_pushed(linear, form.middle) for linear, form in zip(node.maps, forms, strict=True)]
    ).sum(0)
    halves = [
        _pushed(linear, form.half, absolute=True)
        for linear, form in zip(node.maps, forms, strict=True)
        if form.half is not None
    ]
    if node.bias is not None:
        middle = torch.cat([middle[:, :-1], (middle[:, -1] + node.bias).unsqueeze(1)], dim=1)
    return _Form(middle, torch.stack(halves).sum(0) if halves else None)


def _pushed(linear: LinearMap, form: Tensor, *, absolute: bool = False) -> Tensor:
    batch_and_inputs = form.shape[:2]
    flat = form.flatten(0, 1)
    pushed = linear.apply_abs(flat) if absolute else linear.apply(flat)
    return torch.unflatten(pushed, 0, batch_and_inputs)
