"""Bounds of probabilities from counts, at a level of confidence, rounded to the safe side."""

from importlib import import_module
from types import ModuleType

from absolver.analyzer.smoothing.errors import SmoothingExtraError


def p_lower(hits: int, samples: int, alpha: float) -> float:
    """A lower bound of a probability of which `samples` independent trials gave so many hits.

    One-sided, by Clopper and Pearson (1934): were the probability lower, so many hits or more
    would have a probability of at most alpha.

    Guarantee: the probability that the result exceeds the true one is at most alpha, for each true
    one. The inverse of the beta distribution proposes, the tail of the binomial one decides; the
    certificate's checker sums that tail with integers.
    """
    stats = _stats()
    if hits <= 0:
        return 0.0
    bound = float(stats.beta.ppf(alpha, hits, samples - hits + 1))
    margin = 1e-12
    # 1e-9: far above the errors of the library's tails, and of the radius by little.
    while bound > 0 and not stats.binom.sf(hits - 1, samples, bound) * (1 + 1e-9) <= alpha:
        bound, margin = bound * (1 - margin), 2 * margin
    return max(bound, 0.0)


def first_leads(first: int, second: int, alpha: float) -> bool:
    """Say whether the first count is above the second at this level (Cohen et al. 2019).

    Two-sided, as either of them might have come first.
    """
    if first + second == 0:
        return False
    return bool(_stats().binomtest(first, first + second).pvalue <= alpha)


def _stats() -> ModuleType:
    try:
        return import_module("scipy.stats")
    except ModuleNotFoundError:
        raise SmoothingExtraError(
            "bounds of probabilities need scipy: pip install 'absolver[smoothing]'"
        ) from None
