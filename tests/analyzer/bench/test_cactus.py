"""The cactus plot compares what was asked of everybody."""

from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the plot needs the extra `plot`")

from absolver.analyzer.bench.cactus import OURS, compared, curves, draw
from absolver.analyzer.bench.reference import Reply
from tests.analyzer.bench.cases import instance, result

FINISHED = [(instance(query, expected="unsat"), result(query, seconds=2.0)) for query in "abcd"]
REPLIES = {
    "theirs": {("n.onnx", query): Reply("unsat", 1.0, 2024) for query in "abc"},
    "half": {("n.onnx", query): Reply("unsat", 3.0, 2024) for query in "ab"},
    "seldom": {("n.onnx", "a"): Reply("unsat", 0.1, 2024)},
    "unlucky": {("n.onnx", query): Reply("sat", 0.1, 2024) for query in "abc"},
}


def test_only_instances_that_another_tool_was_asked_are_compared() -> None:
    same = compared(FINISHED, REPLIES)
    assert [each.query for each, _ in same] == ["a", "b", "c"]
    ours, *others = curves(same, REPLIES)
    assert (ours.tool, ours.seconds, ours.asked) == (OURS, [2.0, 2.0, 2.0], 3)
    assert [(curve.tool, len(curve.seconds), curve.asked) for curve in others] == [
        ("theirs", 3, 3),
        ("half", 2, 2),
    ]


def test_without_other_tools_all_that_is_solved_is_drawn() -> None:
    unknown = [(instance("x"), result("x"))]
    assert compared(unknown, {}) == unknown
    assert [len(curve.seconds) for curve in curves(unknown, {})] == [1]


def test_it_is_written_as_png_and_svg(tmp_path: Path) -> None:
    same = compared(FINISHED, REPLIES)
    png, svg = draw(curves(same, REPLIES), len(same), tmp_path / "cactus.1of2")
    assert png.name == "cactus.1of2.png" and png.read_bytes().startswith(b"\x89PNG")
    assert svg.name == "cactus.1of2.svg" and "<svg" in svg.read_text()


def test_nothing_solved_is_a_plot_too(tmp_path: Path) -> None:
    assert all(file.stat().st_size for file in draw(curves([], {}), 0, tmp_path / "cactus"))
