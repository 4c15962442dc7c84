"""Several searches on one problem, by turns of growing length, until one of them ends."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.report import Kind
from absolver.analyzer.search.search import Search, State
from absolver.analyzer.timeline import Timeline

_FIRST_TURN = 0.4
# A search that is so far behind the best one after some turns gets no more of them.
_HOPELESS = 0.02
_PATIENCE = 3
# Of the time that is left, for a better preparation; and at most so many seconds.
_PREPARATION_SHARE, _MOST_PREPARATION = 0.1, 120.0
# A search that has closed so much of itself by then does without.
_PROMISING = 0.3
# The attack's turns are shorter: it is there to end a search that could never end.
_ATTACK_SHARE = 0.25
# Where no search can go on, the attack still gets some turns, of so many seconds at least.
_LAST_ATTACKS = (1.0, 2.0)


@dataclass(frozen=True)
class Contender:
    """A search that may take part, made when its first turn begins, as that may take long.

    `make` is told in which state an earlier race has left the search, and returns None where the
    problem does not suit it. Its turns are `weight` times as long as others': what is known to
    pay goes first. Where the first turns do not decide, `again` may begin anew with a better
    preparation, for which it is told the seconds that it may take.
    """

    name: str
    make: Callable[[State | None], Search | None]
    weight: float = 1.0
    again: Callable[[float], Search | None] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Standing:
    """Where a race is between two steps: who still takes part, and how far they are."""

    turn: float
    """How many seconds a turn takes in this round."""
    turns: int
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    """Who has not had a whole turn in this round; the first one has had `spent` seconds of it."""
    spent: float
    states: Mapping[str, State]

    def compact(self) -> "Standing":
        """Return the same standing in few arrays."""
        states = {name: state.compact() for name, state in self.states.items()}
        return replace(self, states=states)


@dataclass(frozen=True)
class Rivals:
    """What runs beside the searches: an attack, the clock, and who is told how it goes.

    `attack` is told for how many seconds to try, and says whether that has decided. `keep` may
    ask for the race's standing after every step.
    """

    attack: Callable[[float], bool]
    deadline: Deadline
    watch: Callable[[Search], None]
    timeline: Timeline = field(default_factory=Timeline)
    keep: Callable[[Callable[[], Standing]], None] = lambda standing: None


class Race:
    """Contenders that take turns, until one of them has decided.

    Turns double, so that what is found is found in at most a small multiple of the time that the
    best contender alone takes.
    """

    def __init__(
        self, contenders: Sequence[Contender], rivals: Rivals, standing: Standing | None = None
    ) -> None:
        """Begin, or go on from where a race of the same contenders was."""
        self._rivals = rivals
        self._running = list(contenders)
        self._waiting = list(contenders)
        self._turn, self._turns, self._spent = _FIRST_TURN, 0, 0.0
        self._made: dict[str, Search | None] = {}
        if standing is not None:
            self._turn, self._turns, self._spent = standing.turn, standing.turns, standing.spent
            self._running = [one for one in contenders if one.name in standing.running]
            self._waiting = [one for one in self._running if one.name in standing.waiting]
            for one in self._running:
                if one.name in standing.states:
                    self._made[one.name] = one.make(standing.states[one.name])

    @property
    def searches(self) -> Sequence[Search]:
        """Every search that was made."""
        return [search for search in self._made.values() if search is not None]

    def standing(self) -> Standing:
        """Return where the race is."""
        return Standing(
            turn=self._turn,
            turns=self._turns,
            running=tuple(one.name for one in self._running),
            waiting=tuple(one.name for one in self._waiting),
            spent=self._spent,
            states={search.name: search.state() for search in self.searches},
        )

    def run(self) -> Search | None:
        """Run until a search or the attack has decided, or nobody can go on, or the time is over.

        Returns the search that has decided, if one has.
        """
        winner = next((search for search in self.searches if search.done), None)
        while winner is None and self._running and self._rivals.deadline.remaining > 0:
            winner = self._round()
            if winner is None and self._attack(_ATTACK_SHARE * self._turn):
                return None
            self._turn, self._turns = 2 * self._turn, self._turns + 1
            if self._turns >= _PATIENCE:
                self._drop_hopeless()
            self._waiting = list(self._running)
        if winner is None:
            self._attack_alone()
        return winner

    def _round(self) -> Search | None:
        """Give each contender a turn; return the first search that has decided."""
        while self._waiting:
            contender = self._waiting[0]
            search = self._take_turn(contender)
            if search is not None and search.done:
                return search
            if search is None or search.over:
                self._running.remove(contender)
            del self._waiting[0]
            self._spent = 0.0
        return None

    def _take_turn(self, contender: Contender) -> Search | None:
        rivals, timeline = self._rivals, self._rivals.timeline
        if contender.name not in self._made:
            with timeline.during(Kind.PREPARATION, contender.name):
                self._made[contender.name] = contender.make(None)
        search = self._made[contender.name]
        if self._turns == _PATIENCE and contender.again is not None and _far_off(search):
            with timeline.during(Kind.PREPARATION, contender.name):
                seconds = min(_PREPARATION_SHARE * rivals.deadline.remaining, _MOST_PREPARATION)
                search = contender.again(seconds) or search
            self._made[contender.name] = search
        if search is None:
            return None
        start, spent = time.monotonic(), self._spent
        left = contender.weight * self._turn - spent
        end = start + min(left, rivals.deadline.remaining)
        with timeline.during(Kind.TURN, contender.name, _progress(search)):
            while not search.over and time.monotonic() < end:
                search.step()
                self._spent = spent + time.monotonic() - start
                rivals.watch(search)
                rivals.keep(self.standing)
        return search

    def _attack(self, seconds: float) -> bool:
        rivals = self._rivals
        if rivals.deadline.remaining <= 0:
            return False
        with rivals.timeline.during(Kind.ATTACK, "attack"):
            return rivals.attack(min(seconds, rivals.deadline.remaining))

    def _attack_alone(self) -> None:
        for seconds in _LAST_ATTACKS:
            if self._attack(max(seconds, _ATTACK_SHARE * self._turn)):
                return

    def _drop_hopeless(self) -> None:
        """Leave out searches that are far behind the best one."""
        closed = {s.name: s.closed for s in self.searches}
        best = max((closed[one.name] for one in self._running), default=0.0)
        self._running = [one for one in self._running if closed[one.name] >= _HOPELESS * best]


def _far_off(search: Search | None) -> bool:
    return search is None or search.closed < _PROMISING


def _progress(search: Search) -> Callable[[], Mapping[str, float]]:
    """Return what says how far a search has come from now on, and where it is then."""
    bounded, looked_ahead = search.bounded, search.looked_ahead

    def gained() -> Mapping[str, float]:
        return {
            "bounded": search.bounded - bounded,
            "looked ahead": search.looked_ahead - looked_ahead,
            "open": search.open,
            "closed": search.closed,
            "worst margin": search.worst,
        }

    return gained
