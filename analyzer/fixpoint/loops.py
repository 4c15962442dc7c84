"""Loops: join and widening up to a post-fixpoint, and narrowing back from there."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# Rounds of join with extrapolation before thresholds, and those after which it is given up.
_PATIENCE, _MOST_ROUNDS = 36, 120
# Of what the increments' geometric series still adds: more, so that there is some room at its end.
_BEYOND = 1.25
_MOST_NARROWINGS = 40
# A narrowing that moves no facet by this share of its size is not worth another one.
_SMALLEST_GAIN = 1e-3
# How far towards the image facets are moved: what is left is room for the next image.
_SHARES = (0.9, 0.5)


class AbstractLoop(ABC):
    """A loop over sets with facets of fixed normals: a set is how far out each facet lies."""

    start: Float[Vector, " facets"]
    """The smallest set around what is there before the first step."""

    @abstractmethod
    def image(self, facets: Float[Vector, " facets"]) -> Float[Vector, " facets"]:
        """Return a set that holds whatever one step makes of a point of the set."""

    @abstractmethod
    def size(self, facets: Float[Vector, " facets"]) -> Float[Vector, " facets"]:
        """Return the size of the numbers at each facet, which rounding goes by."""

    @abstractmethod
    def widened(self, facets: Float[Vector, " facets"]) -> Float[Vector, " facets"]:
        """Return the next thresholds at or beyond the facets, infinite where there is none."""

    def slack(self, facets: Float[Vector, " facets"]) -> Float[Vector, " facets"]:
        """Return by how much an image has to lie inside, so that roundings do not matter."""
        # 2^-16: some hundred roundings of binary32.
        return self.size(facets) * 2.0**-16


@dataclass(frozen=True, eq=False)
class PostFixpoint:
    """A set around the start that no step leaves, by more than `slack`, up to rounding."""

    facets: Float[Vector, " facets"]
    image: Float[Vector, " facets"]
    rounds: int


@dataclass(frozen=True, eq=False)
class Divergence:
    """Why there is no post-fixpoint: facets that had no finite bound any more, or grew on."""

    growing: NDArray[np.bool_]
    facets: Float[Vector, " facets"]
    rounds: int


def ascend(loop: AbstractLoop) -> PostFixpoint | Divergence:
    """Join images until they stay inside, extrapolating, then widening to thresholds.

    Two rounds join what a step adds; a third one adds what the geometric series of these two
    increments still has to add. After some rounds facets that still grow go to thresholds.

    Guarantee: ends after a fixed number of rounds. A post-fixpoint holds the start and, by more
    than the slack, the image of itself that the loop gives.
    """
    facets = loop.start + loop.slack(loop.start)
    before = np.inf
    for round_number in range(1, _MOST_ROUNDS + 1):
        image, slack = loop.image(facets), loop.slack(facets)
        fits = image <= facets - slack
        if fits.all():
            return PostFixpoint(facets, image, round_number)
        if not np.isfinite(image).all():
            return Divergence(~np.isfinite(image), facets, round_number)
        grown = np.where(fits, 0.0, image - facets + 2 * slack)
        increment = float(np.max(grown / np.maximum(loop.size(facets), np.finfo(float).tiny)))
        ratio, before = increment / before, increment
        step = grown
        if round_number % 3 == 0 and ratio < 1:
            step = grown * (1 + _BEYOND * ratio / (1 - ratio))
        facets = facets + step
        if round_number > _PATIENCE:
            facets = np.where(fits, facets, loop.widened(facets))
        if not np.isfinite(facets).all():
            return Divergence(~np.isfinite(facets), facets, round_number)
    return Divergence(~fits, facets, _MOST_ROUNDS)


def narrowings(loop: AbstractLoop, found: PostFixpoint) -> Iterator[PostFixpoint]:
    """Yield the post-fixpoint, and then smaller and smaller ones.

    Guarantee: each one is a post-fixpoint in the sense of `ascend`, inside the one before.
    """
    yield found
    before = np.inf
    for _ in range(_MOST_NARROWINGS):
        move = found.facets - np.maximum(loop.start, found.image)
        size = np.maximum(loop.size(found.facets), np.finfo(float).tiny)
        largest = float(np.max(move / size))
        if largest < _SMALLEST_GAIN:
            return
        ratio, before = largest / before, largest
        leap = [_SHARES[0] * (1 + ratio / (1 - ratio))] if ratio < 1 else []
        for share in (*leap, *_SHARES):
            facets = np.maximum(found.facets - share * move, loop.start)
            image = loop.image(facets)
            if (image <= facets - loop.slack(facets)).all():
                found = PostFixpoint(facets, image, found.rounds + 1)
                break
        else:
            return
        yield found
