"""Searches take turns, and probes find what is near a bad branch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.regions.box import Box
from absolver.analyzer.search import race as module
from absolver.analyzer.search.probing import SHARE
from absolver.analyzer.search.proof import TreeProof
from absolver.analyzer.search.race import Contender, Race, Rivals
from absolver.analyzer.search.search import Search, State
from tests.analyzer.search.problems import SEARCHES, box, prober, run, specify
from tests.networks import DTYPE, relu_network


@dataclass
class Clock:
    """A clock that only steps move."""

    now: float = 0.0
    log: list[tuple[str, float]] = field(default_factory=list)


class Steps(Search):
    """A search that takes so many steps of a second, and closes so much with each."""

    def __init__(self, name: str, clock: Clock, steps: int, gain: float) -> None:
        self.name, self._clock, self._left, self._gain = name, clock, steps, gain

    @property
    def open(self) -> int:
        return self._left

    @property
    def worst(self) -> float:
        return 0.0

    def step(self) -> None:
        self._clock.log.append((self.name, self._clock.now))
        self._clock.now += 0.1
        self._left -= 1
        self.closed += self._gain

    def proofs(self) -> Sequence[TreeProof]:
        return []

    def state(self) -> State:
        raise AssertionError("nobody keeps it")

    def enter(self, weight: float = 1.0) -> Contender:
        return Contender(self.name, lambda _: self, weight)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: own.now)
    return own


def run_race(
    contenders: Sequence[Steps | Contender],
    clock: Clock,
    seconds: float = 100.0,
    hit_at: float = 1e9,
) -> tuple[Search | None, list[float]]:
    """A race against an attack that takes the time it is given; also how long its turns were."""
    turns: list[float] = []

    def attack(limit: float) -> bool:
        turns.append(limit)
        clock.now += limit
        return clock.now >= hit_at

    entries = [one.enter() if isinstance(one, Steps) else one for one in contenders]
    rivals = Rivals(attack, Deadline.after(seconds), lambda search: None)
    return Race(entries, rivals).run(), turns


def test_the_first_search_that_is_done_wins_soon_after_its_own_time(clock: Clock) -> None:
    slow = Steps("slow", clock, 10_000, 0.001)
    quick = Steps("quick", clock, 30, 0.03)
    winner, turns = run_race([slow, quick], clock)
    assert winner is quick
    # Its own 3 seconds, as much for the other one with a turn that is half done, and attacks.
    assert clock.now <= 4 * 3
    assert turns == pytest.approx([0.25 * module._FIRST_TURN * 2**k for k in range(len(turns))])


def test_a_weight_makes_turns_longer(clock: Clock) -> None:
    light, heavy = Steps("light", clock, 10_000, 0.01), Steps("heavy", clock, 10_000, 0.01)
    run_race([heavy.enter(8.0), light], clock, seconds=20.0)
    count = {name: sum(n == name for n, _ in clock.log) for name in ("light", "heavy")}
    assert 4 <= count["heavy"] / count["light"] <= 16


def test_what_is_hopeless_gets_no_turns_after_some(clock: Clock) -> None:
    good, bad = Steps("good", clock, 10_000, 1e-3), Steps("bad", clock, 10_000, 1e-6)
    run_race([bad, good], clock, seconds=60.0)
    last = max(now for name, now in clock.log if name == "bad")
    assert last < 10 and max(now for _, now in clock.log) > 50


def test_a_hit_of_the_attack_or_the_end_of_time_ends_the_race_without_a_winner(
    clock: Clock,
) -> None:
    assert run_race([Steps("a", clock, 10_000, 0)], clock, hit_at=1.0)[0] is None
    assert clock.now < 3
    start = clock.now
    assert run_race([Steps("a", clock, 10_000, 0)], clock, seconds=5.0)[0] is None
    assert clock.now <= start + 5.2


def test_a_search_that_is_done_at_once_wins_without_a_step(clock: Clock) -> None:
    done = Steps("done", clock, 0, 0)
    assert run_race([done], clock)[0] is done and not clock.log


def test_a_search_that_is_far_off_begins_anew_better_prepared(clock: Clock) -> None:
    slow, better = Steps("one", clock, 10_000, 1e-5), Steps("one", clock, 20, 0.05)
    asked: list[float] = []

    def again(seconds: float) -> Search:
        asked.append(seconds)
        return better

    assert run_race([Contender("one", lambda _: slow, again=again)], clock)[0] is better
    assert len(asked) == 1 and 0 < asked[0] < 20
    near = Steps("near", clock, 80, 0.0125)
    assert run_race([Contender("near", lambda _: near, again=again)], clock)[0] is near
    assert len(asked) == 1


def planted(seed: int) -> tuple[Graph, Box, torch.Tensor, float]:
    """A network, a box, and its output at the least of many points, away from the centre."""
    graph = relu_network((3, 6, 5, 1), seed).to("cpu", torch.float32).to("cpu", DTYPE)
    region = Box(*(side.float().double() for side in box(1, graph, seed, 0.8).bounding_box()))
    x = region.sample(2000, torch.Generator().manual_seed(seed))[0]
    y = graph(x).flatten()
    return graph, region, x[y.argmin()], float(y.min() + 1e-3 * (y.max() - y.min()))


@pytest.mark.parametrize("name", sorted(SEARCHES))
@pytest.mark.parametrize("seed", range(4))
def test_a_search_finds_a_planted_counterexample(name: str, seed: int) -> None:
    graph, region, _, bound = planted(seed)
    whole = specify(region, [[((1.0,), bound - 9)], [((1.0,), bound)]])
    probe = prober(graph, whole)
    search = SEARCHES[name](graph, whole, probe)
    assert run(search, 2000) and search.found
    assert probe.found is not None
    x = probe.found.double().unsqueeze(0)
    assert float(graph(x).flatten()[0]) <= bound
    assert (region.lower <= x).all() and (x <= region.upper).all()


def test_probes_find_what_lies_at_their_start_and_nothing_where_nothing_is() -> None:
    graph, region, x, bound = planted(0)
    whole = specify(region, [[((1.0,), bound)]])
    probe = prober(graph, whole)
    assert probe(whole, x.unsqueeze(0), torch.tensor([0])) and probe.found is not None
    none = specify(region, [[((1.0,), bound - 9)]])
    probe = prober(graph, none)
    assert not probe(none, x.unsqueeze(0), torch.tensor([0])) and probe.found is None


def test_probes_are_due_while_they_have_had_less_than_their_share(clock: Clock) -> None:
    graph, region, x, bound = planted(0)
    none = specify(region, [[((1.0,), bound - 9)]])
    probe = prober(graph, none, SHARE)
    assert probe.due
    probe._spent = 1.0
    clock.now += 5.0
    assert not probe.due
    clock.now += 5.0
    assert probe.due
