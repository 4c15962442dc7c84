"""Several searches on one problem, by turns of growing length, until one of them ends."""

import time
from collections.abc import Callable, Sequence

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.search.search import Search

_FIRST_TURN = 0.4
# A search that is so far behind the best one after some turns gets no more of them.
_HOPELESS = 0.02
_PATIENCE = 3
# The attack's turns are shorter: it is there to end a search that could never end.
_ATTACK_SHARE = 0.25


def race(
    searches: Sequence[Search],
    attack: Callable[[float], bool],
    deadline: Deadline,
    watch: Callable[[Search], None],
) -> Search | None:
    """Run searches by turns; return the first one that has decided, or None if none does in time.

    `attack` is told for how many seconds to try, and says whether it has found a counterexample,
    which ends the race as well. Turns double, so that what is found is found in at most a small
    multiple of the time that the best contender alone takes.
    """
    running = list(searches)
    turn, turns = _FIRST_TURN, 0
    while running and deadline.remaining > 0:
        for search in tuple(running):
            end = time.monotonic() + min(search.weight * turn, deadline.remaining)
            while not search.over and time.monotonic() < end:
                search.step()
                watch(search)
            if search.done:
                return search
            if search.over:
                running.remove(search)
        if attack(min(_ATTACK_SHARE * turn, deadline.remaining)):
            return None
        turn, turns = 2 * turn, turns + 1
        if turns >= _PATIENCE:
            best = max((search.closed for search in running), default=0.0)
            running = [s for s in running if s.closed >= _HOPELESS * best]
    return None
