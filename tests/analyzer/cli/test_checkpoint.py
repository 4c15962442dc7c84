"""`analyze --checkpoint`: a run that was killed goes on; `--explain`: what ran when."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from absolver.analyzer import verify as verification
from absolver.analyzer.cli.analyze import main
from absolver.analyzer.deadline import DeadlineExpired
from absolver.analyzer.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_DATA,
    EXIT_INTERRUPTED,
    EXIT_NO_INPUT,
    EXIT_SOFTWARE,
    EXIT_UNKNOWN,
    EXIT_USAGE,
    EXIT_VERIFIED,
)
from absolver.analyzer.search.race import Rivals, Standing
from absolver.analyzer.search.search import Search
from absolver.analyzer.search.strategy import Outcome, Task

Write = Callable[..., Path]
Files = tuple[Path, Path]
UNIT = [("-1", "1")]
# As `analyze`, but that checkpoints are written after every step.
EAGER = """
import sys
from absolver.analyzer.search import checkpoint
checkpoint._SECONDS, checkpoint._SHARE = 0.0, 1.0
from absolver.analyzer.cli.analyze import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def hard(write_network: Write, write_property: Write) -> Files:
    """A property that holds, by a few hundreds of branches of either search at least."""
    random = np.random.default_rng(3)
    sizes = [12, 18, 18, 1]
    layers = [
        (1.4 * random.normal(size=(high, low)) / low**0.5, 0.3 * random.normal(size=high))
        for low, high in zip(sizes, sizes[1:], strict=False)
    ]
    x = random.uniform(-1, 1, (50_000, 12))
    for weight, bias in layers[:-1]:
        x = np.maximum(x @ weight.T + bias, 0)
    weight, bias = layers[-1]
    y = x @ weight.T + bias
    bound = f"{float(y.min() - 1.2 * y.std()):.3f}"
    return write_network(*layers), write_property([("-1", "1")] * 12, f"(<= Y_0 {bound})")


@pytest.fixture
def easy(write_network: Write, write_property: Write) -> Files:
    """|x| is at most 1.5 on [-1, 1]: one split proves it with intervals."""
    layers = (([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
    network = write_network(*layers, name="easy.onnx")
    return network, write_property(UNIT, "(>= Y_0 1.5)", name="easy.vnnlib")


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, list[str], str]:
    code = main([str(argument) for argument in argv])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


@pytest.fixture
def cut_short(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that makes searches end with an exception after so many steps."""
    search = verification.decide_by_search

    def after(steps: int, error: type[BaseException] = DeadlineExpired) -> None:
        def limited(task: Task, rivals: Rivals, standing: Standing | None) -> Outcome:
            left = iter(range(steps))

            def watch(own: Search) -> None:
                rivals.watch(own)
                if next(left, None) is None:
                    raise error

            return search(task, replace(rivals, watch=watch), standing)

        monkeypatch.setattr(verification, "decide_by_search", limited)

    return after


def start(files: Files, checkpoint: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", EAGER, *map(str, files), "--checkpoint", str(checkpoint)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen[str], writes: int) -> None:
    """Wait until a file was written so many times."""
    seen: set[int] = set()
    while len(seen) < writes and process.poll() is None:
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.005)


def resumed_after(lines: Sequence[str]) -> int:
    """Return how many branches had been bounded where a run has gone on."""
    note = next(line for line in lines if line.startswith("note: resumed from "))
    return int(note.split(", after ")[1].split()[0])


def test_a_killed_run_goes_on_and_bounds_nothing_twice(
    hard: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "run.checkpoint"
    with start(hard, place) as process:
        wait_for(place, process, 4)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL, "it has ended before it was killed"
    arguments = [*hard, "--checkpoint", place, "--json", "--explain"]
    code, out, _ = run(capsys, *arguments)
    content = json.loads("\n".join(out))
    assert (code, content["verdict"], content["checked"]) == (EXIT_VERIFIED, "verified", True)
    names = {event["name"] for event in content["timeline"]}
    assert "propagate" not in names, "what one pass had refuted is known"
    before = resumed_after([f"note: {note}" for note in content["notes"]])
    here = sum(e["gained"]["bounded"] for e in content["timeline"] if e["kind"] == "turn")
    (summary,) = (note for note in content["notes"] if "branches bounded" in note)
    total = sum(int(part.split()[1]) for part in summary.split("; "))
    assert before > 0 and before + here == total
    assert not place.exists(), "a verdict needs no checkpoint"


def test_a_timeout_says_what_is_open_and_how_to_go_on(
    hard: Files,
    tmp_path: Path,
    cut_short: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "run.checkpoint"
    cut_short(6)
    code, out, _ = run(capsys, *hard, "--checkpoint", place)
    assert (code, out[0]) == (EXIT_UNKNOWN, "timeout")
    assert "the time was over in: search" in out[1]
    assert "branches are open, the worst margin is -" in out[1]
    assert f"checkpoint: the same command goes on from {place}" in out
    code, out, _ = run(capsys, *hard, "--checkpoint", place)
    assert code == EXIT_UNKNOWN and resumed_after(out) > 0 and place.exists()


def test_ctrl_c_keeps_the_run(
    hard: Files,
    tmp_path: Path,
    cut_short: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "run.checkpoint"
    cut_short(6, KeyboardInterrupt)
    code, out, err = run(capsys, *hard, "--checkpoint", place)
    assert (code, out[0], err) == (EXIT_INTERRUPTED, "unknown", "analyze: interrupted\n")
    assert "interrupted in: search" in out[1] and "branches are open" in out[1]
    assert place.exists()


def test_a_crash_keeps_the_run(
    hard: Files,
    tmp_path: Path,
    cut_short: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "run.checkpoint"
    cut_short(6, MemoryError)
    code, _, err = run(capsys, *hard, "--checkpoint", place)
    assert code == EXIT_SOFTWARE and "out of memory" in err
    assert place.exists()


def test_a_foreign_or_broken_checkpoint_is_refused_and_stays(
    hard: Files,
    easy: Files,
    tmp_path: Path,
    cut_short: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "run.checkpoint"
    cut_short(6)
    run(capsys, *hard, "--checkpoint", place)
    content = place.read_bytes()
    changed = [*hard, "--checkpoint", place, "--domain", "crown"]
    code, out, err = run(capsys, *changed)
    assert (code, out) == (EXIT_DATA, []) and "another run: its domain" in err
    code, out, err = run(capsys, *easy, "--checkpoint", place)
    assert (code, out) == (EXIT_DATA, []) and "its network, property differ" in err
    assert err.count("\n") == 1 and place.read_bytes() == content
    place.write_bytes(content[: len(content) // 2])
    code, out, err = run(capsys, *hard, "--checkpoint", place)
    assert (code, out) == (EXIT_DATA, []) and "no whole checkpoint" in err and "Delete" in err


def test_a_place_that_cannot_be_written_or_read_ends_the_run_before_its_work(
    easy: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *easy, "--checkpoint", tmp_path / "none" / "run")
    assert code == EXIT_CANNOT_CREATE and "cannot be written" in err
    code, _, err = run(capsys, *easy, "--checkpoint", easy[0])
    assert code == EXIT_USAGE and "would overwrite" in err
    code, _, err = run(capsys, easy[0], "--checkpoint", tmp_path / "run")
    assert code == EXIT_USAGE and "--checkpoint needs something to decide" in err
    place = tmp_path / "secret"
    place.write_text("")
    place.chmod(0)
    if not os.access(place, os.R_OK):  # root may read everything
        code, _, err = run(capsys, *easy, "--checkpoint", place)
        assert code in (EXIT_NO_INPUT, EXIT_CANNOT_CREATE)


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(hard: Files, tmp_path: Path) -> None:
    place = tmp_path / "run.checkpoint"
    command = [sys.executable, "-c", EAGER, *map(str, hard), "--checkpoint", str(place)]
    # No file may grow beyond 0 blocks; pipes may.
    limited = f"ulimit -f 0; exec {shlex.join([*command, '--timeout', '4'])}"
    result = subprocess.run(["bash", "-c", limited], capture_output=True, text=True)
    assert result.returncode == EXIT_UNKNOWN and "Traceback" not in result.stderr
    assert f"note: no checkpoint in {place}: " in result.stdout
    assert "goes on from" not in result.stdout and not place.exists()


def test_a_finished_run_that_is_repeated_begins_anew(
    easy: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        arguments = [*easy, "--checkpoint", tmp_path / "run", "--domain", "interval"]
        code, out, _ = run(capsys, *arguments)
        assert (code, out[0]) == (EXIT_VERIFIED, "verified")
        assert not (tmp_path / "run").exists() and not any("resumed" in line for line in out)


def test_explain_prints_a_line_for_each_thing_that_ran(
    easy: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, *easy, "--domain", "interval", "--explain")
    table = out[out.index(next(line for line in out if line.startswith("timeline"))) :]
    assert table[1].split() == ["start", "seconds", "what", "gained"]
    rows = [line.split(maxsplit=2) for line in table[2:] if line.strip()]
    starts = [float(row[0]) for row in rows]
    assert starts == sorted(starts)
    what = [row[2] for row in rows]
    order = ["domain", "load", "check", "attack", "propagate", "search", "prepare inputs"]
    assert [next(w for w in what if w.startswith(name)).strip() for name in order] == order
    (turn,) = (words for words in what if words.startswith("search inputs"))
    for words in (" bounded", "0 open", "100.0% closed", "worst margin"):
        assert words in turn
    _, out, _ = run(capsys, *easy, "--domain", "interval")
    assert not any(line.startswith("timeline") for line in out)


def test_explain_in_json_has_every_event_with_what_it_gained(
    easy: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, *easy, "--domain", "interval", "--explain", "--json")
    events = json.loads("\n".join(out))["timeline"]
    (turn,) = (event for event in events if event["kind"] == "turn")
    assert turn["name"] == "inputs" and turn["depth"] == 1
    assert turn["gained"]["bounded"] == 3 and turn["gained"]["closed"] == 1
    whole = next(event for event in events if event["name"] == "search")
    assert whole["start"] <= turn["start"] and turn["seconds"] <= whole["seconds"]
