"""A point in time after which work stops, also in the middle of a long computation."""

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class DeadlineExpired(BaseException):
    """The time is over; not an error, so nothing but the one who set the deadline catches it."""


@dataclass(frozen=True)
class Deadline:
    """When to stop, on the clock of `time.monotonic`; `inf` for never."""

    at: float = math.inf

    @classmethod
    def after(cls, seconds: float | None) -> "Deadline":
        """Return the deadline that many seconds from now, or never for None."""
        return cls() if seconds is None else cls(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    def check(self) -> None:
        """Raise `DeadlineExpired` if the time is over."""
        if self.remaining == 0.0:
            raise DeadlineExpired

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Raise `DeadlineExpired` inside the block when the time is over.

        In the main thread a timer interrupts even a call that checks nothing itself, between two
        of its Python instructions; elsewhere signals are not to be had, and `check` must do.
        """
        self.check()
        main_thread = threading.current_thread() is threading.main_thread()
        if math.isinf(self.at) or not main_thread or not hasattr(signal, "setitimer"):
            yield
            return
        previous = signal.signal(signal.SIGALRM, _expire)
        report = sys.unraisablehook

        def report_others(lost: "sys.UnraisableHookArgs") -> None:
            if not isinstance(lost.exc_value, DeadlineExpired):
                report(lost)

        # Once more each second: what is raised where Python cannot pass it on, as while it collects
        # garbage, is lost, and nobody wants to read of it.
        sys.unraisablehook = report_others
        signal.setitimer(signal.ITIMER_REAL, max(self.remaining, 1e-6), 1.0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, previous)
            sys.unraisablehook = report


def _expire(signum: int, frame: FrameType | None) -> None:
    raise DeadlineExpired
