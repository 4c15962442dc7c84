"""Loss fusion: the cross-entropy as one row to be bounded, whatever the number of classes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from absolver.analyzer.training.batch import Batch
from absolver.analyzer.training.margins import MOST_SHARED
from absolver.analyzer.training.terms.certified import Between
from absolver.dsl.domain import Domain


@dataclass(frozen=True)
class FusedCrownIbp(Between):
    """CROWN-IBP with loss fusion (Xu et al. 2020, section 3.3).

    The sum of exp(z_j - z_y) over all classes j lies under chords over intervals of its exponents,
    and their sum is one linear form of the logits: one row goes back through the network.

    Guarantee: no point of a set has a larger cross-entropy, up to rounding.
    """

    def __call__(self, batch: Batch) -> Tensor:
        """Return the loss of each set."""
        share = self.prepared(batch)
        lower, upper = difference_bounds(batch, self.first)
        # All is divided by the largest term there may be, so that nothing overflows.
        top = upper.amax(1, keepdim=True)
        high, low = torch.exp(upper - top), torch.exp(lower - top)
        total = high.sum(1)
        if share:
            fused = self._fused(batch, (lower, upper), (low, high))
            total = share * fused + (1 - share) * total
        # The label's own term is exactly 1, and no other is negative.
        least = torch.exp(-top.squeeze(1)).clamp(min=torch.finfo(total.dtype).tiny)
        return top.squeeze(1) + torch.maximum(total, least).log()

    def _fused(
        self, batch: Batch, ends: tuple[Tensor, Tensor], values: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Bound the sum of the chords from above."""
        (lower, upper), (low, high) = ends, values
        width = upper - lower
        # In a point, as the label's own difference is one, any slope will do: e^l is its value.
        slope = torch.where(width > 0, (high - low) / torch.where(width > 0, width, 1.0), 0.0)
        offset = (low - slope * lower).sum(1)
        label = batch.y.unsqueeze(1)
        row = slope.scatter(1, label, 0.0)
        row = row.scatter(1, label, -row.sum(1, keepdim=True))
        found = batch.bounded(-row.unsqueeze(1), self.second, batch.region)
        return offset - found.rows.squeeze(1)


def difference_bounds(batch: Batch, domain: Domain) -> tuple[Tensor, Tensor]:
    """Bound z_j - z_y over the sets for each class j and the label y, both 0 for j = y.

    For few classes the difference is one with the last layer; for many the bounds of the logits
    are subtracted, so that the work stays that of the logits.
    """
    classes, label = batch.classes, batch.y.unsqueeze(1)
    own = torch.arange(classes, device=label.device) == label
    if classes * (classes - 1) <= MOST_SHARED:
        identity = torch.eye(classes, dtype=batch.x.dtype, device=batch.x.device)
        pairs = (identity.unsqueeze(1) - identity).flatten(0, 1)  # row i C + j is z_i - z_j
        least = batch.bounded(pairs.unsqueeze(0), domain, batch.region).rows
        least = torch.unflatten(least, 1, (classes, classes))
        index = label.unsqueeze(2).expand(-1, classes, 1)
        lower = least.gather(2, index).squeeze(2)
        upper = -least.gather(1, index.mT).squeeze(1)
    else:
        low, high = batch.logit_bounds(domain)
        lower, upper = low - high.gather(1, label), high - low.gather(1, label)
    return torch.where(own, 0.0, lower), torch.where(own, 0.0, upper)
