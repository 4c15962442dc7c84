"""The splits of operators' operands that lead to a branch, compactly, and what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.analyzer.search.ascent import Split
from absolver.dsl.operators.record import Interval


@dataclass(frozen=True, eq=False)
class Paths:
    """For each branch its splits, the root's first; `of` is -1 behind the last one.

    A sign of 1 stands for `value <= threshold`, -1 for the other side.
    """

    of: Int[Tensor, "branches depth"]
    """Which of the tensors that can be split."""
    element: Int[Tensor, "branches depth"]
    sign: Float[Tensor, "branches depth"]
    threshold: Float[Tensor, "branches depth"]
    multiplier: Float[Tensor, "branches depth"]

    @classmethod
    def none(cls, branches: int, like: Tensor) -> "Paths":
        """Return paths without splits."""
        empty = like.new_zeros(branches, 0)
        return cls(empty.long(), empty.long(), empty, empty, empty)

    @property
    def depth(self) -> int:
        """The length of the longest path."""
        return self.of.shape[1]

    def select(self, index: Tensor | slice) -> "Paths":
        """Return some paths."""
        return Paths(*(tensor[index] for tensor in self.tensors))

    def to(self, dtype: torch.dtype) -> "Paths":
        """Return the paths with numbers of another dtype."""
        signs = (tensor.to(dtype) for tensor in self.tensors[2:])
        return Paths(self.of, self.element, *signs)

    def followed_by(self, other: "Paths") -> "Paths":
        """Return these paths and others behind them."""
        depth = max(self.depth, other.depth)
        pairs = zip(self._padded(depth).tensors, other._padded(depth).tensors, strict=True)
        return Paths(*(torch.cat(pair) for pair in pairs))

    def extended(self, of: Tensor, element: Tensor, sign: float, threshold: Tensor) -> "Paths":
        """Return the paths with one more split each, without a multiplier yet."""
        rows = torch.arange(len(self.of), device=self.of.device)
        place = (self.of >= 0).sum(1)
        full = len(place) > 0 and bool((place == self.depth).any())
        longer = self._padded(self.depth + 1 if full else self.depth)
        tensors = [tensor.clone() for tensor in longer.tensors]
        values = of, element, torch.full_like(threshold, sign), threshold
        for tensor, value in zip(tensors, values, strict=False):
            tensor[rows, place] = value.to(tensor.dtype)
        return Paths(*tensors)

    def splits(
        self, names: Sequence[str], shapes: Sequence[torch.Size]
    ) -> tuple[Mapping[str, Split], Mapping[str, Tensor]]:
        """Spread the splits over their tensors; also the multipliers, `[branches, 1, *shape]`."""
        found, multipliers = {}, {}
        for number, (name, shape) in enumerate(zip(names, shapes, strict=True)):
            if not bool((self.of == number).any()):
                continue
            sign, threshold, multiplier = (
                self._spread(number, value, shape)
                for value in (self.sign, self.threshold, self.multiplier)
            )
            found[name] = Split(sign, threshold)
            multipliers[name] = multiplier.unsqueeze(1)
        return found, multipliers

    def cut(self, number: int, box: Interval) -> Interval:
        """Cut the box `[branches, *shape]` of a tensor by the splits of it."""
        here = self.of == number
        if not bool(here.any()):
            return box
        lower, upper = box.lower.flatten(1).clone(), box.upper.flatten(1).clone()
        for place in range(self.depth):
            for side, sign in ((upper, 1), (lower, -1)):
                rows = (here[:, place] & (self.sign[:, place] == sign)).nonzero().squeeze(1)
                element, end = self.element[rows, place], self.threshold[rows, place]
                nearest = torch.minimum if sign > 0 else torch.maximum
                side[rows, element] = nearest(side[rows, element], end)
        return Interval(lower.view_as(box.lower), upper.view_as(box.upper))

    def with_multipliers(self, names: Sequence[str], multipliers: Mapping[str, Tensor]) -> "Paths":
        """Take up multipliers that are spread over their tensors."""
        result = self.multiplier.clone()
        for number, name in enumerate(names):
            if name in multipliers:
                flat = multipliers[name].flatten(1)
                own = flat.gather(1, self.element.clamp(max=flat.shape[1] - 1))
                result = torch.where(self.of == number, own.to(result.dtype), result)
        result = torch.where(self._latest, result, 0.0)
        return Paths(self.of, self.element, self.sign, self.threshold, result)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Everything, in the order of the fields."""
        return self.of, self.element, self.sign, self.threshold, self.multiplier

    def _padded(self, depth: int) -> "Paths":
        missing = depth - self.depth
        if missing <= 0:
            return self
        of, *others = (torch.nn.functional.pad(t, (0, missing)) for t in self.tensors)
        of[:, self.depth :] = -1
        return Paths(of, *others)

    @cached_property
    def _latest(self) -> Bool[Tensor, "branches depth"]:
        """Which splits are the last ones of their element: those that have a multiplier."""
        same = self.of.unsqueeze(2) == self.of.unsqueeze(1)
        same &= self.element.unsqueeze(2) == self.element.unsqueeze(1)
        return (self.of >= 0) & ~same.triu(diagonal=1).any(2)

    def _spread(self, number: int, values: Tensor, shape: torch.Size) -> Tensor:
        branches, places = ((self.of == number) & self._latest).nonzero(as_tuple=True)
        flat = values.new_zeros(len(values), shape.numel())
        flat[branches, self.element[branches, places]] = values[branches, places]
        return flat.view(len(values), *shape)
