"""Several symbolic numbers on a first axis, for code that stacks the operands of an operator."""

from collections.abc import Iterator, Sequence
from functools import cmp_to_key
from typing import Any

import torch

from absolver.dsl.prover.reals import either
from absolver.dsl.prover.terms import Mask, Operand, Symbolic, Term


class Stack(Symbolic):
    """Several numbers on a first axis."""

    def __init__(self, terms: "Iterator[Term] | Sequence[Term]") -> None:
        """Keep them in order."""
        self.terms = tuple(terms)

    def __len__(self) -> int:
        """How many they are."""
        return len(self.terms)

    def __iter__(self) -> Iterator[Term]:
        """Go through them."""
        return iter(self.terms)

    def __getitem__(self, index: slice) -> "Stack":
        """Some of them."""
        return Stack(self.terms[index])

    def __add__(self, other: "Stack | Operand") -> "Stack":
        """Add one by one."""
        return Stack(a + b for a, b in _paired(self, other))

    def __mul__(self, other: "Stack | Operand") -> "Stack":
        """Multiply one by one."""
        return Stack(a * b for a, b in _paired(self, other))

    def __sub__(self, other: "Stack | Operand") -> "Stack":
        """Subtract one by one."""
        return Stack(a - b for a, b in _paired(self, other))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> "Stack":
        """Negate all."""
        return Stack(-term for term in self)

    def __lt__(self, other: "Stack | Operand") -> "MaskStack":
        """Compare one by one."""
        return MaskStack(a < b for a, b in _paired(self, other))

    def __ge__(self, other: "Stack | Operand") -> "MaskStack":
        """Compare one by one."""
        return MaskStack(a >= b for a, b in _paired(self, other))

    @staticmethod
    def stack(parts: Sequence[Any]) -> "Stack | MaskStack":
        """Put numbers on a new axis."""
        return MaskStack(parts) if isinstance(parts[0], Mask) else Stack(parts)

    @staticmethod
    def cat(parts: "Sequence[Stack]") -> "Stack":
        """Put stacks behind each other."""
        return Stack([term for part in parts for term in part])

    @property
    def shape(self) -> torch.Size:
        """The length of the first axis, which is the only one."""
        return torch.Size([len(self)])

    def dim(self) -> int:
        """One axis."""
        return 1

    def zeros_like(self) -> "Stack":
        """Zeros."""
        return Stack(Term.of(0) for _ in self)

    def view(self, *_: int) -> "Stack":
        """Itself: there is one axis."""
        return self

    def clamp(self, min: Operand | None = None, max: Operand | None = None) -> "Stack":
        """Clamp each."""
        return Stack(term.clamp(min, max) for term in self)

    def abs(self) -> "Stack":
        """Take the absolute value of each."""
        return Stack(term.abs() for term in self)

    def isnan(self) -> "MaskStack":
        """Which are NaN."""
        return MaskStack(term.isnan() for term in self)

    def minimum(self, other: "Stack | Operand") -> "Stack":
        """Take the lesser, one by one."""
        return Stack(a.minimum(b) for a, b in _paired(self, other))

    def maximum(self, other: "Stack | Operand") -> "Stack":
        """Take the greater, one by one."""
        return Stack(a.maximum(b) for a, b in _paired(self, other))

    def amin(self, _: int) -> Term:
        """The least of them."""
        least, *rest = self.terms
        for term in rest:
            least = least.minimum(term)
        return least

    def amax(self, _: int, *, keepdim: bool = False) -> "Term | Stack":
        """The largest of them."""
        most = -((-self).amin(0))
        return Stack([most]) if keepdim else most

    def sum(self, _: int) -> Term:
        """Add all up."""
        result = Term.of(0)
        for term in self:
            result = result + term
        return result

    def cumsum(self, _: int) -> "Stack":
        """Add up to each."""
        return Stack([self[: end + 1].sum(0) for end in range(len(self))])

    def flip(self, _: int) -> "Stack":
        """Reverse the order."""
        return Stack(self.terms[::-1])

    def expand_as(self, other: "Stack") -> "Stack":
        """Repeat the only one."""
        return Stack(a for a, _ in _paired(self, other))

    def argsort(self, _: int) -> "tuple[int, ...]":
        """Decide the order; the program is run again for every other order."""

        def compared(i: int, j: int) -> int:
            return -1 if bool(self.terms[i] <= self.terms[j]) else 1

        order = cmp_to_key(compared)
        places: list[int] = sorted(range(len(self)), key=order)
        return tuple(places)

    def argmax(self, _: int) -> Term:
        """Decide the place of the first of the largest."""
        best = 0
        for place in range(1, len(self)):
            best = place if bool(self.terms[place] > self.terms[best]) else best
        return Term.of(best)

    def gather(self, _: int, order: "tuple[int, ...]") -> "Stack":
        """Put them into an order."""
        return Stack([self.terms[place] for place in order])


class MaskStack(Symbolic):
    """Several conditions on a first axis."""

    def __init__(self, masks: "Iterator[Mask] | Sequence[Mask]") -> None:
        """Keep them in order."""
        self.masks = tuple(masks)

    def __getitem__(self, index: int) -> Mask:
        """One of them."""
        return self.masks[index]

    def where(self, then: "Stack | Operand", otherwise: "Stack | Operand") -> Stack:
        """Choose one by one."""
        pairs = zip(self.masks, _paired(then, otherwise), strict=True)
        chosen: list[Any] = [mask.where(*pair) for mask, pair in pairs]
        return Stack(chosen)

    def any(self, _: int) -> Mask:
        """At least one."""
        return Mask(either(*(mask.flag for mask in self.masks)))

    def sum(self, _: int) -> Term:
        """How many hold."""
        return Stack(mask.to() for mask in self.masks).sum(0)


def _paired(a: "Stack | Operand", b: "Stack | Operand") -> list[tuple[Any, Any]]:
    """Pair numbers; a single one with each."""
    parts = [list(each) if isinstance(each, Stack) else [each] for each in (a, b)]
    size = max(map(len, parts))
    left, right = (part * (size if len(part) == 1 else 1) for part in parts)
    return [(Term.of(x), Term.of(y)) for x, y in zip(left, right, strict=True)]
