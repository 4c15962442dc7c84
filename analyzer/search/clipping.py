"""What a violation leaves of an input box: every form of its clause is at most the bound there."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.propagate.propagator import Forms, lower_without_nan
from absolver.analyzer.properties.specification import Specification

Box = tuple[Float[Tensor, "sets inputs"], Float[Tensor, "sets inputs"]]


def clip(part: Specification, forms: Forms, box: Box, open_: Bool[Tensor, "sets clauses"]) -> Box:
    """Shrink boxes to what the open clauses leave of them; an empty box has lower above upper.

    A point that meets a clause meets each of its constraints, so that each linear form behind them
    is at most its bound: over the rest of the box, that leaves a shorter interval of every
    coordinate (Clip-and-Verify, Zhou et al. 2025). Of several open clauses the hull remains.

    Guarantee: no point of a box that meets an open clause is lost, as far as the clauses' bounds
    have room for the rounding in `forms`.
    """
    lower, upper = box
    slope = forms.coefficients.flatten(2)
    gap = (part.bound - _least(part, forms, box)).clamp(min=0)
    slack = torch.finfo(lower.dtype).eps ** 0.5
    # From the corner where the form is least it can go so far until it exceeds the bound.
    reach = gap.unsqueeze(2) / slope.abs() * (1 + slack)
    reach = torch.nan_to_num(reach, nan=torch.inf) + slack * (upper - lower).unsqueeze(1)
    highest = torch.where(slope > 0, lower.unsqueeze(1) + reach, torch.inf)
    lowest = torch.where(slope < 0, upper.unsqueeze(1) - reach, -torch.inf)
    hull_lower, hull_upper = torch.full_like(lower, torch.inf), torch.full_like(upper, -torch.inf)
    for clause in range(open_.shape[1]):
        used = part.member[:, clause].unsqueeze(2)
        left = torch.where(used, lowest, -torch.inf).amax(1).maximum(lower)
        right = torch.where(used, highest, torch.inf).amin(1).minimum(upper)
        counts = open_[:, clause : clause + 1] & (left <= right).all(1, keepdim=True)
        hull_lower = torch.where(counts, hull_lower.minimum(left), hull_lower)
        hull_upper = torch.where(counts, hull_upper.maximum(right), hull_upper)
    return hull_lower, hull_upper


def _least(part: Specification, forms: Forms, box: Box) -> Float[Tensor, "sets rows"]:
    """Return the forms' minima over boxes: where constraints cut the sets, those are larger."""
    lower, upper = box
    slope = forms.coefficients.flatten(2)
    low, high = (side.flatten(1) for side in part.region.bounding_box())
    # The forms are written around the middle of the box around the set.
    shift = (lower / 2 + upper / 2 - (low / 2 + high / 2)).unsqueeze(1)
    radius = (upper / 2 - lower / 2).unsqueeze(1)
    around = (slope * shift).sum(2) - (slope.abs() * radius).sum(2)
    return lower_without_nan(forms.at_center + around)
