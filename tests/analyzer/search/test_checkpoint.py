"""A run that goes on from a checkpoint is the run that was cut short."""

import errno
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.errors import EXIT_CANNOT_CREATE, EXIT_DATA
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.results import UnwritableError
from absolver.analyzer.search import checkpoint as module
from absolver.analyzer.search.checkpoint import Checkpoint, CheckpointError, Saved
from absolver.analyzer.search.race import Standing
from absolver.analyzer.search.records import Decoder, encode
from absolver.analyzer.search.search import BranchAndBound, State
from tests.analyzer.search.problems import (
    BOUNDING,
    CUTS,
    LINES,
    NETWORKS,
    SEARCHED,
    SEARCHES,
    TRIPLES,
    box,
    specify,
)

ABOUT = {"network": "12", "property": "34"}
DOMAINS = (BOUNDING, LINES, SEARCHED, TRIPLES, CUTS)


def searching(name: str, kind: str, seed: int) -> tuple[Graph, Specification, BranchAndBound]:
    """A search on a property that holds narrowly; every step bounds one batch of a fixed size."""
    graph = NETWORKS[kind](seed)
    region = box(2, graph, seed, 0.7)
    points = region.sample(300, torch.Generator().manual_seed(seed)).flatten(0, 1)
    y = graph(points).flatten(1)[:, 0]
    first = [1.0] + [0.0] * (int(np.prod(graph.output.shape)) - 1)
    bound = float(y.min() - 0.05 * y.std())
    whole = specify(region, [[(first, bound)], [(first, bound - 0.1)]])
    return graph, whole, steady(SEARCHES[name](graph, whole))


def steady(search: BranchAndBound) -> BranchAndBound:
    """The same search with batches of four: what it does hangs on no clock."""
    search._batch, search._step_seconds = 4, 0.0
    return search


def walk(search: BranchAndBound, branches: int) -> None:
    while not search.over and search.bounded < branches:
        search.step()


def saved(*states: State) -> Saved:
    standing = Standing(
        turn=0.8,
        turns=1,
        running=("a", "b"),
        waiting=("b",),
        spent=0.3,
        states={f"search {number}": state for number, state in enumerate(states)},
    )
    return Saved(refuted=torch.tensor([[True, False]]), standing=standing)


def checkpoint(path: Path, about: dict[str, str] = ABOUT) -> Checkpoint:
    return Checkpoint(path, about, DOMAINS, "cpu")


def written(path: Path, content: Saved) -> None:
    own = checkpoint(path)
    own.keep(lambda: content)
    assert own.flush() and path.exists()


def same(first: object, second: object) -> bool:
    """Whether two states are made of the same numbers."""
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    words = [encode(value, arrays) for value, arrays in zip((first, second), parts, strict=True)]
    equal = [
        a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in zip(*parts, strict=True)
    ]
    return words[0] == words[1] and all(equal)


@pytest.mark.parametrize("name", sorted(SEARCHES))
@settings(max_examples=4)
@given(
    kind=st.sampled_from(("relu", "mixed", "max")),
    seed=st.integers(0, 10_000),
    cut=st.integers(0, 20),
)
def test_a_search_that_goes_on_from_its_state_does_what_it_would_have_done(
    name: str, kind: str, seed: int, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    graph, whole, search = searching(name, kind, seed)
    walk(search, cut)
    state, before = search.state(), search.bounded
    path = tmp_path_factory.mktemp("checkpoint") / "run"
    written(path, saved(state))
    walk(search, 36)

    found = checkpoint(path).load()
    assert found is not None
    (restored,) = found.standing.states.values()
    assert same(restored, state.compact())
    again = steady(SEARCHES[name](graph, whole))
    again.restore(restored)
    assert again.bounded == before
    walk(again, 36)
    # Not only the same answer: the same branches, splits and proofs, none of them made twice.
    assert same(again.state().compact(), search.state().compact())
    if search.done:
        proofs = again.proofs()
        nodes = sum(len(proof.levels.split) for proof in proofs)
        assert nodes == again.bounded and same(levels(proofs), levels(search.proofs()))


def levels(proofs: object) -> tuple[object, ...]:
    return tuple(proof.levels for proof in proofs)  # type: ignore[attr-defined]


def test_a_standing_comes_back_whole(tmp_path: Path) -> None:
    states = [searching(name, "relu", 1)[2].state() for name in sorted(SEARCHES)]
    content = saved(*states)
    written(tmp_path / "run", content)
    found = checkpoint(tmp_path / "run").load()
    whole = replace(content, standing=content.standing.compact())
    assert found is not None and same(found, whole)
    assert found.standing.states["search 0"].root.lines is LINES
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a small checkpoint."""
    search = searching("activations", "relu", 3)[2]
    walk(search, 8)
    path = tmp_path_factory.mktemp("content") / "run"
    written(path, saved(search.state()))
    return path.read_bytes()


@settings(max_examples=150)
@given(data=st.data())
def test_a_byte_that_was_changed_is_noticed_or_changes_nothing(
    data: st.DataObject, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("changed") / "run"
    path.write_bytes(content)
    whole = checkpoint(path).load()
    place = data.draw(st.integers(0, len(content) - 1))
    value = data.draw(st.integers(0, 255))
    path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
    try:
        found = checkpoint(path).load()
    except CheckpointError as error:
        assert str(path) in str(error) and error.exit_code == EXIT_DATA
    else:
        assert same(found, whole)


@settings(max_examples=50)
@given(data=st.data())
def test_a_prefix_is_refused(
    data: st.DataObject, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("prefix") / "run"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(CheckpointError):
        checkpoint(path).load()


def test_nothing_but_numbers_and_known_records_is_read(tmp_path: Path) -> None:
    decoder = Decoder(lambda number: np.zeros(1), (Saved,), (), "cpu")
    for unknown in ({"record": "system", "fields": {}}, {"call": "x"}, [1], {"domain": "none"}):
        with pytest.raises((ValueError, LookupError)):
            decoder.decode(unknown)
    path = tmp_path / "run"
    written(path, saved())
    header = path.read_bytes()[: path.read_bytes().index(b"PK")]
    with path.open("wb") as file:
        file.write(header)
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("run.json", json.dumps({"array": 0}))
            with archive.open("0.npy", "w") as member:
                objects = np.array([Path("code that a pickle would run")], dtype=object)
                np.lib.format.write_array(member, objects, allow_pickle=True)
    with pytest.raises(CheckpointError, match="is no whole checkpoint"):
        checkpoint(path).load()


def test_the_checkpoint_of_another_run_is_refused_by_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "run"
    written(path, saved())
    with pytest.raises(CheckpointError, match="its property differs"):
        checkpoint(path, {"network": "12", "property": "35"}).load()
    with pytest.raises(CheckpointError, match="its network, property differ"):
        checkpoint(path, {"network": "1", "property": "3"}).load()
    path.write_text("something else")
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        checkpoint(path).load()


def test_without_a_file_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert checkpoint(tmp_path / "run").load() is None


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "run", tmp_path, Path("/dev/null")):
        with pytest.raises(UnwritableError) as caught:
            checkpoint(path)
        assert caught.value.exit_code == EXIT_CANNOT_CREATE


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        yield


def test_a_full_disk_is_said_and_keeps_the_last_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    written(path, saved())
    before = path.read_bytes()
    own = checkpoint(path)
    own.keep(lambda: saved(searching("inputs", "relu", 1)[2].state()))
    with full_disk(monkeypatch):
        assert not own.flush() and own.failure == "the disk is full"
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    assert own.flush() and not own.failure and path.read_bytes() != before


def test_writing_takes_little_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write takes 2 seconds on this clock, and a step 1."""
    now = 0.0
    writes = []

    def slow(self: Checkpoint, content: Saved) -> None:
        nonlocal now
        now += 2.0
        writes.append(now)

    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(Checkpoint, "_write", slow)
    own = checkpoint(tmp_path / "run")
    for _ in range(1000):
        now += 1.0
        own.keep(lambda: saved())
    assert writes[0] == 7.0
    assert 0.01 * now <= 2 * len(writes) <= 0.03 * now
