"""Hypothesis strategies that the tests share: boxes with points inside, and slopes that hurt.

A case holds many neurons, drawn by a seed, since one torch call on a hundred neurons costs what it
costs on one; `worst` then says which neuron broke a claim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt

import torch
from hypothesis import strategies as st
from torch import Tensor

from absolver.dsl.operators.record import Interval, Operator

PLACES = (0, 0, 1, -1, 0.5, 1.5, -2.5, 3, -3, 6, sqrt(2), -2.399357, pi / 2, -pi, 5 * pi / 2, 30)
"""Kinks, poles, inflections and jumps of the operators, and multiples of a quarter period."""
SHIFTS = (0, 0, 0, 1e-9, -1e-9, 0.1, -0.1, 2, -2)
WIDTHS = (0, 1e-12, 1e-6, 0.1, 1, pi, 2 * pi, 20)
ORDINARY = (0, 1, -1, 0.25, -0.5)
WILD = (1e30, -1e30, 1e-30, -1e-30, -0.0, 1e6, -1e6)


@dataclass(frozen=True)
class Case:
    """A box for each operand, coefficients, and points `[points, neurons]` inside the box."""

    box: tuple[Interval, ...]
    a: tuple[Tensor, ...]
    b: Tensor
    points: tuple[Tensor, ...]

    def worst(self, excess: Tensor) -> str:
        """Describe the neuron at which a claim fails by the largest excess."""
        i = (
            int(excess.flatten(0, -2).amax(0).argmax())
            if excess.dim() > 1
            else int(excess.argmax())
        )
        box = ", ".join(f"[{x.lower[i]!r}, {x.upper[i]!r}]" for x in self.box)
        return f"box {box}, a {[a[i].item() for a in self.a]}, b {self.b[i].item()!r}"


@st.composite
def cases(
    draw: st.DrawFn,
    operands: int = 1,
    *,
    neurons: int = 128,
    adversarial: bool = True,
    limit: float = 40.0,
    dtype: torch.dtype = torch.float64,
) -> Case:
    """Draw boxes, finite coefficients, and points: corners, kinks, random ones.

    Boxes are points, an ulp wide, end at a kink or a pole, or are ordinary; adversarial
    coefficients are huge, tiny, zero or negative zero.
    """
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    values = (*ORDINARY, *WILD) if adversarial else ORDINARY
    box = tuple(_interval(random, neurons, limit, dtype) for _ in range(operands))
    a = tuple(_coefficients(random, neurons, values).to(dtype) for _ in box)
    b = _coefficients(random, neurons, values).to(dtype)
    return Case(box, a, b, tuple(_inside(random, interval) for interval in box))


def form(operator: Operator, case: Case, points: Sequence[Tensor]) -> Tensor:
    """Evaluate `a · x + b f(x)` at points."""
    linear = sum((a * x for a, x in zip(case.a, points, strict=True)), torch.zeros_like(case.b))
    return linear + case.b * operator(*points)


def magnitude(operator: Operator, case: Case, points: Sequence[Tensor]) -> Tensor:
    """Sum the form's absolute terms, each at its largest over the points: what rounding scales."""
    terms = [(a * x).abs().amax(0) for a, x in zip(case.a, points, strict=True)]
    return sum(terms, (case.b * operator(*points)).abs().amax(0))


def _interval(random: torch.Generator, neurons: int, limit: float, dtype: torch.dtype) -> Interval:
    anywhere = (2 * torch.rand(neurons, generator=random, dtype=torch.float64) - 1) * limit
    near = _pick(random, neurons, PLACES) + _pick(random, neurons, SHIFTS)
    close = torch.randn(neurons, generator=random, dtype=torch.float64)
    start = _mix(random, (near, close, anywhere))
    other = _mix(random, (near[torch.randperm(neurons, generator=random)], close, anywhere))
    width = torch.rand(neurons, generator=random, dtype=torch.float64) ** 3 * 8
    end = _mix(random, (start + _pick(random, neurons, WIDTHS), start - width, other))
    start, end = start.to(dtype), end.to(dtype)
    narrow = torch.rand(neurons, generator=random) < 0.1
    end = torch.where(narrow, start.nextafter(torch.full_like(start, torch.inf)), end)
    return Interval(torch.minimum(start, end), torch.maximum(start, end))


def _coefficients(random: torch.Generator, neurons: int, values: Sequence[float]) -> Tensor:
    ordinary = 6 * torch.rand(neurons, generator=random, dtype=torch.float64) - 3
    return _mix(random, (_pick(random, neurons, values), ordinary))


def _inside(random: torch.Generator, interval: Interval) -> Tensor:
    """Give both ends, the places where operators change, and random points, in random order."""
    lower, upper = interval
    fractions = torch.rand(30, len(lower), generator=random, dtype=torch.float64).to(lower)
    places = torch.tensor(PLACES, dtype=lower.dtype)[:, None].expand(-1, len(lower))
    ends = torch.stack((lower, upper)).repeat(6, 1)
    points = torch.cat((lower + (upper - lower) * fractions, places, ends))
    # Ordered anew for each operand, so that corners meet corners of the other operands.
    order = torch.randperm(len(points), generator=random)
    return torch.minimum(torch.maximum(points[order], lower), upper)


def _pick(random: torch.Generator, neurons: int, values: Sequence[float]) -> Tensor:
    index = torch.randint(len(values), (neurons,), generator=random)
    return torch.tensor(values, dtype=torch.float64)[index]


def _mix(random: torch.Generator, choices: Sequence[Tensor]) -> Tensor:
    index = torch.randint(len(choices), (1, len(choices[0])), generator=random)
    return torch.stack(tuple(choices)).gather(0, index)[0]
