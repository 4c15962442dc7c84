"""Budgeted choices: few pixels, or few words, may be exchanged for others."""

from dataclasses import dataclass
from math import prod
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import add_up, round_up, subtract_down


@dataclass(frozen=True, eq=False)
class FewPixels(Region):
    """The points of a box `base` of which at most `budget` pixels are anywhere in `limits`.

    A pixel is all coordinates along `axis` of the point's shape (its channels), or one coordinate
    where `axis` is None. With a base of one point this is the ball of the 0-norm.
    """

    base: Box
    limits: Box
    budget: int
    axis: int | None

    @property
    def _like(self) -> Tensor:
        return self.base.lower

    def bounding_box(self) -> tuple[Tensor, Tensor]:
        """Return the smallest box around each set."""
        if self.budget == 0:
            return self.base.bounding_box()
        lower = torch.minimum(self.base.lower, self.limits.lower)
        return lower, torch.maximum(self.base.upper, self.limits.upper)

    def minimum(self, rows: Float[Tensor, "batch rows *shape"]) -> Float[Tensor, "batch rows"]:
        """Return the minimum of each linear form: exact up to rounding, by a joint top-k."""
        return self.base.minimum(rows) - self._gain(rows)

    def minimum_around(
        self, rows: Float[Tensor, "batch rows *shape"], center: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch rows"]:
        """Return the minimum of `rows · (x - center)`, exact up to rounding."""
        at_center = (rows.flatten(2) @ center.flatten(1).unsqueeze(2)).squeeze(2)
        return self.base.minimum(rows) - at_center - self._gain(rows)

    def _gain(self, rows: Tensor) -> Tensor:
        """Return how far the best choice of pixels takes each form below its base."""
        lower, upper = self.bounding_box()
        down = (self.base.lower - lower).unsqueeze(1)
        up = (upper - self.base.upper).unsqueeze(1)
        gain = self._by_pixel(rows.clamp(min=0) * down - rows.clamp(max=0) * up)
        return _largest_sum(gain, self.budget)

    def _by_pixel(self, x: Tensor) -> Tensor:
        """Sum over the channels of each pixel; `x` has two leading axes."""
        return (x if self.axis is None else x.sum(self.axis + 2)).flatten(2)

    def _chosen(self, score: Tensor) -> Tensor:
        """Mark the pixels of the greatest scores, as many as the budget; one leading axis."""
        flat = score.flatten(1)
        count = min(self.budget, flat.shape[1])
        marks = torch.zeros_like(flat, dtype=torch.bool)
        marks.scatter_(1, flat.topk(count, dim=1).indices, True)
        marks = marks.view(score.shape)
        return marks if self.axis is None else marks.unsqueeze(self.axis + 1)

    @torch.no_grad()
    def project(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Move points to near ones: the pixels farthest from the base may differ from it."""
        kept = self.base.project(x)
        changed = Box(*self.bounding_box()).project(x)
        distance = (changed - kept).square()
        score = distance if self.axis is None else distance.sum(self.axis + 1)
        return torch.where(self._chosen(score), changed, kept)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch count *shape"]:
        """Draw points with the whole budget spent on random pixels, every second one extreme."""
        base = self.base.sample(count, generator).flatten(0, 1)
        other = Box(*self.bounding_box()).sample(count, generator).flatten(0, 1)
        shape = list(other.shape)
        if self.axis is not None:
            del shape[self.axis + 1]
        score = torch.rand(shape, generator=generator, device=generator.device).to(other.device)
        points = torch.where(self._chosen(score), other, base)
        return points.view(self.batch, count, *self.shape)

    def select(self, index: Tensor) -> Self:
        """Return the sets that an index tensor names."""
        base, limits = self.base.select(index), self.limits.select(index)
        return type(self)(base, limits, self.budget, self.axis)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the sets on a device and in a dtype, rounded outward."""
        base, limits = self.base.to(device, dtype), self.limits.to(device, dtype)
        return type(self)(base, limits, self.budget, self.axis)


@dataclass(frozen=True, eq=False)
class FewWords(Region):
    """A sequence of vectors of which at most `budget` are exchanged for one of their alternatives.

    Each coordinate may be off by `slack` besides, which covers the rounding of the vectors. As
    positions are independent, the joint top-k of their gains equals a dynamic program over them.
    """

    base: Float[Tensor, "batch positions features"]
    words: Float[Tensor, "batch positions words features"]
    present: Bool[Tensor, "batch positions words"]
    slack: Float[Tensor, "batch positions features"]
    budget: int
    point: tuple[int, ...]
    """The shape of one point, which has `positions * features` elements."""

    @property
    def _like(self) -> Tensor:
        return self.base.view(-1, *self.point)

    def bounding_box(self) -> tuple[Tensor, Tensor]:
        """Return the smallest box around each set, rounded outward."""
        lower = upper = self.base
        if self.budget > 0:
            present = self.present.unsqueeze(3)
            lowest = torch.where(present, self.words, torch.inf).amin(2)
            highest = torch.where(present, self.words, -torch.inf).amax(2)
            lower, upper = torch.minimum(lower, lowest), torch.maximum(upper, highest)
        lower, upper = subtract_down(lower, self.slack), add_up(upper, self.slack)
        return lower.view(-1, *self.point), upper.view(-1, *self.point)

    def minimum(self, rows: Float[Tensor, "batch rows *shape"]) -> Float[Tensor, "batch rows"]:
        """Return the minimum of each linear form, exact up to rounding."""
        return self._minimum(rows, self.base)

    def minimum_around(
        self, rows: Float[Tensor, "batch rows *shape"], center: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch rows"]:
        """Return the minimum of `rows · (x - center)`, exact up to rounding."""
        return self._minimum(rows, self.base - center.view(self.base.shape))

    def _minimum(self, rows: Tensor, start: Tensor) -> Tensor:
        shaped = rows.reshape(*rows.shape[:2], *self.base.shape[1:])
        flat = shaped.flatten(2)
        value = (flat @ start.flatten(1).unsqueeze(2)).squeeze(2)
        value = value - (flat.abs() @ self.slack.flatten(1).unsqueeze(2)).squeeze(2)
        change = self.base.unsqueeze(2) - self.words
        gain = torch.einsum("brpf,bpwf->brpw", shaped, change)
        gain = torch.where(self.present.unsqueeze(1), gain, 0).clamp(min=0)
        return value - _largest_sum(gain.amax(3), self.budget)

    @torch.no_grad()
    def project(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Move points to the nearest sequences within the budget."""
        target = x.view(self.base.shape)
        distance = (self.words - target.unsqueeze(2)).square().sum(3)
        distance = torch.where(self.present, distance, torch.inf)
        nearest = distance.min(2)
        gain = (self.base - target).square().sum(2) - nearest.values
        return self._exchange(gain, nearest.indices, gain > 0)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch count *shape"]:
        """Draw sequences with the budget spent on random positions and words."""
        size = (self.batch * count, *self.present.shape[1:])
        every = torch.arange(self.batch, device=self.device).repeat_interleave(count)
        sets = self.select(every)
        score = torch.rand(size, generator=generator, device=generator.device).to(self.device)
        score = torch.where(sets.present, score, -1)
        possible = sets.present.any(2)
        order = torch.rand(size[:2], generator=generator, device=generator.device).to(self.device)
        points = sets._exchange(torch.where(possible, order, -1), score.argmax(2), possible)
        return points.view(self.batch, count, *self.point)

    def _exchange(self, score: Tensor, word: Tensor, allowed: Tensor) -> Tensor:
        """Put the given word at the allowed positions of the greatest scores."""
        count = min(self.budget, score.shape[1])
        marks = torch.zeros_like(allowed)
        marks.scatter_(1, score.topk(count, dim=1).indices, True)
        index = word.unsqueeze(2).unsqueeze(3).expand(-1, -1, 1, self.words.shape[3])
        chosen = self.words.gather(2, index).squeeze(2)
        points = torch.where((marks & allowed).unsqueeze(2), chosen, self.base)
        return points.view(-1, *self.point)

    def select(self, index: Tensor) -> Self:
        """Return the sets that an index tensor names."""
        words, present = self.words[index], self.present[index]
        slack = self.slack[index]
        return type(self)(self.base[index], words, present, slack, self.budget, self.point)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the sets on a device and in a dtype, with a slack that covers the rounding."""
        base, words = self.base.to(dtype), self.words.to(dtype)
        off = (base.double() - self.base.double()).abs()
        others = (words.double() - self.words.double()).abs()
        others = torch.where(self.present.unsqueeze(3), others, 0).amax(2)
        slack = round_up(add_up(self.slack.double(), torch.maximum(off, others)), dtype)
        base, words, slack = base.to(device), words.to(device), slack.to(device)
        present = self.present.to(device)
        return type(self)(base, words, present, slack, self.budget, self.point)


def few_words(
    base: Float[Tensor, "batch positions features"],
    words: Float[Tensor, "batch positions words features"],
    present: Bool[Tensor, "batch positions words"],
    budget: int,
    shape: tuple[int, ...] | None = None,
) -> FewWords:
    """Return the set of substitutions, points of a given shape, with no slack."""
    point = tuple(base.shape[1:]) if shape is None else shape
    assert prod(point) == base[0].numel(), "the shape has one element for each feature"
    return FewWords(base, words, present, torch.zeros_like(base), budget, point)


def _largest_sum(gain: Float[Tensor, "batch rows choices"], budget: int) -> Tensor:
    """Sum the greatest entries, as many as the budget allows."""
    return gain.topk(min(budget, gain.shape[2]), dim=2).values.sum(2)
