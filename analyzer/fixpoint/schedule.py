"""The schedule of costly reducers: the one that has gained most per second goes on."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.fixpoint.reducers import Problem, Reducer, Reduction
from absolver.analyzer.fixpoint.store import FactStore

# What a reducer gains in a second is the mean of its last turn and of all before, halved each time.
_WEIGHT = 0.5
_SMALLEST_GAIN = 1e-3
# What is kept of the time for a last turn.
_CLOSING = 0.2


@dataclass(frozen=True)
class Turn:
    """One turn of a reducer: how long it took, and which share of what was missing it brought."""

    reducer: str
    seconds: float
    gain: float


@dataclass(frozen=True)
class Scheduled:
    """Where a schedule has ended."""

    rows: Float[Tensor, "batch rows"]
    refuted: Bool[Tensor, " batch"]
    turns: tuple[Turn, ...]
    reason: str


@dataclass(frozen=True)
class Purpose:
    """What a schedule is for, and what it may take."""

    refuted: Callable[[Tensor], Bool[Tensor, " batch"]]
    """Says which elements bounds of rows refute."""
    seconds: float = inf
    slice_s: float = 1.0
    """How long a turn is, at most."""
    closing: Reducer | None = None
    """Has the last turn where nothing is decided, in time that is kept for it."""
    clock: Callable[[], float] = time.monotonic
    tell: Callable[[Sequence[Turn]], None] = lambda turns: None
    """Told after each turn; may raise to end it all."""


@dataclass
class _Standing:
    """What is known of one reducer."""

    reducer: Reducer
    rate: float | None = None
    """Gain per second; None before its first turn."""
    turns: int = 0
    last: int = 0
    """The number of its last turn among all turns."""
    exhausted: bool = False


@dataclass
class _State:
    """What all turns have found."""

    rows: Tensor
    empty: Tensor
    turns: list[Turn] = field(default_factory=list)


def reduce_by_gain(
    problem: Problem, base: Reducer, oracles: Sequence[Reducer], store: FactStore, purpose: Purpose
) -> Scheduled:
    """Run a cheap reducer, then costly ones in turns, each followed by the cheap one.

    Every oracle has one turn, in order; from then on the one that gains most per second, or, where
    none has gained, the one that has waited longest. A gain is by how much the mean distance of
    rows from their bounds has shrunk, as a share of what it was after the first pass. What is
    exhausted rests until facts change.

    Guarantee: as `reduce_to_fixpoint`. Given the clock's answers the turns are always the same; no
    turn begins once the time is over, and none is told to take longer than what is left.
    """
    start = purpose.clock()
    none = torch.full_like(problem.unsafe.bound, -torch.inf)
    state = _State(none, problem.nowhere)
    _take(state, base.reduce(problem, store))
    scale = _distance(problem, state.rows)
    standings = [_Standing(oracle) for oracle in oracles]

    def take_turn(one: _Standing, seconds: float) -> None:
        began, before = purpose.clock(), _share(problem, state.rows, scale)
        found = one.reducer.reduce(problem, store, seconds)
        _take(state, found)
        if found.gain > 0:
            _take(state, base.reduce(problem, store))
        taken = max(purpose.clock() - began, 1e-9)
        gain = before - _share(problem, state.rows, scale)
        _record(one, found, gain / taken, len(state.turns))
        if found.gain > _SMALLEST_GAIN:
            for other in standings:
                other.exhausted &= other is one
        state.turns.append(Turn(one.reducer.name, taken, gain))
        purpose.tell(state.turns)

    def refuted() -> Tensor:
        return state.empty | purpose.refuted(state.rows)

    def left() -> float:
        return purpose.seconds - (purpose.clock() - start)

    kept = (
        _CLOSING * purpose.seconds
        if purpose.closing is not None and isfinite(purpose.seconds)
        else 0.0
    )
    reason = "decided"
    while not bool(refuted().all()):
        awake = [one for one in standings if not one.exhausted]
        if not left() > kept or not awake:
            reason = "no reducer gains any more" if not awake else "out of time"
            break
        take_turn(_next(awake), min(purpose.slice_s, left() - kept))
    if reason != "decided" and purpose.closing is not None and left() > 0:
        take_turn(_Standing(purpose.closing), left())
        reason = "decided" if bool(refuted().all()) else reason
    return Scheduled(state.rows, refuted(), tuple(state.turns), reason)


def _next(awake: Sequence[_Standing]) -> _Standing:
    """Choose who is next: who has never run, who gains most per second, who has waited longest."""
    for one in awake:
        if one.rate is None:
            return one
    best = max(awake, key=lambda one: one.rate or 0.0)
    return best if best.rate else min(awake, key=lambda one: one.last)


def _record(one: _Standing, found: Reduction, rate: float, number: int) -> None:
    one.rate = rate if one.rate is None else _WEIGHT * rate + (1 - _WEIGHT) * one.rate
    one.rate = one.rate if one.rate > 1e-9 else 0.0
    one.turns, one.last, one.exhausted = one.turns + 1, number, found.exhausted


def _take(state: _State, found: Reduction) -> None:
    if found.rows is not None:
        state.rows = torch.fmax(state.rows, found.rows)
    state.empty = state.empty | found.empty


def _distance(problem: Problem, rows: Tensor) -> Tensor:
    """Return how far bounds of rows are from refuting."""
    return (problem.unsafe.bound - rows).clamp(min=0)


def _share(problem: Problem, rows: Tensor, scale: Tensor) -> float:
    """Return the mean distance of rows, as a share of what it was; of infinite ones, 1 or 0."""
    distance = _distance(problem, rows)
    finite = scale.isfinite()
    share = torch.where(scale > 0, distance / torch.where(finite & (scale > 0), scale, 1.0), 0.0)
    share = torch.where(finite, share, distance.isinf().to(share))
    asked = problem.unsafe.bound.isfinite()
    return float(share[asked].mean()) if bool(asked.any()) else 0.0
