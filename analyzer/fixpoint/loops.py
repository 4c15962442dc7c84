"""Loops: join and widening up to a post-fixpoint, and narrowing back from there."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# Rounds of join before thresholds, and those after which it is given up.
_PATIENCE, _MOST_ROUNDS = 48, 120
# Every so many rounds the set is tried as large as this.
_PERIOD, _FACTORS = 12, (1.0625, 1.25, 2.0, 8.0, 64.0, 512.0)
# Of what the increments' geometric series still adds: more, so that there is some room at its end.
_BEYOND = 1.25
_MOST_NARROWINGS = 60
# A narrowing that moves no facet by this share of its size is not worth another one.
_SMALLEST_GAIN = 1e-3
_SMALLEST_SIZE = 1e-100  # in place of 0, so that increments can be compared with it
# A set is made smaller by this factor first, then by roots of it, and at last not any more.
_SHRINKING, _LEAST_SHRINKING = 0.5, 0.99
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

    @abstractmethod
    def scaled(self, facets: Float[Vector, " facets"], factor: float) -> Float[Vector, " facets"]:
        """Return the set made larger by a factor around its middle."""

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
    """Join images until they stay inside; guess where that ends; at last widen to thresholds.

    Guesses are what the geometric series of the last two increments adds, and multiples of the
    set: what a step adds from outside does not grow with the set, and what it keeps of a set of
    the right shape is less than that. A guess that is left by a step is forgotten.

    Guarantee: ends after a fixed number of rounds. A post-fixpoint holds the start and, by more
    than the slack, the image of itself that the loop gives.
    """
    facets = loop.start + loop.slack(loop.start)
    before = np.full_like(facets, np.inf)
    for round_number in range(1, _MOST_ROUNDS + 1):
        image, slack = loop.image(facets), loop.slack(facets)
        fits = image <= facets - slack
        if fits.all():
            return PostFixpoint(facets, image, round_number)
        if not np.isfinite(image).all():
            return Divergence(~np.isfinite(image), facets, round_number)
        grown = np.where(fits, 0.0, image - facets + 2 * slack)
        facets = facets + grown
        size = np.maximum(loop.size(facets), _SMALLEST_SIZE)
        ratio, before = float(np.max(grown / size) / np.max(before / size)), grown
        guesses: list[Vector] = []
        if round_number % 3 == 0 and round_number <= _PATIENCE and ratio < 1:
            guesses = [facets + grown * _BEYOND * ratio / (1 - ratio)]
        if round_number % _PERIOD == 0 and round_number <= _PATIENCE:
            guesses += [np.maximum(loop.scaled(facets, f), loop.start) for f in _FACTORS]
        for guess in guesses:
            if _is_kept(loop, guess, image := loop.image(guess)):
                return PostFixpoint(guess, image, round_number)
        if round_number > _PATIENCE:
            facets = np.where(fits, facets, loop.widened(facets))
        if not np.isfinite(facets).all():
            return Divergence(~np.isfinite(facets), facets, round_number)
    return Divergence(~fits, facets, _MOST_ROUNDS)


def _is_kept(loop: AbstractLoop, facets: Vector, image: Vector) -> bool:
    return bool((image <= facets - loop.slack(facets)).all())


def narrowings(loop: AbstractLoop, found: PostFixpoint) -> Iterator[PostFixpoint]:
    """Yield the post-fixpoint, and then smaller and smaller ones.

    Each one comes from a guess: the set made smaller around its middle, or facets moved to the
    image, or beyond it as far as the last two moves let expect.

    Guarantee: each one is a post-fixpoint in the sense of `ascend`, inside the one before.
    """
    yield found
    before, factor = np.inf, _SHRINKING
    for _ in range(_MOST_NARROWINGS):
        move = found.facets - np.maximum(loop.start, found.image)
        size = np.maximum(loop.size(found.facets), _SMALLEST_SIZE)
        largest = float(np.max(move / size))
        if not largest > (_SMALLEST_GAIN if factor > _LEAST_SHRINKING else 0):
            return
        ratio, before = largest / before, largest
        leap = [_SHARES[0] * (1 + ratio / (1 - ratio))] if ratio < 1 else []
        guesses = [found.facets - share * move for share in (*leap, *_SHARES)]
        if factor <= _LEAST_SHRINKING:
            guesses.insert(0, np.minimum(loop.scaled(found.facets, factor), found.facets))
        known, image = found, found.image
        for number, guess in enumerate(guesses):
            facets = np.maximum(guess, loop.start)
            image = loop.image(facets)
            if _is_kept(loop, facets, image):
                found = PostFixpoint(facets, image, known.rounds + 1)
                factor = factor if number == 0 else factor**0.5
                break
        else:
            # Facets that the last guess does not keep stay where they are.
            facets = np.where(image <= facets - loop.slack(facets), facets, known.facets)
            image = loop.image(facets)
            if not _is_kept(loop, facets, image) or np.array_equal(facets, known.facets):
                return
            found, factor = PostFixpoint(facets, image, known.rounds + 1), 1.0
        yield found
