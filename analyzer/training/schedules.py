"""Numbers that change while a network is trained: pure functions of the step's number."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from absolver.analyzer.training.errors import TrainingError


class Schedule(ABC):
    """A number for each step of a training.

    It has no state of its own: a training that goes on at a step goes on with the same numbers.
    """

    @abstractmethod
    def at(self, step: float) -> float:
        """Return the number at a step, counted from 0."""

    @abstractmethod
    def stretched(self, factor: float) -> Self:
        """Return the schedule with its times multiplied, as from epochs to steps."""


Number = float | Schedule
"""A number that may change: what every parameter of a loss is."""


def value(number: Number, step: float) -> float:
    """Return a number at a step."""
    return number.at(step) if isinstance(number, Schedule) else float(number)


def stretch(number: Number, factor: float) -> Number:
    """Multiply the times of a number, as from epochs to steps."""
    return number.stretched(factor) if isinstance(number, Schedule) else number


@dataclass(frozen=True)
class Const(Schedule):
    """Always the same number."""

    number: float

    def at(self, step: float) -> float:
        """Return the number."""
        return self.number

    def stretched(self, factor: float) -> Self:
        """Return this schedule: it has no times."""
        return self


@dataclass(frozen=True)
class _Ramp(Schedule):
    """From one number to another between two times, constant outside."""

    start: float
    end: float
    begin: float
    until: float

    def __post_init__(self) -> None:
        """Check the times."""
        if not self.begin < self.until:
            raise TrainingError(
                f"a ramp ends after it begins: begin = {self.begin:g}, until = {self.until:g}"
            )

    def at(self, step: float) -> float:
        """Return the number at a step."""
        place = (step - self.begin) / (self.until - self.begin)
        return self.start + (self.end - self.start) * self._share(min(1.0, max(0.0, place)))

    def stretched(self, factor: float) -> Self:
        """Multiply both times."""
        return replace(self, begin=self.begin * factor, until=self.until * factor)

    @abstractmethod
    def _share(self, place: float) -> float:
        """Return which share of the way is done at a place of [0, 1]."""


@dataclass(frozen=True)
class Linear(_Ramp):
    """A straight ramp."""

    def _share(self, place: float) -> float:
        return place


@dataclass(frozen=True)
class Smooth(_Ramp):
    """A ramp that starts as a power of time, and goes on straight from `middle` of the way.

    Guarantee: its derivative is continuous before the end. (Xu et al., "Automatic Perturbation
    Analysis for Scalable Certified Robustness and Beyond", 2020, `SmoothedScheduler`.)
    """

    middle: float = 0.25
    power: float = 4.0

    def _share(self, place: float) -> float:
        # a m^p + (1 - m) a p m^(p - 1) = 1: the straight part has the power's slope at m.
        m, p = self.middle, self.power
        a = 1 / (m**p + (1 - m) * p * m ** (p - 1))
        if place <= m:
            return float(a * place**p)
        return float(a * (m**p + p * m ** (p - 1) * (place - m)))


@dataclass(frozen=True)
class Step(Schedule):
    """A number that is multiplied by a factor at each milestone."""

    start: float
    factor: float
    milestones: Sequence[float]

    def at(self, step: float) -> float:
        """Multiply once for each milestone that has been reached."""
        return self.start * self.factor ** sum(step >= time for time in self.milestones)

    def stretched(self, factor: float) -> Self:
        """Multiply the milestones."""
        return replace(self, milestones=tuple(time * factor for time in self.milestones))


@dataclass(frozen=True)
class Until(Schedule):
    """One number before a time, another one from then on (DiffAI's `Until`)."""

    time: float
    before: Number
    after: Number

    def at(self, step: float) -> float:
        """Return what holds at a step."""
        return value(self.before if step < self.time else self.after, step)

    def stretched(self, factor: float) -> Self:
        """Multiply the time, and those of both numbers."""
        before, after = stretch(self.before, factor), stretch(self.after, factor)
        return replace(self, time=self.time * factor, before=before, after=after)
