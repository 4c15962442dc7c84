"""Relaxations prepared for back-substitution: lines around an operator, and a reference trace."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval, Operator
from absolver.dsl.relaxation import Relaxation, relax


@dataclass(frozen=True)
class Lines:
    """Lines around one non-linear node, in the form in which back-substitution uses them.

    With y0 = upper_offset + upper · z0 on the *reference trace* z0, a coefficient row A on y obeys

        A · (y - y0) >= A' · (z - z0) + max(A, 0) · gap,    A' = A * upper + max(A, 0) * excess

    where excess = lower - upper and gap = lower_offset + lower · z0 - y0. So biases and upper
    offsets never have to be carried: the trace has them.
    """

    upper: tuple[Float[Tensor, "batch *shape"], ...]
    excess: tuple[Float[Tensor, "batch *shape"], ...]
    gap: Float[Tensor, "batch *shape"]
    unbounded: Bool[Tensor, "batch *shape"] | None
    """Neurons with no finite line on some side: a row that needs one of them has no bound."""

    @cached_property
    def live(self) -> Bool[Tensor, "batch *shape"]:
        """Neurons on which a row's coefficient matters: their result is not the constant 0."""
        live = self.gap != 0
        for line in (*self.upper, *self.excess):
            live = live | (line != 0)
        return live if self.unbounded is None else live | self.unbounded

    @cached_property
    def channels_last(self) -> "Lines":
        """The same lines over an image `[1, channels, height, width]`, channels moved last."""
        return self._mapped(lambda line: line.movedim(2, -1).contiguous())

    def of(self, elements: slice) -> "Lines":
        """The lines of some batch elements."""
        return self._mapped(lambda line: line[elements])

    def at(self, neurons: Int[Tensor, " columns"]) -> "Lines":
        """The lines of some neurons, named by flat index; the result's shape is flat."""
        return self._mapped(lambda line: line.flatten(1).index_select(1, neurons))

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "Lines":
        return Lines(
            tuple(change(line) for line in self.upper),
            tuple(change(line) for line in self.excess),
            change(self.gap),
            None if self.unbounded is None else change(self.unbounded),
        )


def lines_around(
    domain: Domain, operator: Operator, box: Sequence[Interval], trace: Sequence[Tensor]
) -> tuple[Lines, Tensor]:
    """Relax an operator over a box, and extend the reference trace by its upper line.

    Returns the lines and the trace's values on the operator's result.
    """
    relaxation, unbounded = finite_lines(domain, operator, box)
    reference = relaxation.upper_offset
    gap = relaxation.lower_offset
    for z, lower, upper in zip(trace, relaxation.lower, relaxation.upper, strict=True):
        reference = torch.addcmul(reference, upper, z)
        gap = torch.addcmul(gap, lower, z)
    excess = tuple(low - up for low, up in zip(relaxation.lower, relaxation.upper, strict=True))
    return Lines(relaxation.upper, excess, gap - reference, unbounded), reference


def finite_lines(
    domain: Domain, operator: Operator, box: Sequence[Interval]
) -> tuple[Relaxation, Bool[Tensor, "batch *shape"] | None]:
    """Relax an operator over a box, and say where it has no finite line on some side.

    Where the domain's slopes lead to no finite intercept (the box is unbounded), horizontal lines
    at the ends of the operator's range take their place; where that is unbounded too, the lines
    are 0 and must not be used.
    """
    relaxation = relax(operator, domain.slopes(operator, box), box)
    finite = torch.isfinite(relaxation.lower_offset) & torch.isfinite(relaxation.upper_offset)
    if bool(finite.all()):
        return relaxation, None
    reach = operator.range(box)
    bounded = torch.isfinite(reach.lower) & torch.isfinite(reach.upper)
    zero = torch.zeros_like(reach.lower)

    def kept(line: Tensor, otherwise: Tensor) -> Tensor:
        return torch.where(finite, line, torch.where(bounded, otherwise, zero))

    horizontal = Relaxation(
        tuple(kept(slope, zero) for slope in relaxation.lower),
        kept(relaxation.lower_offset, reach.lower),
        tuple(kept(slope, zero) for slope in relaxation.upper),
        kept(relaxation.upper_offset, reach.upper),
    )
    unbounded = ~(finite | bounded)
    return horizontal, unbounded if bool(unbounded.any()) else None
