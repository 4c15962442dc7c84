"""The iteration: reducers run in turn until a problem is decided or nothing moves any more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.fixpoint.reducers import Problem, Reducer
from absolver.analyzer.fixpoint.store import FactStore
from absolver.analyzer.propagate.precision import full_float32

# A round that shrinks no interval by a thousandth is not worth another one.
_SMALLEST_GAIN = 1e-3


@dataclass(frozen=True)
class Fixpoint:
    """Where the iteration ended."""

    rows: Float[Tensor, "batch rows"]
    """The best lower bound of each row that any reducer gave; `-inf` where none did."""
    refuted: Bool[Tensor, " batch"]
    """Elements whose unsafe set is proved empty."""
    rounds: int
    reason: str
    """Why it ended: decided, no gain, or out of budget."""


def reduce_to_fixpoint(
    problem: Problem,
    reducers: Sequence[Reducer],
    store: FactStore,
    *,
    strict: Bool[Tensor, "batch rows"] | None = None,
    most_rounds: int = 20,
    out_of_time: Callable[[], bool] = lambda: False,
) -> Fixpoint:
    """Run every reducer in turn, round after round.

    Guarantee: an element is refuted only if no x of its region meets all of its unsafe rows
    (over the reals, up to rounding). Bounds never loosen from one round to the next, and the
    iteration ends after `most_rounds` rounds at the latest, whatever the reducers do.

    `strict` marks unsafe rows that are strict inequalities: a bound that is reached excludes them.
    """
    bound = problem.unsafe.bound
    rows = torch.full_like(bound, -torch.inf)
    refuted = torch.zeros(bound.shape[0], dtype=torch.bool, device=bound.device)
    for round_number in range(1, most_rounds + 1):
        gain = 0.0
        for reducer in reducers:
            with full_float32():
                found = reducer.reduce(problem, store)
            gain = max(gain, found.gain)
            if found.rows is not None:
                rows = torch.maximum(rows, found.rows)
            above = rows > bound
            if strict is not None:
                above |= strict & (rows >= bound)
            refuted = refuted | found.empty | above.any(1)
            if bool(refuted.all()):
                return Fixpoint(rows, refuted, round_number, "decided")
            if out_of_time():
                return Fixpoint(rows, refuted, round_number, "out of time")
        if gain < _SMALLEST_GAIN:
            return Fixpoint(rows, refuted, round_number, "no reducer gains any more")
    return Fixpoint(rows, refuted, most_rounds, f"{most_rounds} rounds")
