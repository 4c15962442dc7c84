"""The record of an operator: every fact that the system uses about it, in one object."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum
from math import inf
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from absolver.dsl.operators.quadratic import Quadratic
from absolver.dsl.operators.rounding import FLOOR, UNIT, Declared, declared, magnitude


class Interval(NamedTuple):
    """One closed interval for each neuron; `lower` and `upper` have the neurons' shape."""

    lower: Tensor
    upper: Tensor


class Shape(Enum):
    """The form of an operator's graph, from which a domain's default rule is chosen."""

    CONVEX = "convex"
    CONCAVE = "concave"
    S_SHAPED = "s-shaped"
    OTHER = "other"


class Operator(ABC):
    """A non-linear function of one or more neurons, applied elementwise.

    Subclasses are frozen dataclasses whose fields are the ONNX attributes (`alpha`, ...).
    All operands and the result have one common shape: broadcasting is a linear map before it.
    """

    name: ClassVar[str]
    """The name that domain files use."""
    onnx: ClassVar[tuple[str, ...]]
    """ONNX operators that load as this one directly; empty where a lowering builds it."""
    operands: ClassVar[tuple[str, ...]]
    """Names of the operands in rules; `("each",)` for an operator of any arity."""
    shape: ClassVar[Shape]
    smooth: ClassVar[bool]
    monotone: ClassVar[bool]
    piecewise_linear: ClassVar[bool]
    rounds: ClassVar[bool] = True
    """Whether a computed value can differ from the exact one: not if it is an operand, a constant
    or a whole number."""

    @abstractmethod
    def __call__(self, *operands: Tensor) -> Tensor:
        """Evaluate the operator on concrete values, as torch rounds."""

    @abstractmethod
    def support(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Bound `a · x + b * f(x)` from below over the box.

        Guarantee: for all x in the box, `a · x + b * f(x) >= support(a, b, box)` over the reals,
        up to the rounding of this evaluation. `-inf` where the box meets a pole. Never NaN for
        finite `a`, `b` and a bounded box.
        """

    @abstractmethod
    def derivative(self, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Enclose the (Clarke) derivative in each operand over the box."""

    @abstractmethod
    def gradient(self, point: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the derivative in each operand at a point; the right derivative at a kink."""

    @abstractmethod
    def affine_on(self, box: Sequence[Interval]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Say where the operator is affine on the box, as (mask, exact slopes there)."""

    @abstractmethod
    def curvature(self, box: Sequence[Interval]) -> Tensor:
        """Give +1 where the operator is convex on the box, -1 where concave, 0 where unknown."""

    @abstractmethod
    def inverse(self, output: Interval, box: Sequence[Interval]) -> tuple[Interval, ...]:
        """Tighten the operands by what is known of the result (backward transformer, HC4).

        Guarantee: every x of the box with f(x) in `output` lies in the returned intervals.
        """

    def quadratics(self, box: Sequence[Interval]) -> tuple[Quadratic, ...]:
        """State quadratic constraints between operands and result, for semidefinite relaxations.

        Guarantee: each holds for every x of the box and y = f(x) over the reals, without rounding.
        Boxes and lines are no part of it: those hold of every operator.
        """
        del box
        return ()

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Operator":
        """Return this operator with any tensor attribute on a device and in a dtype."""
        return self

    def lipschitz(self, box: Sequence[Interval]) -> tuple[Tensor, ...]:
        """Bound the absolute derivative in each operand over the box."""
        return tuple(torch.maximum(-low, high) for low, high in self.derivative(box))

    def range(self, box: Sequence[Interval]) -> Interval:
        """Bound the operator's values over the box."""
        one = torch.ones_like(box[0].lower)
        zeros = [torch.zeros_like(one)] * len(box)
        return Interval(self.support(zeros, one, box), -self.support(zeros, -one, box))

    @property
    def roundings(self) -> Declared:
        """What is declared of the operator's rounding errors; an error where nothing is."""
        return declared(self.name)

    def proved_support(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Bound `a · x + b * f(x)` from below over a box in float64, rounding included.

        Guarantee: as for `support`, over the reals, without exception.
        """
        size = self.support_size(a, b, box)
        return _lowered(self.support(a, b, box), size, self._floor(a, b, box))

    def support_size(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Bound the error of `support` in units of the roundoff: sizes of terms times roundings."""
        raise NotImplementedError(f"operator {self.name} says nothing of its support's rounding")

    def proved_range(self, box: Sequence[Interval]) -> Interval:
        """Bound the operator's values over a box in float64, rounding included."""
        low, high = self.range(box)
        if not self.rounds:
            return Interval(low, high)
        operand = torch.stack([magnitude(*interval) for interval in box]).amax(0)
        floor = torch.full_like(operand, FLOOR)
        low, high = (
            _lowered(side, self.roundings.value.size(side.abs(), operand), floor)
            for side in (low, -high)
        )
        # Without a bound stays without: the operator may not be defined there.
        low = torch.where(low.isfinite(), low.clamp(min=self.roundings.least), low)
        return Interval(low, -high)

    def _floor(self, a: Sequence[Tensor], b: Tensor, box: Sequence[Interval]) -> Tensor:
        """Bound what underflow can lose in `support`."""
        scale = 1 + b.abs()
        for slope, interval in zip(a, box, strict=True):
            scale = (scale + slope.abs()) * (1 + magnitude(*interval))
        return FLOOR * scale


def _lowered(bound: Tensor, size: Tensor, floor: Tensor) -> Tensor:
    """Subtract the error of a computed lower bound, given in units of the roundoff."""
    # 2: for the subtraction itself, and for the roundings of the size.
    return trusted(bound - (UNIT * (2 * size + 2 * bound.abs()) + floor))


def trusted(bound: Tensor) -> Tensor:
    """Replace what infinities or overflow spoiled in a lower bound by the trivial bound.

    `+inf` too: it says that the computation overflowed, not that the value is infinite.
    """
    return torch.nan_to_num(bound, nan=-inf, posinf=-inf, neginf=-inf)
