"""One operator between its lines: what does not change in a search is computed once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Graph, Nonlinear
from absolver.analyzer.search.cuts import GroupedByCuts
from absolver.analyzer.search.groups import AbstractGrouped, Grouped, Groups, Met, Minima, Proposal
from absolver.analyzer.search.touching import Touching, closed_form
from absolver.dsl.domain import Domain, Parameter
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval
from absolver.dsl.relaxation import relax

Columns = Mapping[str, Int[Tensor, " columns"]]
"""By name of a non-linear node: the neurons on which its operator may be inexact, flat."""

# Inexact neurons are handled by themselves where they are at most this share of a node's.
_MOST_COLUMNS = 0.8


@dataclass(frozen=True)
class Lines:
    """Lines around the inexact neurons of an operator."""

    lower: tuple[Float[Tensor, "batch rows columns"], ...]
    lower_offset: Float[Tensor, "batch rows columns"]
    upper: tuple[Float[Tensor, "batch rows columns"], ...]
    upper_offset: Float[Tensor, "batch rows columns"]
    given: Mapping[str, Tensor]
    """The values of parameters that they come from."""
    shares: Proposal | None = None
    """What of a row goes to groups of neurons, where there are any."""
    touch: tuple[Tensor | None, Tensor | None] = (None, None)
    """Where lower and upper lines that move touch the operator, in closed form."""


@dataclass(frozen=True)
class Taken:
    """The line that a row takes at each inexact neuron: the lower where it counts positive."""

    slopes: tuple[Float[Tensor, "batch rows columns"], ...]
    offset: Float[Tensor, "batch rows columns"]

    def at(self, operands: Sequence[Tensor]) -> Float[Tensor, "batch rows columns"]:
        """Return its values."""
        total = self.offset
        for slope, operand in zip(self.slopes, operands, strict=True):
            total = torch.addcmul(total, slope, operand)
        return total


@dataclass(frozen=True)
class Substituted:
    """What rows have found at an operator."""

    coefficients: Float[Tensor, "batch rows columns"]
    """Those of inexact results."""
    taken: Taken
    """What they have taken; with groups, what these have left of them."""
    minima: Minima | None = None
    """Those of groups."""


class Relaxed:
    """A non-linear node over boxes: exact where the operator is affine, lines elsewhere.

    Guarantee: `back` and `forth` are one row's substitution and the value of what it has taken,
    for whatever values the parameters have.
    """

    def __init__(
        self,
        node: Nonlinear,
        domain: Domain,
        box: Sequence[Interval],
        columns: Int[Tensor, " columns"] | None,
        groups: Groups | None = None,
    ) -> None:
        """Take the node's boxes `[batch, 1, *shape]`; columns of None stand for all neurons."""
        self.node = node
        self.domain = domain
        flat = [Interval(i.lower.flatten(2), i.upper.flatten(2)) for i in box]
        start = relax(node.operator, domain.slopes(node.operator, flat), flat)
        # Where the operator is exact both lines are the same.
        self.exact_slopes, self._offset = start.upper, start.upper_offset
        self.columns = columns
        self.box = [Interval(self.at(i.lower), self.at(i.upper)) for i in flat]
        self.parameters: Mapping[str, Parameter] = {
            name: parameter
            for name, parameter in domain.parameters(node.operator, self.box).items()
            if bool((parameter.lower < parameter.upper).any())
        }
        self._touching = self._closed_form()
        self._grouped = None if groups is None else self._grouping(groups)
        if self._grouped is not None:
            self.parameters = {**self.parameters, **self._grouped.parameters}
        self._fixed = Lines(
            tuple(self.at(slope) for slope in start.lower),
            self.at(start.lower_offset),
            tuple(self.at(slope) for slope in start.upper),
            self.at(start.upper_offset),
            {},
            None if self._grouped is None else self._grouped.shares({}),
        )
        self.lower_moves, self.upper_moves = self._which_move()

    def at(self, flat: Float[Tensor, "batch rows n"]) -> Float[Tensor, "batch rows columns"]:
        """Return the values of the inexact neurons."""
        return flat if self.columns is None else flat.index_select(2, self.columns)

    def lines(self, values: Mapping[str, Tensor], *, gradients: bool = False) -> Lines:
        """Return the lines that values of the parameters give."""
        known = {name: values[name] for name in self.parameters if name in values}
        if not known:
            return self._fixed
        fixed = self._fixed
        shares = None if self._grouped is None else self._grouped.shares(known)
        lower, lower_offset = fixed.lower, fixed.lower_offset
        upper, upper_offset = fixed.upper, fixed.upper_offset
        if self._touching is not None:
            below, above = self._touching.lines(known)
            if below is not None:
                lower, lower_offset = (below.slope,), below.offset
            if above is not None:
                upper, upper_offset = (above.slope,), above.offset
            touch = None if below is None else below.touch, None if above is None else above.touch
            return Lines(lower, lower_offset, upper, upper_offset, known, shares, touch)
        with torch.set_grad_enabled(gradients):
            if gradients:
                known = {name: value.detach().requires_grad_() for name, value in known.items()}
            operator = self.node.operator
            slopes = self.domain.slopes(operator, self.box, known)
            one = torch.ones_like(fixed.lower_offset)
            if self.lower_moves:
                lower = slopes.lower
                lower_offset = operator.support([-s for s in lower], one, self.box)
            if self.upper_moves:
                upper = slopes.upper
                upper_offset = -operator.support(upper, -one, self.box)
            return Lines(lower, lower_offset, upper, upper_offset, known, shares)

    def back(
        self, lines: Lines, a: Float[Tensor, "batch rows *shape"]
    ) -> tuple[Substituted, list[Float[Tensor, "batch rows *shape"]]]:
        """Substitute lines into a row: what it finds at the inexact neurons, and the result."""
        flat = a.flatten(2)
        inexact = left = self.at(flat)
        added, minima = None, None
        if self._grouped is not None and lines.shares is not None:
            with torch.no_grad():
                slope = own_slope(lines, inexact)
                left, added, minima = self._grouped.back(inexact, slope, lines.shares)
        with torch.no_grad():
            taken = taken_by(left, lines)
        results = []
        for exact, slope in zip(self.exact_slopes, taken.slopes, strict=True):
            own = left * slope if added is None else torch.addcmul(added, left, slope)
            if self.columns is not None:
                own = (flat * exact).index_copy_(2, self.columns, own)
            results.append(own.view_as(a))
        return Substituted(inexact, taken, minima), results

    def forth(
        self,
        lines: Lines,
        found: Substituted | None,
        values: Mapping[str, Float[Tensor, "batch rows *shape"]],
    ) -> tuple[Float[Tensor, "batch rows *shape"], list[Float[Tensor, "batch rows columns"]]]:
        """Evaluate the lines that a row has taken, and the operator where it is exact.

        The second result are the operands at the inexact neurons.
        """
        operands = [values[name].flatten(2) for name in self.node.inputs]
        at_columns = [self.at(operand) for operand in operands]
        if found is None:
            none = torch.zeros_like(at_columns[0])
            with torch.no_grad():
                found = Substituted(none, taken_by(none, lines))
        own = found.taken.at(at_columns)
        if self._grouped is not None and lines.shares is not None and found.minima is not None:
            with torch.no_grad():
                a, (x,) = found.coefficients, at_columns
                slope, minima = own_slope(lines, a), found.minima
                own = self._grouped.forth(Met(a, slope, lines.shares, minima, x, own))
        if self.columns is not None:
            total = self._offset
            for slope, operand in zip(self.exact_slopes, operands, strict=True):
                total = torch.addcmul(total, slope, operand)
            own = total.index_copy_(2, self.columns, own)
        return torch.unflatten(own, 2, self.node.shape), at_columns

    def gradients(
        self, lines: Lines, found: Substituted, operands: Sequence[Tensor]
    ) -> Mapping[str, Float[Tensor, "batch rows columns"]]:
        """Return the gradients of `a · (lines at the operands)` in the parameters.

        `operands` are those at the inexact neurons.
        """
        if not lines.given:
            return {}
        a, minima = found.coefficients, found.minima
        if self._grouped is None or lines.shares is None or minima is None:
            return self._own_gradients(lines, a, operands)
        (x,), shares = operands, lines.shares
        with torch.no_grad():
            left, pull = self._grouped.pulls(a, shares, minima, x)
            along, slope = found.taken.at(operands), own_slope(lines, a)
            known = self._grouped.gradients(Met(a, slope, shares, minima, x, along))
        own = self._own_gradients(lines, left, operands, (a, pull))
        return {**own, **{name: known[name] for name in lines.given if name in known}}

    def _own_gradients(
        self,
        lines: Lines,
        a: Tensor,
        operands: Sequence[Tensor],
        groups: tuple[Tensor, Tensor] | None = None,
    ) -> Mapping[str, Tensor]:
        """Return the gradients in the domain's own parameters.

        `groups` are the coefficients that groups have met, and what they add to the gradients in
        the slopes that these have chosen.
        """
        of_groups = () if self._grouped is None else self._grouped.parameters
        own = {name: value for name, value in lines.given.items() if name not in of_groups}
        if not own:
            return {}
        if self._touching is not None:
            (x,) = operands
            lower, upper = self._touching.pulls(a, x, lines.touch)
            if groups is not None:
                met, pull = groups
                lower, upper = lower + pull * (met > 0), upper + pull * (met <= 0)
            return self._touching.gradients((lower, upper), own)
        with torch.enable_grad():
            total = (a * taken_by(a, lines).at(operands)).sum()
            if groups is not None:
                met, pull = groups
                total = total + (pull * own_slope(lines, met)).sum()
            if not total.requires_grad:
                return {}
            gradients = torch.autograd.grad(total, list(own.values()), allow_unused=True)
        grown = zip(own, gradients, strict=True)
        return {name: each for name, each in grown if each is not None}

    def _closed_form(self) -> Touching | None:
        """Return the closed form of lines, where the operator and the domain have one."""
        operator = self.node.operator
        if not self.parameters or not isinstance(operator, PiecewiseLinear):
            return None
        return closed_form(operator, self.domain, self.box[0], self.parameters)

    def shares(
        self, lines: Lines, found: Substituted | None
    ) -> tuple[Float[Tensor, "batch rows groups k"], ...]:
        """Return the shares and the tilts of rows as certificates have them, if there are any."""
        if self._grouped is None or lines.shares is None:
            return ()
        a = torch.zeros_like(lines.lower[0]) if found is None else found.coefficients
        return self._grouped.written(a, own_slope(lines, a), lines.shares)

    def _grouping(self, groups: Groups) -> AbstractGrouped:
        """Place groups among the inexact neurons; where boxes are exact they take no part."""
        operator, count = self.node.operator, self.exact_slopes[0].shape[2]
        assert isinstance(operator, PiecewiseLinear), "the language groups no other operator"
        place = torch.arange(count, device=groups.members.device)
        if self.columns is not None:
            place = torch.zeros_like(place).index_copy(0, self.columns, place[: len(self.columns)])
        exact, _ = operator.affine_on([Interval(*(side.squeeze(1) for side in self.box[0]))])
        kind = Grouped if groups.normals is None else GroupedByCuts
        return kind(operator, groups, place, exact)

    def _which_move(self) -> tuple[bool, bool]:
        """Say on which sides slopes depend on parameters."""
        if self._touching is not None:
            return self._touching.lower is not None, self._touching.upper is not None
        with torch.enable_grad():
            given = {n: p.start.detach().requires_grad_() for n, p in self.parameters.items()}
            slopes = self.domain.slopes(self.node.operator, self.box, given)
        return (
            any(slope.requires_grad for slope in slopes.lower),
            any(slope.requires_grad for slope in slopes.upper),
        )


def own_slope(lines: Lines, a: Tensor) -> Tensor:
    """Return the slopes of the lines that a row's coefficients take, of a single operand."""
    return torch.where(a > 0, lines.lower[0], lines.upper[0])


def taken_by(a: Float[Tensor, "batch rows columns"], lines: Lines) -> Taken:
    """Return the lines that a row's coefficients take."""
    below = a > 0
    slopes = zip(lines.lower, lines.upper, strict=True)
    return Taken(
        tuple(torch.where(below, lower, upper) for lower, upper in slopes),
        torch.where(below, lines.lower_offset, lines.upper_offset),
    )


def inexact_columns(graph: Graph, boxes: Mapping[str, Interval]) -> Columns:
    """Find the neurons on which operators are inexact on some element, where not most of them are.

    `boxes` has those of operands, `[batch, *shape]`.
    """
    found: dict[str, Tensor] = {}
    for node in graph.joined.nodes:
        if isinstance(node, Nonlinear):
            affine, _ = node.operator.affine_on([boxes[name] for name in node.inputs])
            inexact = (~affine).flatten(1).any(0)
            if int(inexact.sum()) <= _MOST_COLUMNS * inexact.numel():
                found[node.name] = inexact.nonzero().squeeze(1)
    return found
