"""What a violation leaves of an input box: every form of its clause is at most the bound there."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.analyzer.propagate.propagator import Forms, lower_without_nan
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.polytope import Polytope

Box = tuple[Float[Tensor, "sets inputs"], Float[Tensor, "sets inputs"]]


@dataclass(frozen=True, eq=False)
class Limits:
    """Linear forms of the input on boxes, each at most its bound where a clause that has it is met.

    The first ones are those behind the rows of a specification, then come the half-spaces that
    cut the sets, which all clauses have.
    """

    coefficients: Float[Tensor, "sets rows inputs"]
    least: Float[Tensor, "sets rows"]
    """Their minima over the boxes."""
    bound: Float[Tensor, "sets rows"]
    member: Bool[Tensor, "sets clauses rows"]
    cuts: int = 0
    """How many of the rows are half-spaces."""

    @classmethod
    def of(cls, part: Specification, forms: Forms, box: Box) -> Self:
        """Take the forms behind the rows of a specification, which are around the boxes' middle."""
        slope = forms.coefficients.flatten(2)
        least = lower_without_nan(forms.at_center - _reach(slope, box))
        return cls(slope, least, part.bound, part.member)

    def cut_by(self, polytope: Polytope, box: Box) -> Self:
        """Return these limits and the half-spaces of polytopes; those of padding say nothing."""
        matrix = polytope.matrix.flatten(2)
        every = self.member.new_ones(*self.member.shape[:2], matrix.shape[1])
        return replace(
            self,
            coefficients=torch.cat([self.coefficients, matrix], 1),
            least=torch.cat([self.least, least_of(matrix, box)], 1),
            bound=torch.cat([self.bound, polytope.bound], 1),
            member=torch.cat([self.member, every], 2),
            cuts=matrix.shape[1],
        )

    def select(self, index: Int[Tensor, "chosen"]) -> "Limits":
        """Return the limits on some of the boxes."""
        return replace(
            self,
            coefficients=self.coefficients[index],
            least=self.least[index],
            bound=self.bound[index],
            member=self.member[index],
        )

    def smear(self, box: Box, open_: Bool[Tensor, "sets clauses"]) -> Float[Tensor, "sets inputs"]:
        """Say how much the limits of open clauses vary along each coordinate of the boxes.

        The smear of coefficients (Kearfott, "Rigorous Global Search", 1996), summed over the forms
        of open clauses; half-spaces that boxes are not all in vary as much as all of these do.
        """
        width = (box[1] - box[0]).unsqueeze(1)
        used = (self.member & open_.unsqueeze(2)).any(dim=1).unsqueeze(2)
        varies = torch.where(used, self.coefficients.abs(), 0.0) * width
        varies = torch.nan_to_num(varies, nan=0.0, posinf=0.0)
        rows = self.bound.shape[1] - self.cuts
        total = varies[:, :rows].sum(1)
        if self.cuts:
            cuts, whole = varies[:, rows:], total.sum(1, keepdim=True)
            scale = whole / cuts.sum(2).clamp(min=torch.finfo(cuts.dtype).tiny)
            scale = torch.where(whole > 0, scale, 1.0)
            most = -least_of(-self.coefficients[:, rows:], box)
            scale = torch.where(most > self.bound[:, rows:], scale, 0.0)
            total = total + (scale.unsqueeze(2) * cuts).sum(1)
        return total


def clip(limits: Limits, box: Box, open_: Bool[Tensor, "sets clauses"]) -> Box:
    """Shrink boxes to what the open clauses leave of them; an empty box has lower above upper.

    A point that meets a clause meets each of its constraints, so that each linear form behind them
    is at most its bound: over the rest of the box, that leaves a shorter interval of every
    coordinate (Clip-and-Verify, Zhou et al. 2025). Of several open clauses the hull remains.

    Guarantee: no point of a box that meets an open clause is lost, as far as the clauses' bounds
    have room for the rounding in `forms`.
    """
    lower, upper = box
    slope, member = limits.coefficients, limits.member
    gap = (limits.bound - limits.least).clamp(min=0)
    slack = torch.finfo(lower.dtype).eps ** 0.5
    # From the corner where the form is least it can go so far until it exceeds the bound.
    reach = gap.unsqueeze(2) / slope.abs() * (1 + slack)
    reach = torch.nan_to_num(reach, nan=torch.inf) + slack * (upper - lower).unsqueeze(1)
    highest = torch.where(slope > 0, lower.unsqueeze(1) + reach, torch.inf)
    lowest = torch.where(slope < 0, upper.unsqueeze(1) - reach, -torch.inf)
    hull_lower, hull_upper = torch.full_like(lower, torch.inf), torch.full_like(upper, -torch.inf)
    for clause in range(open_.shape[1]):
        used = member[:, clause].unsqueeze(2)
        left = torch.where(used, lowest, -torch.inf).amax(1).maximum(lower)
        right = torch.where(used, highest, torch.inf).amin(1).minimum(upper)
        counts = open_[:, clause : clause + 1] & (left <= right).all(1, keepdim=True)
        hull_lower = torch.where(counts, hull_lower.minimum(left), hull_lower)
        hull_upper = torch.where(counts, hull_upper.maximum(right), hull_upper)
    return hull_lower, hull_upper


def outside(polytope: Polytope, box: Box) -> Bool[Tensor, "sets"]:
    """Say which boxes lie outside of a half-space of their polytope, by more than sums round."""
    matrix, bound = polytope.matrix.flatten(2), polytope.bound
    reach = torch.maximum(*(side.abs() for side in box)).unsqueeze(2)
    size = (matrix.abs() @ reach).squeeze(2) + bound.abs()
    rounding = 2 * (matrix.shape[2] + 4) * torch.finfo(bound.dtype).eps * size
    return (least_of(matrix, box) - bound > rounding).any(dim=1)


def least_of(slope: Float[Tensor, "sets rows inputs"], box: Box) -> Float[Tensor, "sets rows"]:
    """Return the minima of linear forms over boxes."""
    middle = (box[0] / 2 + box[1] / 2).unsqueeze(2)
    return (slope @ middle).squeeze(2) - _reach(slope, box)


def _reach(slope: Tensor, box: Box) -> Float[Tensor, "sets rows"]:
    """Say how far forms fall from the middle of boxes to their corners."""
    return (slope.abs() * (box[1] / 2 - box[0] / 2).unsqueeze(1)).sum(2)
