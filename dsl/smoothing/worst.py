"""What noise can certify at most: the exact radius, and Neyman-Pearson's worst case by numbers."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CELLS = 40_000
"""Of a grid over a density: the worst case of classifiers that are constant on each cell."""


@dataclass(frozen=True)
class Setting:
    """A noise's parameter, the number of an input's elements, and of the steps of its grid."""

    parameter: float
    dimension: int = 1
    levels: int = 255


@np.errstate(all="ignore")
def exact_radius(kind: str, norm: str, setting: Setting, amount: Floats) -> Floats:
    """Return the largest radius that any reasoning from `p_lower`, or `lead`, alone can certify.

    Normal noise: Cohen et al. 2019, Theorem 2; Laplace: Teng et al. 2020; uniform: Yang et al.
    2020; ablation: Levine and Feizi 2020; split noise: Levine and Feizi 2021. NaN or negative
    where there is none.
    """
    size, d = setting.parameter, setting.dimension
    if kind == "split":
        return np.asarray(np.floor(amount / 2) / setting.levels, np.float64)
    if kind == "normal":
        quantile = torch.special.ndtri(torch.from_numpy(np.asarray(amount))).numpy()
        return np.asarray(size * quantile / (d**0.5 if norm == "inf" else 1.0), np.float64)
    if kind == "laplace":
        return np.asarray(-size * np.log(2 * (1 - amount)), np.float64)
    if kind == "uniform":
        if norm == "1":
            return np.asarray(2 * size * (amount - 0.5), np.float64)
        return np.asarray(-2 * size * np.expm1(np.log1p(0.5 - amount) / d), np.float64)
    chances = untouched(np.arange(d + 1.0), int(size), d)
    # `chances` decrease; the last one above 3/2 - p counts. 1e-10: rounding of their logarithms.
    return np.asarray(np.searchsorted(-chances, amount - 1.5 - 1e-10) - 1.0, np.float64)


def untouched(changed: Floats, kept: int, dimension: int) -> Floats:
    """The probability that none of some changed elements is among those that are kept.

    C(d - changed, kept) / C(d, kept), at most 1e-10 of it too small.
    """

    def log_choices(n: Floats) -> Floats:
        size = torch.from_numpy(np.maximum(n, kept))
        return np.asarray((torch.lgamma(size + 1) - torch.lgamma(size - kept + 1)).numpy())

    left = np.asarray(dimension - changed, np.float64)
    ratio = np.exp(log_choices(left) - log_choices(np.asarray([float(dimension)])))
    return np.where(left < kept, 0.0, ratio * (1 - 1e-10))


def outcomes(kind: str, norm: str, setting: Setting, radius: float) -> tuple[Floats, Floats]:
    """Split the space into cells; their probabilities under noise, and under noise moved by radius.

    The move is in the direction that is the worst for the noise and the norm: along one element
    for norm 1, along all of them for norm inf; for normal noise every direction is the same.
    """
    size, d = setting.parameter, setting.dimension
    if kind == "ablation" or (kind == "uniform" and norm == "inf"):
        if kind == "ablation":
            common = float(untouched(np.asarray([np.floor(radius)]), int(size), d)[0])
        else:
            common = max(1 - radius / (2 * size), 0.0) ** d
        return np.array([1 - common, common, 0.0]), np.array([0.0, common, 1 - common])
    shift = radius * np.sqrt(d) if norm == "inf" else radius
    reach = {"normal": 12.0, "laplace": 40.0, "uniform": 1.0}[kind] * size
    edges = np.linspace(-reach, reach + shift, CELLS + 1)
    edges = np.unique(np.concatenate([edges, [-size, 0, size, shift - size, shift, shift + size]]))
    return _cells(kind, edges / size), _cells(kind, (edges - shift) / size)


def worst_case(here: Floats, moved: Floats, p: float) -> float:
    """The least probability, after the move, of a set of cells of probability p before it.

    By Neyman and Pearson, cells are taken in the order of their likelihood ratios; the last one in
    part. A set of cells is a classifier, so that the true worst case is no better than this one.
    """
    with np.errstate(all="ignore"):
        order = np.argsort(np.where(here > 0, moved / here, np.inf), kind="stable")
    taken = np.cumsum(here[order])
    share = np.clip((p - (taken - here[order])) / np.where(here > 0, here, 1)[order], 0, 1)
    return float((share * np.where(here[order] > 0, moved[order], 0)).sum())


def _cells(kind: str, edges: Floats) -> Floats:
    """The probabilities of the cells between edges, for a noise with parameter 1.

    Above 0 as differences of what is beyond them, which keeps small ones precise.
    """
    below, beyond = np.diff(_cdf(kind, edges)), -np.diff(_cdf(kind, -edges))
    return np.where(edges[:-1] >= 0, beyond, below)


def _cdf(kind: str, x: Floats) -> Floats:
    """The distribution function of a noise with parameter 1."""
    if kind == "normal":
        return np.asarray(torch.special.ndtr(torch.from_numpy(x)).numpy())
    if kind == "uniform":
        return np.clip((x + 1) / 2, 0, 1)
    half = np.exp(-np.abs(x)) / 2
    return np.where(x < 0, half, 1 - half)
