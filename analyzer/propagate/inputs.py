"""The carrier `over inputs`: linear bounds in the network's inputs, pushed forward."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.errors import AbsolverError
from absolver.analyzer.graph.graph import Affine, Graph, Input, Node, Nonlinear
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.propagate.concretise import proved_minimum
from absolver.analyzer.propagate.enclosures import EnclosuresPropagator
from absolver.analyzer.propagate.floats import (
    above,
    add_below,
    below,
    distance,
    gamma,
    raised,
    summed_up,
    unit,
)
from absolver.analyzer.propagate.lines import finite_lines, proved_lines
from absolver.analyzer.propagate.propagator import (
    Multiple,
    Propagator,
    lower_without_nan,
    without_nan,
)
from absolver.analyzer.propagate.terms import roundings
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import round_down
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval
from absolver.dsl.relaxation import Relaxation


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
    slack: Float[Tensor, "batch *shape"] | None = None
    """What rounding may have moved each bound by, in float64, where bounds are proved."""

    def sides(self) -> tuple[Tensor, Tensor]:
        """The lower and the upper bound."""
        if self.half is None:
            return self.middle, self.middle
        return self.middle - self.half, self.middle + self.half


class InputsPropagator(Propagator):
    """Forward linear bounds (Neurify, Wang et al. 2018; forward mode LiRPA, Xu et al. 2020)."""

    def __init__(
        self,
        graph: Graph,
        domain: Domain,
        region: Region,
        memory_bytes: int,
        enclosures: EnclosuresPropagator | None = None,
    ) -> None:
        """Prepare for a walk through the graph; `enclosures` walk along where bounds are proved."""
        self._graph = graph
        self._domain = domain
        self._region = region
        self._memory_bytes = memory_bytes
        self._forms: dict[str, _Form] = {}
        lower, upper = region.bounding_box()
        self._center = (lower + upper) / 2
        # Inputs that never vary have no slopes.
        self._varying = torch.nonzero((lower != upper).flatten(1).any(0)).squeeze(1)
        self._enclosures = enclosures
        radius = distance(self._center, lower, upper).flatten(1)[:, self._varying]
        # How far the inputs are from the reference; an offset counts as it is.
        self._reach = torch.cat([radius, radius.new_ones((len(radius), 1))], dim=1)

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        """Compute the node's form from those of its operands."""
        size = node.size * self._center.element_size()
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
                forms = [self._forms[i] for i in node.inputs]
                form = _affine(node, forms)
                if self._enclosures is not None:
                    form = replace(form, slack=self._affine_slack(node, forms, self._enclosures))
            case Nonlinear():
                form = self._nonlinear(node, box)
            case _:
                raise AssertionError(f"unknown kind of node: {node}")
        self._forms[node.name] = form

    def bounds(self, node: Node, wanted: Bool[Tensor, "batch *shape"] | None) -> Interval:
        """Concretise both sides over the region."""
        del wanted
        form = self._forms[node.name]
        shape = (len(self._center), *node.shape)
        if form.slack is not None:
            (low, up), size = self._proved_sides(form)
            error = form.slack.flatten(1) + size.flatten(1)
            low = self._proved(low.flatten(2), error)
            up = -self._proved(-up.flatten(2), error)
        else:
            lower, upper = form.sides()
            low = self._concretised(lower.flatten(2))
            up = -self._concretised(-upper.flatten(2))
        return without_nan(Interval(low.view(shape), up.view(shape)))

    def minimum(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Float[Tensor, "batch rows"]:
        """Compose each row with the output's bounds, by the sign of its coefficients."""
        del multiples
        form = self._forms[self._graph.output.name]
        if form.slack is not None:
            return self._proved_rows(form, rows.double())
        lower, upper = form.sides()
        composed = lower.flatten(2) @ rows.clamp(min=0).transpose(1, 2)
        composed = composed + upper.flatten(2) @ rows.clamp(max=0).transpose(1, 2)
        return lower_without_nan(self._concretised(composed))

    def _start(self) -> _Form:
        batch = self._center.shape[0]
        flat = self._center.flatten(1)
        slopes = flat.new_zeros((batch, len(self._varying) + 1, flat.shape[1]))
        slopes[:, torch.arange(len(self._varying), device=flat.device), self._varying] = 1
        slopes[:, -1] = flat
        form = _Form(torch.unflatten(slopes, 2, self._center.shape[1:]), None)
        if self._enclosures is None:
            return form
        # The slopes are exactly 1, and inputs that never vary are exactly the reference.
        return replace(form, slack=torch.zeros_like(self._center, dtype=torch.float64))

    def _concretised(
        self, forms: Float[Tensor, "batch inputs+1 rows"]
    ) -> Float[Tensor, "batch rows"]:
        """Bound linear forms of the inputs from below over the region."""
        if isinstance(self._region, Box):
            # Few inputs may vary: no row is written out over all of them.
            reach = self._reach[:, None, :-1].to(forms.dtype)
            return forms[:, -1] - (reach @ forms[:, :-1].abs()).squeeze(1)
        rows = self._rows(forms)
        return forms[:, -1] + self._region.minimum_around(rows, self._center)

    def _rows(self, forms: Float[Tensor, "batch inputs+1 rows"]) -> Tensor:
        """Write the slopes of forms out over all inputs, each form a row."""
        size = self._center[0].numel()
        rows = forms.new_zeros((forms.shape[0], forms.shape[2], size))
        rows[:, :, self._varying] = forms[:, :-1].transpose(1, 2)
        return torch.unflatten(rows, 2, self._center.shape[1:])

    def _nonlinear(self, node: Nonlinear, box: Sequence[Interval]) -> _Form:
        """Compose the operator's lines with the operands' bounds, by the sign of each slope."""
        relaxation, unbounded = self._relaxed(node, box)
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
        slack = None if self._enclosures is None else self._operator_slack(node, relaxation)
        return _Form((low + up) / 2, (up - low) / 2, slack)

    def _relaxed(
        self, node: Nonlinear, box: Sequence[Interval]
    ) -> tuple[Relaxation, Bool[Tensor, "batch *shape"] | None]:
        """Relax an operator; offsets of proved lines are rounded outward to the dtype."""
        if self._enclosures is None:
            return finite_lines(self._domain, node.operator, box)
        noise = self._enclosures.noise(node.name)
        relaxation, unbounded = proved_lines(self._domain, node.operator, box, noise)
        dtype = self._center.dtype
        low, up = relaxation.lower_offset, relaxation.upper_offset
        nothing = torch.zeros_like(low)
        low, up = below(low, nothing, dtype), above(up, nothing, dtype)
        return replace(relaxation, lower_offset=low, upper_offset=up), unbounded

    def _size(self, form: _Form) -> Float[Tensor, "batch *shape"]:
        """Bound the sizes of all terms of a form over the region, in float64."""
        terms = self._reach.shape[1]
        size = summed_up(torch.einsum("bi...,bi->b...", form.middle.abs(), self._reach), terms)
        if form.half is not None:
            half = torch.einsum("bi...,bi->b...", form.half.abs(), self._reach)
            size = size + summed_up(half, terms)
        return size

    def _underflow(self, roundings: int) -> float:
        """Bound what underflow can move a form by."""
        tiny = torch.finfo(self._center.dtype).tiny
        return 4 * roundings * tiny * float(self._reach.sum(1).max())

    def _affine_slack(
        self, node: Affine, forms: Sequence[_Form], enclosures: EnclosuresPropagator
    ) -> Float[Tensor, "batch *shape"]:
        """Bound how far the forms of an affine node are from those that are exact."""
        sizes = [self._size(form) for form in forms]
        # A slope may be there although the neuron itself is 0: all terms count.
        terms = roundings(node)
        share = gamma(terms, unit(self._center.dtype))
        total = torch.zeros((), dtype=torch.float64, device=self._center.device)
        for linear, form, size in zip(node.maps, forms, sizes, strict=True):
            assert form.slack is not None, "all forms of a proved walk have slack"
            error = raised(form.slack + share * size, self._center.dtype)
            total = total + summed_up(linear.apply_abs(error), terms)
        if node.bias is not None:
            total = total + share * node.bias.abs().double()
        noise = enclosures.noise(node.name)
        total = total if noise is None else total + noise
        return total + self._underflow(terms)

    def _operator_slack(self, node: Nonlinear, lines: Relaxation) -> Float[Tensor, "batch *shape"]:
        """Bound how far the composition with an operator's lines is from that which is exact."""
        # Of both sides: their difference, product and sum, the offset, mean and half-difference.
        share = gamma(2 * (len(node.inputs) + 6), unit(self._center.dtype))
        offsets = lines.lower_offset.abs() + lines.upper_offset.abs()
        total = share * torch.where(offsets.isfinite(), offsets, 0.0).double()
        for name, low, up in zip(node.inputs, lines.lower, lines.upper, strict=True):
            form = self._forms[name]
            assert form.slack is not None, "all forms of a proved walk have slack"
            slopes = low.abs().double() + up.abs().double()
            total = total + slopes * (form.slack + share * self._size(form))
        return total + self._underflow(2 * len(node.inputs))

    def _proved_sides(self, form: _Form) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return both bounds in float64, and the error of forming them."""
        half = None if form.half is None else form.half.double()
        sides = _Form(form.middle.double(), half).sides()
        return sides, 4 * unit(torch.float64) * self._size(form)

    def _proved(
        self, forms: Float[Tensor, "batch inputs+1 rows"], error: Float[Tensor, "batch rows"]
    ) -> Float[Tensor, "batch rows"]:
        """Bound linear forms of the inputs from below, less an error, rounded down."""
        rows = self._rows(forms)
        minimum = add_below(forms[:, -1], proved_minimum(self._region, rows, self._center))
        return round_down(add_below(minimum, -error), self._center.dtype)

    def _proved_rows(
        self, form: _Form, rows: Float[Tensor, "#batch rows outputs"]
    ) -> Float[Tensor, "batch rows"]:
        """Compose each row with the output's bounds, and pay the rounding of that."""
        assert form.slack is not None, "all forms of a proved walk have slack"
        (lower, upper), error = self._proved_sides(form)
        composed = lower.flatten(2) @ rows.clamp(min=0).transpose(1, 2)
        composed = composed + upper.flatten(2) @ rows.clamp(max=0).transpose(1, 2)
        terms = rows.shape[2]
        share = gamma(2 * terms + 4, unit(torch.float64))
        each = form.slack + error + share * self._size(form)
        paid = summed_up((rows.abs() @ each.flatten(1).unsqueeze(2)).squeeze(2), terms)
        return lower_without_nan(self._proved(composed, paid))


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
