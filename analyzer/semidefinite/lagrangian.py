"""The Lagrangian of a relaxation: a quadratic form of w for each row, linear in the multipliers.

    F(w) = w0 (objective · outputs) - sum of multiplier * (left * right + w0 rest) = w · M w / 2

At every run from the input set F is at most the objective, if multipliers of inequalities are not
negative. With charges kappa for which M + diag(kappa) is positive semidefinite,

    objective >= -(kappa_0 + sum of max(kappa_i, 0)) / 2,

since w0 = 1 and squares of the others are in [0, 1]: kappa are the multipliers of the variables'
own boxes (Dathathri et al., NeurIPS 2020, proposition 1, with M's corner in M).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.semidefinite.relaxation import Constraint, Forms, Relaxation

MOST_DENSE = 400
"""Up to this size matrices are written out and decomposed."""

Multipliers = Float[Tensor, "rows places"]
"""For all places of all constraints, in their order; not negative unless it is an equality."""


@dataclass(frozen=True)
class Point:
    """A proposal: multipliers of constraints, and charges of the variables.

    The first charge is that of the constant. Any numbers prove something, if multipliers of
    inequalities are not negative.
    """

    multipliers: Multipliers
    charges: Float[Tensor, "rows size"]

    def select(self, rows: Tensor) -> "Point":
        """Return the proposals for some rows."""
        return Point(self.multipliers[rows], self.charges[rows])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Point":
        """Return the proposals on a device and in a dtype."""
        return Point(self.multipliers.to(device, dtype), self.charges.to(device, dtype))


class Lagrangian:
    """Values and products with M, through the network's linear maps: no matrix is made."""

    def __init__(self, relaxation: Relaxation) -> None:
        """Keep the relaxation."""
        self.relaxation = relaxation

    def left_sides(
        self, w: Float[Tensor, "rows vectors size"]
    ) -> Float[Tensor, "rows vectors places"]:
        """Evaluate all constraints' left sides."""
        values, w0 = self._values(w), w[:, :, 0]
        sides = [self._left_side(c, w0, values) for c in self.relaxation.constraints]
        return torch.cat([w.new_zeros(*w.shape[:2], 0), *sides], 2)

    def corner(self, multipliers: Multipliers) -> Float[Tensor, "rows"]:
        """Return M's first entry: twice F at the center of all boxes."""
        return self.first_column(multipliers)[:, 0]

    def matrix(self, multipliers: Multipliers) -> Float[Tensor, "rows size size"]:
        """Write M out."""
        relaxation = self.relaxation
        like = relaxation.objective
        basis = torch.eye(relaxation.size, dtype=like.dtype, device=like.device)
        matrix = self.product(multipliers, basis.expand(relaxation.rows, -1, -1))
        return (matrix + matrix.mT) / 2

    def product(
        self, multipliers: Multipliers, w: Float[Tensor, "rows vectors size"]
    ) -> Float[Tensor, "rows vectors size"]:
        """Return M w: the gradient of F."""
        relaxation = self.relaxation
        values, w0 = self._values(w), w[:, :, 0]
        output = relaxation.graph.output.name
        pull = {output: relaxation.objective.unsqueeze(1) * w0.unsqueeze(2)}
        result = torch.zeros_like(w)
        rows = relaxation.objective.unsqueeze(2)
        result[:, :, 0] += (values[output] @ rows).squeeze(2)
        for constraint, span in zip(relaxation.constraints, relaxation.spans, strict=True):
            weight = -multipliers[:, span].unsqueeze(1)
            if constraint.factors is not None:
                left, right = constraint.factors
                on_left = weight * right.at(values, w0)
                on_right = weight * left.at(values, w0)
                self._pull(left, on_left, pull, result, values)
                self._pull(right, on_right, pull, result, values)
            if (rest := constraint.rest) is not None:
                result[:, :, 0] += (weight * rest.at(values, w0)).sum(2)
                self._pull(rest, weight * w0.unsqueeze(2), pull, result, values)
        flat = {name: a.flatten(0, 1) for name, a in pull.items()}
        return relaxation.backward(flat, result.flatten(0, 1)).view_as(w)

    def first_column(self, multipliers: Multipliers) -> Float[Tensor, "rows size"]:
        """Return the product of M and the constant's vector."""
        like = self.relaxation.objective
        w = like.new_zeros(len(like), 1, self.relaxation.size)
        w[:, :, 0] = 1
        return self.product(multipliers, w).squeeze(1)

    def _values(self, w: Float[Tensor, "rows vectors size"]) -> dict[str, Tensor]:
        """Evaluate every node, `[rows, vectors, n]`."""
        flat = self.relaxation.forward(w.flatten(0, 1))
        return {name: torch.unflatten(value, 0, w.shape[:2]) for name, value in flat.items()}

    def _left_side(
        self, constraint: Constraint, w0: Tensor, values: Mapping[str, Tensor]
    ) -> Tensor:
        total: Tensor | None = None
        if constraint.factors is not None:
            left, right = constraint.factors
            total = left.at(values, w0) * right.at(values, w0)
        if constraint.rest is not None:
            part = w0.unsqueeze(2) * constraint.rest.at(values, w0)
            total = part if total is None else total + part
        assert total is not None, "a constraint has a left side"
        return total

    def _pull(
        self,
        forms: Forms,
        a: Float[Tensor, "rows vectors m"],
        pull: dict[str, Tensor],
        result: Tensor,
        values: Mapping[str, Tensor],
    ) -> None:
        """Add what pulls on forms to what pulls on neurons, and on the constant."""
        result[:, :, 0] += (a * forms.constant.unsqueeze(1)).sum(2)
        for name, index, coefficient in forms.terms:
            if name not in pull:
                pull[name] = torch.zeros_like(values[name])
            pull[name].index_add_(2, index, a * coefficient.unsqueeze(1))


class WrittenOut(Lagrangian):
    """The same with all forms written out as linear forms of w: for small relaxations."""

    def __init__(self, relaxation: Relaxation) -> None:
        """Write the forms out."""
        super().__init__(relaxation)
        like, size = relaxation.objective, relaxation.size
        basis = torch.eye(size, dtype=like.dtype, device=like.device)
        columns = relaxation.forward(basis)
        self._left, self._right, self._rest = (
            torch.cat([like.new_zeros(1, size, 0).expand(rows, -1, -1), *written], 2)
            for rows, written in (_stacked(relaxation, columns, part) for part in range(3))
        )
        outputs = columns[relaxation.graph.output.name]
        self._objective = relaxation.objective @ outputs.mT

    def left_sides(
        self, w: Float[Tensor, "rows vectors size"]
    ) -> Float[Tensor, "rows vectors places"]:
        """Evaluate all constraints' left sides."""
        return (w @ self._left) * (w @ self._right) + w[:, :, :1] * (w @ self._rest)

    def corner(self, multipliers: Multipliers) -> Float[Tensor, "rows"]:
        """Return M's first entry: twice F at the center of all boxes."""
        sides = self._left[:, 0] * self._right[:, 0] + self._rest[:, 0]
        return 2 * (self._objective[:, 0] - (multipliers * sides).sum(1))

    def matrix(self, multipliers: Multipliers) -> Float[Tensor, "rows size size"]:
        """Write M out."""
        half = -(self._left * multipliers.unsqueeze(1)) @ self._right.mT
        linear = self._objective - (self._rest @ multipliers.unsqueeze(2)).squeeze(2)
        half[:, 0] += linear
        return half + half.mT


def _stacked(
    relaxation: Relaxation, columns: Mapping[str, Tensor], part: int
) -> tuple[int, list[Tensor]]:
    """Write left factors (0), right ones (1) or rests (2) of all constraints out."""
    values = {name: value.unsqueeze(0) for name, value in columns.items()}
    w0 = torch.zeros_like(relaxation.objective[:1, :1]).repeat(1, relaxation.size)
    w0[0, 0] = 1
    found: list[Tensor] = []
    for constraint in relaxation.constraints:
        forms = (*(constraint.factors or (None, None)), constraint.rest)[part]
        none = w0.new_zeros(1, relaxation.size, constraint.places)
        found.append(none if forms is None else forms.at(values, w0))
    rows = max((len(each) for each in found), default=1)
    return rows, [each.expand(rows, -1, -1) for each in found]


def lagrangian_of(relaxation: Relaxation) -> Lagrangian:
    """Return the Lagrangian of a relaxation in the form that is faster."""
    return (WrittenOut if relaxation.size <= MOST_DENSE else Lagrangian)(relaxation)


def estimate(point: Point) -> Float[Tensor, "rows"]:
    """Return what a proposal proves if its charges are enough, as they are said to be."""
    return bound(point.charges, torch.zeros_like(point.charges[:, 0]))


def bound(charges: Float[Tensor, "rows size"], least: Float[Tensor, "rows"]) -> Tensor:
    """Return what charges prove where `least` is at most the least eigenvalue of M + diag(charges).

    `-(kappa_0 - least + sum of max(kappa_i - least, 0)) / 2`.
    """
    left = charges - least.unsqueeze(1)
    return -(left[:, 0] + left[:, 1:].clamp(min=0).sum(1)) / 2
