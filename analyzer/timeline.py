"""What ran when, for how long, and what it gained: recorded while a run goes on."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from absolver.analyzer.report import Event, Kind, Stage

Gained = Callable[[], Mapping[str, float]]
"""Says, when something has ended, what it has gained, by name."""


class Timeline:
    """The events of one run; whoever runs something tells it."""

    def __init__(self) -> None:
        """Begin the clock."""
        self._start = time.monotonic()
        self._depth = 0
        self._events: list[Event] = []

    @property
    def events(self) -> tuple[Event, ...]:
        """What has ended by now, in the order in which it began."""
        return tuple(sorted(self._events, key=lambda event: (event.start, event.depth)))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that have ended by now, in the order in which they did."""
        ended = (event for event in self._events if event.kind is Kind.STAGE)
        return tuple(Stage(event.name, event.seconds) for event in ended)

    @contextmanager
    def during(self, kind: Kind, name: str, gained: Gained = dict) -> Iterator[None]:
        """Record what runs in the block, also if that is cut short."""
        start, depth = time.monotonic(), self._depth
        self._depth += 1
        try:
            yield
        finally:
            self._depth = depth
            self._events.append(
                Event(
                    kind=kind,
                    name=name,
                    start=start - self._start,
                    seconds=time.monotonic() - start,
                    depth=depth,
                    gained=gained(),
                )
            )
