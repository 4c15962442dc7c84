"""Cuts of groups of neurons: valid inequalities that rows take multiples of.

A cut is `q · y + p · x >= c` for a group's results and operands, with a normal that the domain
proposes and the least value c over the group's octahedron. A row takes a multiple m >= 0 of it,
`a · y >= (a - m q) · y + m (c - p · x)`, which is searched (Singh et al., "Beyond the single neuron
convex barrier", 2019; weak duality). A certificate has it as the groups' shares `m q` with slope
vectors `-m p`, whose least value is m c: so the rule for groups is the rule for cuts.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.search.groups import CUT, AbstractGrouped, Groups, Met, Minima, Proposal
from absolver.dsl.domain import Parameter
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear

# Multiples in the mean coefficient that a row has on a group: what is over passes by lines.
_MOST = 1.5


class GroupedByCuts(AbstractGrouped):
    """The cuts of an operator's groups for a batch of rows, one multiplier for each cut.

    A row without a coefficient on a neuron of a cut takes nothing of it.
    """

    def __init__(
        self, operator: PiecewiseLinear, groups: Groups, place: Tensor, exact: Tensor
    ) -> None:
        """Take groups with normals, the columns `place` of all neurons, and exact columns."""
        super().__init__(operator, groups, place, exact)
        assert groups.normals is not None, "these groups are of cuts"
        self._q, self._p = (part.unsqueeze(1) for part in groups.normals.unbind(2))
        form = self._values * self._q.unsqueeze(3) + self._points * self._p.unsqueeze(3)
        self._constant = form.sum(4).amin(3)
        self._size = self._q.abs().sum(3)
        usable = self._active.any(3) & (self._size > 0) & self._constant.isfinite()
        most = _MOST * usable.to(self._q)
        none = torch.zeros_like(most)
        self.parameters = {CUT: Parameter(none, none, most, shared=False)}

    def back(self, a: Tensor, slope: Tensor, proposal: Proposal) -> tuple[Tensor, Tensor, Minima]:
        """Return what cuts leave of a row, and the row of the operands that they bring."""
        del slope
        multiples = self._multiples(a, proposal).unsqueeze(3)
        left = a - self._total(multiples * self._q)
        return left, self._total(-multiples * self._p), Minima()

    def forth(self, met: Met) -> Float[Tensor, "batch rows columns"]:
        """Return the derivative of what a row is worth in its coefficients, multiples included."""
        rise = self._rate(met.a, met.proposal) * self._gain(met.x, met.along)
        return met.along + met.a.sign() * self._total(
            rise.unsqueeze(3).expand(*rise.shape, self._shape[1])
        )

    def gradients(self, met: Met) -> Mapping[str, Float[Tensor, "batch rows cuts"]]:
        """Return the gradients of what rows are worth in the multipliers."""
        one = {CUT: torch.ones_like(met.proposal[CUT])}
        return {CUT: self._multiples(met.a, one) * self._gain(met.x, met.along)}

    def pulls(
        self, a: Tensor, proposal: Proposal, minima: Minima, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what cuts leave of a row; the neurons' own slopes have no part in them."""
        del minima, x
        left = a - self._total(self._multiples(a, proposal).unsqueeze(3) * self._q)
        return left, torch.zeros_like(a)

    def written(self, a: Tensor, slope: Tensor, proposal: Proposal) -> tuple[Tensor, Tensor]:
        """Return multiples as shares and tilts of the rows' coefficients."""
        at, multiples = self._at(a), self._multiples(a, proposal).unsqueeze(3)
        taken = multiples * self._q
        share = torch.where(taken == 0, 0.0, taken / torch.where(at == 0, 1.0, at))
        total = taken.abs().sum(3, keepdim=True)
        tilted = -multiples * self._p - taken * self._at(slope)
        return share, torch.where(total > 0, tilted / torch.where(total > 0, total, 1.0), 0.0)

    def _rate(self, a: Tensor, proposal: Proposal) -> Float[Tensor, "batch rows cuts"]:
        """Return by how much a multiple grows with the size of each coefficient."""
        met = ((self._at(a) != 0) | (self._q == 0)).all(3)
        return torch.where(met & (self._size > 0), proposal[CUT] / self._size, 0.0)

    def _multiples(self, a: Tensor, proposal: Proposal) -> Float[Tensor, "batch rows cuts"]:
        return self._rate(a, proposal) * self._at(a).abs().sum(3)

    def _gain(self, x: Tensor, line: Tensor) -> Float[Tensor, "batch rows cuts"]:
        """Return how much more a cut knows than the lines: what a multiple is worth."""
        return self._constant - (self._at(x) * self._p + self._at(line) * self._q).sum(3)
