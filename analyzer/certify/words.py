"""Words of the certificate format for slopes that a box gives by itself."""

import torch
from torch import Tensor

from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval, Operator

# Boxes on which a rule is compared with a word: many of each kind that a kink at 0 can see.
_SAMPLES = 64

Word = str | int


def words(domain: Domain, operator: Operator) -> tuple[Word | None, Word | None]:
    """Find the words that name a rule's lower and upper slopes, by comparing them on many boxes.

    A word that is wrong on other boxes is still a proposal: it can only fail to prove.
    """
    if len(operator.operands) != 1 or operator.operands == ("each",):
        return None, None
    generator = torch.Generator().manual_seed(0)
    ends = 4 * torch.rand(2, _SAMPLES, generator=generator, dtype=torch.float64) - 2
    box = [Interval(ends.amin(0, keepdim=True), ends.amax(0, keepdim=True))]
    slopes = domain.slopes(operator, box)
    inexact = ~operator.affine_on(box)[0]
    lower, upper = (_word(operator, box[0], s[0], inexact) for s in (slopes.lower, slopes.upper))
    return lower, upper


def _word(operator: Operator, box: Interval, slope: Tensor, inexact: Tensor) -> Word | None:
    rise = operator(box.upper) - operator(box.lower)
    known: dict[Word, Tensor] = {
        0: torch.zeros_like(slope),
        "adaptive": (box.lower + box.upper > 0).to(slope),
        "chord": rise / (box.upper - box.lower),
    }
    for word, value in known.items():
        if torch.allclose(slope[inexact], value[inexact]):
            return word
    return None
