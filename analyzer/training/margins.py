"""Rows whose bounds are margins: the label's logit less another one."""

import torch
from torch import Tensor

from absolver.dsl.domain import Carrier, Domain

# So many rows serve all labels of a batch in one product with the last layer; where there are
# more classes, the rows of each point's own label are fewer.
MOST_SHARED = 20 * 19


def margin_rows(
    classes: int, y: Tensor, domain: Domain, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Return rows `[#batch, rows, classes]`, and which of the bounds belong to each point.

    Over values the rows of all labels are bounded at once, as the last layer's matrix of all
    differences is the same for all points; None means that the rows are the points' own.
    """
    identity = torch.eye(classes, dtype=dtype, device=y.device)
    others = torch.arange(classes - 1, device=y.device)
    shared = classes * (classes - 1) <= MOST_SHARED
    if domain.carrier is Carrier.VALUES and not domain.factors and domain.parts == 1 and shared:
        label = torch.arange(classes, device=y.device).unsqueeze(1)
        rows = identity.unsqueeze(1) - identity[others + (others >= label)]
        return rows.flatten(0, 1).unsqueeze(0), y.unsqueeze(1) * (classes - 1) + others
    label = y.unsqueeze(1)
    return identity[label] - identity[others + (others >= label)], None
