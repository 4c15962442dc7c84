"""Groups of an operator's neurons in a linear program: the hull of what they can be together.

A group's operands and results are a mean of the points among which forms of them are least, each
with the operator's values there. That is the convex hull of k-ReLU (Singh et al., NeurIPS 2019) by
its corners: no faces are computed, and its multipliers are shares and slope vectors of a row.
"""

import numpy as np
import torch

from absolver.analyzer.graph.graph import Nonlinear
from absolver.analyzer.programs.encoding import View
from absolver.analyzer.programs.highs import LinearProgram
from absolver.analyzer.programs.program import Array, Numbers, Rows
from absolver.analyzer.search.groups import Groups

# What a row gives to a group whose neuron it hardly has says nothing.
_LEAST = 1e-9


class GroupHulls:
    """The hulls of the groups of one operator's node."""

    def __init__(
        self, node: Nonlinear, groups: Groups, views: tuple[View, View], program: LinearProgram
    ) -> None:
        """Add the hulls to a program; the views are those of the operand and of the result."""
        self._members: Numbers = groups.members[0].cpu().numpy()
        points = groups.points[0].double().cpu()
        values = node.operator(points)
        operand, result = views
        self._of_operand = np.zeros(self._members.shape, np.int64)
        self._of_result = np.zeros(self._members.shape, np.int64)
        for number, members in enumerate(self._members):
            corners = torch.unique(torch.cat([points[number], values[number]], 1), dim=0).numpy()
            count, size = len(corners), len(members)
            weights = program.add_variables(np.zeros(count), np.full(count, np.inf))
            terms = [(weights, np.ones(count))]
            for place, view in ((0, operand), (size, result)):
                for i, member in enumerate(members):
                    columns = np.append(weights, view.column[member])
                    terms.append((columns, np.append(-corners[:, place + i], view.sign[member])))
            ends = np.append(1.0, np.zeros(2 * size))
            rows = program.add(Rows.of(terms, ends, ends))
            self._of_operand[number] = rows[1 : 1 + size]
            self._of_result[number] = rows[1 + size :]

    def shares(self, duals: Array, lines: Array, slope: Array) -> tuple[Array, Array]:
        """Say what a row gives to groups, and by how much their slopes differ from its lines'.

        `lines` has the coefficients that neurons' lines take of a row, `slope` the lines' slopes.
        """
        taken, mu = duals[self._of_result], -duals[self._of_operand]
        whole = lines.copy()
        np.add.at(whole, self._members, taken)
        at = whole[self._members]
        some = np.abs(at) > _LEAST * np.abs(duals).max(initial=0.0)
        share = np.where(some, taken / np.where(some, at, 1.0), 0.0)
        kept = at * share
        size = np.abs(kept).sum(1, keepdims=True)
        away = (mu - kept * slope[self._members]) / np.where(size > 0, size, 1.0)
        return share, np.where(size > 0, away, 0.0)
